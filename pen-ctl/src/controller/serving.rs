//! Tells who began or ceased to serve, and why.

use super::Controller;
use crate::api::event::Kind;
use crate::dataplane::{BackendAddress, HealthStatus, ServiceKey};
use crate::journal::Note;
use crate::surroundings::Ground;
use crate::target::{Sighting, Standing, Standings};

impl Controller {
    /// Notes which backends began or ceased to serve, or do not for another reason than before; of those that a predecessor
    /// left serving, only how many.
    pub(super) fn note_changes(&mut self, standings: &Standings) {
        let (mut as_before, now) = (0, self.clock.uptime());
        for (id, standing) in standings {
            let before = self.standings.get(id);
            let changed = self.is_change(id, before, standing);
            let same = |before: &Standing| before.reason == standing.reason && before.panic == standing.panic;
            let no_news = |before: &Standing| self.retold.is_no_news(*id, before, standing, now);
            if !changed && (before.is_some_and(same) || before.is_some_and(no_news)) {
                continue;
            }
            let adopted = before.is_none() && self.seen.adopted.contains_key(id);
            if adopted && standing.reason.is_none() {
                as_before += 1;
                continue;
            }
            let (kind, message) = match (&standing.reason, self.seen.health.get(id)) {
                (None, sighting) => (Kind::Serving, sighting.map(|one| why_serving(standing, one))),
                (Some(reason), _) => (Kind::NotServing, Some(reason.clone())),
            };
            let (service, backend) = (Some(self.service_name(&id.0)), Some(id.1));
            let note = Note::new(kind, message.unwrap_or_default());
            self.journal().note(Note { service, backend, changed: Some(changed), ..note });
        }
        if as_before > 0 {
            let backends =
                if as_before == 1 { "1 backend".to_owned() } else { format!("{as_before} backends") };
            let message = format!("{backends} serving as before the controller's restart");
            self.journal().note(Note::new(Kind::Started, message));
        }
    }

    /// Whether a backend serves that did not, or the other way round: as it stood before, else as a predecessor left it. Of
    /// one that is new the first that is known counts, so that whoever hears of changes alone hears that it never came up.
    fn is_change(
        &self,
        id: &(ServiceKey, BackendAddress),
        before: Option<&Standing>,
        standing: &Standing,
    ) -> bool {
        let left = || {
            let backend = self.observed.services.get(&id.0)?.backends.get(&id.1)?;
            (backend.health != HealthStatus::Unknown).then_some(backend.serving)
        };
        let served = match before {
            Some(before) if before.known => Some(before.serving),
            Some(_) => None,
            None => left(),
        };
        standing.known && served != Some(standing.serving)
    }
}

/// Why a backend gets newcomers from now on, in words.
fn why_serving(standing: &Standing, sighting: &Sighting) -> String {
    let detail = &sighting.detail;
    match sighting.ground {
        _ if standing.panic => format!("in panic, although: {detail}"),
        Ground::Failing => format!("still up, though its latest check failed: {detail}"),
        Ground::Unasked => format!("up when last checked; {detail}"),
        Ground::Result | Ground::Recovering => detail.clone(),
    }
}
