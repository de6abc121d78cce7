//! Backends that get clients although their checks cannot be carried out: nobody would notice their end.

use std::collections::{BTreeMap, BTreeSet};

use super::Controller;
use crate::api::event::Kind;
use crate::dataplane::{BackendAddress, HealthStatus, ServiceKey};
use crate::health::place::unaskable;
use crate::journal::Note;
use crate::state::desired::Service;
use crate::surroundings::Ground;
use crate::target::Sighting;

/// What the last look found.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// Services with such backends.
    found: BTreeSet<ServiceKey>,
    /// Those of them that were told of.
    told: BTreeSet<ServiceKey>,
}

impl Controller {
    /// Looks whom nobody can ask, and tells once of each service where that lasts: from one look to the next.
    pub(super) fn look_for_unasked(&mut self) {
        let now = self.unasked();
        let found: BTreeSet<ServiceKey> = now.keys().copied().collect();
        let lasting = found.intersection(&self.unasked.found).copied();
        let told: BTreeSet<ServiceKey> =
            lasting.chain(found.intersection(&self.unasked.told).copied()).collect();
        for (key, why) in now.iter().filter(|(key, _)| told.contains(key) && !self.unasked.told.contains(key))
        {
            self.note_of_service(*key, why.clone());
        }
        for key in self.unasked.told.difference(&told) {
            self.note_of_service(*key, "its backends are checked again, or get no clients".to_owned());
        }
        self.unasked = Unasked { found, told };
    }

    /// What somebody should know where VIPs cannot be asked, and of services whose backends cannot be asked at all.
    pub(super) fn unasked_warnings(&self) -> Vec<String> {
        let vips = self.seen.unaskable.iter().map(|why| unaskable(why));
        let now = self.unasked().into_iter();
        vips.chain(now.map(|(key, why)| format!("service {}: {why}", self.service_name(&key)))).collect()
    }

    fn note_of_service(&self, key: ServiceKey, message: String) {
        let service = Some(self.service_name(&key));
        self.journal().note(Note { service, ..Note::new(Kind::Trouble, message) });
    }

    /// Services with backends that get clients unasked, in words.
    fn unasked(&self) -> BTreeMap<ServiceKey, String> {
        let services = self.store.desired().services.iter();
        services.filter_map(|service| Some((service.vip, self.unasked_of(service)?))).collect()
    }

    fn unasked_of(&self, service: &Service) -> Option<String> {
        let found = service.backends.iter().filter_map(|backend| self.is_unasked(service, backend.address));
        let details: Vec<&str> = found.map(|sighting| sighting.detail.as_str()).collect();
        let (first, count) = (details.first()?, details.len());
        Some(format!("health of {count} of its backends stays as it was: {first}"))
    }

    /// What is known of a backend that gets clients, if it cannot be asked.
    fn is_unasked(&self, service: &Service, backend: BackendAddress) -> Option<&Sighting> {
        let id = (service.vip, backend);
        let usable = self.standings.get(&id).is_some_and(|standing| standing.usable);
        let sighting = self.seen.health.get(&id)?;
        let unasked = sighting.status == HealthStatus::Up && sighting.ground == Ground::Unasked;
        (usable && unasked).then_some(sighting)
    }
}
