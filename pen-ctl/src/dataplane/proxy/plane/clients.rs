//! Whom the proxy remembers, read while connections go on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use pen_common::abi::Tracked;
use pen_common::track;

use crate::dataplane::clients::{Clients, Fate, FlowPorts, Remembered, Standing};
use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::memory::{Churn, Key};
use crate::dataplane::proxy::pool::{BackendId, Role};
use crate::dataplane::proxy::service::{Service, State};
use crate::dataplane::{
    Affinity, BackendAddress, DataPlaneError, Inserted, Scheduler, ServiceKey, TrackingUse,
};

/// A service with what people call its backends.
type Named = (ServiceKey, Arc<Service>, HashMap<Endpoint, BackendAddress>);

/// The memories of all services.
#[derive(Debug)]
pub(super) struct ProxyClients {
    services: Vec<Named>,
    /// Entries that were made of services that have gone.
    gone: Inserted,
}

impl ProxyClients {
    /// Those of these services; so many entries were made of others that have gone.
    pub(super) fn new(services: Vec<Named>, gone: Inserted) -> ProxyClients {
        ProxyClients { services, gone }
    }
}

impl Clients for ProxyClients {
    fn read(&self, visit: &mut dyn FnMut(&Remembered) -> Fate) -> Result<u64, DataPlaneError> {
        let (mut forgotten, mut stopped) = (0, false);
        for named in &self.services {
            let (_, service, _) = named;
            let (state, now) = (service.state(), service.clock().seconds());
            service.chooser().memory.review(|key, tracked| {
                match visit(&remembered(named, &state, key, tracked, now)) {
                    Fate::Keep => Some(true),
                    Fate::Forget => {
                        forgotten += 1;
                        Some(false)
                    }
                    Fate::Stop => {
                        stopped = true;
                        None
                    }
                }
            });
            if stopped {
                break;
            }
        }
        Ok(forgotten)
    }

    fn occupancy(&self) -> Result<TrackingUse, DataPlaneError> {
        let mut occupancy = TrackingUse::default();
        (occupancy.v4.inserted, occupancy.v6.inserted) = (self.gone.v4, self.gone.v6);
        for (_, service, _) in &self.services {
            let memory = &service.chooser().memory;
            for (family, (Churn { inserted, deleted }, used)) in
                [&mut occupancy.v4, &mut occupancy.v6].into_iter().zip(memory.census())
            {
                let used = used as u64;
                family.used += used;
                family.max += memory.size() as u64;
                family.inserted += inserted;
                family.evicted += inserted.saturating_sub(deleted).saturating_sub(used);
            }
        }
        Ok(occupancy)
    }

    fn newcomer(&self, key: &ServiceKey, client: IpAddr) -> Result<Option<BackendAddress>, DataPlaneError> {
        let Some((_, service, names)) = self.services.iter().find(|(own, ..)| own == key) else {
            return Ok(None);
        };
        let state = service.state();
        let policy = state.rules.policy();
        if policy.affinity != Affinity::Client || policy.scheduler != Scheduler::Maglev {
            return Ok(None);
        }
        let now = service.clock().now();
        let chosen = service.chooser().newcomer(&state.rules, &state.pool, now, client);
        let place = chosen.and_then(|id| state.pool.place(id));
        Ok(place.and_then(|place| names.get(place.member.endpoint()).copied()))
    }
}

fn remembered(
    (service, _, names): &Named,
    state: &State,
    key: &Key,
    tracked: Tracked,
    now: u32,
) -> Remembered {
    let (client, port) = key.client();
    let ports = (port != 0).then(|| u16::from_be(port));
    let place = state.pool.place(BackendId(tracked.backend));
    let place = place.filter(|place| place.member.generation() == tracked.generation);
    let (policy, age) = (state.rules.policy(), now.wrapping_sub(tracked.seen));
    let by_flow = policy.affinity == Affinity::Flow;
    let standing = match place {
        _ if !state.rules.remember() || by_flow != ports.is_some() => Standing::NotAsked,
        None => Standing::BackendRemoved,
        Some(_) if !track::is_fresh(tracked.seen, now, policy.tracking_timeout) => Standing::TimedOut,
        Some(place) if place.role == Role::Out => Standing::BackendDown,
        Some(_) => Standing::Counts,
    };
    Remembered {
        client,
        flow: ports.map(|client| FlowPorts { client, service: service.port }),
        service: Some(*service),
        backend: place.and_then(|place| names.get(place.member.endpoint()).copied()),
        // Seen a moment ago, after the clock was read, is negative.
        idle: if age > u32::MAX / 2 { 0 } else { age },
        standing,
    }
}
