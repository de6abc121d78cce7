//! Takes down what metrics are written from.

use std::collections::BTreeMap;

use super::Controller;
use crate::dataplane::{RefusedClients, ServiceKey};
use crate::metrics::{BackendSample, ServiceSample, Snapshot};
use crate::state::desired::{Backend, Service};

impl Controller {
    /// All there is to count, as of now. Reads no file and formats nothing: that is done elsewhere.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let counters = self.plane.counters();
        let troubles = counters.as_ref().err().map(ToString::to_string);
        for trouble in troubles.iter().map(String::as_str).chain(self.tracking_trouble()) {
            tracing::debug!("left out of the metrics: {trouble}");
        }
        let refused = self.plane.refused();
        if let Err(trouble) = &refused {
            tracing::debug!("left out of the metrics: {trouble}");
        }
        let refused = refused.unwrap_or_default();
        self.look_for_flood();
        let connections = self.plane.connections();
        let service_connections = self.plane.service_connections();
        let desired = self.store.desired();
        Snapshot {
            interfaces: desired.interfaces.iter().map(|spec| self.interface(spec)).collect(),
            services: desired.services.iter().map(|service| self.sample(service, &refused)).collect(),
            counters: counters.ok(),
            connections,
            service_connections,
            tracking: self.tracking_document(),
            suppression: self.suppression(),
            failures: self.failures.len(),
        }
    }

    fn sample(&self, service: &Service, refused: &BTreeMap<ServiceKey, RefusedClients>) -> ServiceSample {
        ServiceSample {
            name: service.name.clone(),
            vip: service.vip,
            affinity: service.affinity,
            scheduler: service.scheduler,
            tracking: service.tracking,
            slots_in_transition: self.slots_in_transition(service),
            refused: Self::refused(service, refused),
            backends: service.backends.iter().map(|backend| self.sample_of(service, backend)).collect(),
        }
    }

    fn sample_of(&self, service: &Service, backend: &Backend) -> BackendSample {
        let id = (service.vip, backend.address);
        BackendSample {
            address: backend.address,
            weight: backend.weight,
            state: backend.state,
            health: self.seen.health.get(&id).map(|sighting| sighting.status).unwrap_or_default(),
            priority: backend.priority,
            standby: self.standings.get(&id).is_some_and(|standing| standing.standby),
            serving: self.standings.get(&id).is_some_and(|standing| standing.serving),
            transitions: self.transitions.get(&id).copied().unwrap_or_default(),
        }
    }
}
