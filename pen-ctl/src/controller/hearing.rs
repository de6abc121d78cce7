//! Hears what checks say of backends, and notes what is news of that.

use super::Controller;
use crate::api::event::Kind;
use crate::dataplane::{BackendAddress, HealthStatus, ServiceKey};
use crate::journal::Note;
use crate::surroundings::Ground;
use crate::target::Sighting;

impl Controller {
    pub(super) fn hear_of_health(&mut self, (key, address): (ServiceKey, BackendAddress), seen: Sighting) {
        let Some(sighting) = self.seen.health.get_mut(&(key, address)) else { return };
        let before = std::mem::replace(sighting, seen.clone());
        let message = if before.status == seen.status {
            sighting.since = before.since;
            let Some(message) = other_news(&before, &seen) else { return };
            message
        } else {
            *self.transitions.entry((key, address)).or_default() += 1;
            format!("{} (was {}): {}", seen.status, before.status, seen.detail)
        };
        self.journal().note(Note {
            service: Some(self.service_name(&key)),
            backend: Some(address),
            ..Note::new(Kind::Health, message)
        });
    }
}

/// What else than its verdict is new about a backend that is up: whether it can be asked, and its share.
fn other_news(before: &Sighting, seen: &Sighting) -> Option<String> {
    let (was, is) = (before.ground == Ground::Unasked, seen.ground == Ground::Unasked);
    match (seen.status, seen.advice.weight) {
        (HealthStatus::Up, _) if is && !was => Some(format!("still up; {}", seen.detail)),
        (HealthStatus::Up, _) if was && !is => Some(format!("checked again: {}", seen.detail)),
        (_, Some(percent)) if before.advice.weight != seen.advice.weight => {
            Some(format!("its share is {percent} % of its weight: {}", seen.detail))
        }
        _ => None,
    }
}
