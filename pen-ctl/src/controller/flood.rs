//! Floods of newcomers: whether one is on, told when it begins and when it is over.

use std::time::Duration;

use super::Controller;
use crate::api::document::admission::FloodDocument;
use crate::api::event::Kind;
use crate::dataplane::{FloodLimits, Suppression};
use crate::journal::Note;

/// What is known of floods.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// What was seen last; `None` = the data plane remembers everybody, or could not be asked yet.
    seen: Option<Suppression>,
    /// The one that is on.
    now: Option<Begun>,
}

/// A flood that is on.
#[derive(Debug)]
struct Begun {
    /// When (uptime) it was found.
    at: Duration,
    /// Newcomers that were not remembered before it.
    before: u64,
}

impl Controller {
    /// Looks whether a flood is on, and tells when one begins and when it is over. Called every second.
    pub fn look_for_flood(&mut self) {
        let found = match self.plane.suppression() {
            Ok(found) => found,
            Err(error) => {
                // It is asked again in a moment; until then what is known stands.
                tracing::debug!("{error}");
                return;
            }
        };
        let seen = std::mem::replace(&mut self.flood.seen, found);
        let Some(found) = found else { return };
        // What was before the first look belongs to nothing that this controller knows of.
        let before = seen.unwrap_or(found).newcomers;
        match (&self.flood.now, found.active) {
            (None, true) => {
                let at = self.clock.uptime();
                self.flood.now = Some(Begun { at, before });
                self.journal().warn(Note::new(Kind::Flood, format!("{}; {WAY_OUT}", begins(found.limits))));
            }
            (Some(begun), false) => {
                let took = self.clock.uptime().saturating_sub(begun.at).as_secs();
                let newcomers = found.newcomers.saturating_sub(begun.before);
                let message =
                    format!("the flood is over: {newcomers} newcomers were not remembered within {took} s");
                self.flood.now = None;
                self.journal().note(Note::new(Kind::Flood, message));
            }
            _ => {}
        }
    }

    /// What is known, as of the last look.
    pub(super) fn flood_document(&self) -> Option<FloodDocument> {
        let Suppression { active, newcomers, last_seconds_ago, .. } = self.flood.seen?;
        let suppressed_now = self.newcomers_now().filter(|_| active);
        Some(FloodDocument { active, suppressed: newcomers, suppressed_now, last_seconds_ago })
    }

    /// The same as a data plane says it.
    pub(super) fn suppression(&self) -> Option<Suppression> {
        self.flood.seen
    }

    /// What somebody should know while one is on.
    pub(super) fn flood_warning(&self) -> Option<String> {
        let newcomers = self.newcomers_now()?;
        let limits = self.flood.seen?.limits;
        Some(format!("{} ({} so far); {WAY_OUT}", begins(limits), newcomers))
    }

    /// Newcomers that were not remembered in the flood that is on.
    fn newcomers_now(&self) -> Option<u64> {
        let (seen, begun) = (self.flood.seen?, self.flood.now.as_ref()?);
        Some(seen.newcomers.saturating_sub(begun.before))
    }
}

/// What is said of one that is on.
fn begins(FloodLimits { per_cpu, in_all }: FloodLimits) -> String {
    // What all CPUs may remember together is then less than any one of them may.
    let first = if in_all <= per_cpu { ", the smaller" } else { "" };
    format!(
        "a flood of newcomers, more in a second than flood_inserts_per_cpu ({}) on one CPU, or than an eighth of \
         tracking_clients ({}{first}) on all together: they get backends by slot alone and are not remembered, clients that \
         are remembered stay",
        per_cpu, in_all
    )
}

/// What to do about it.
const WAY_OUT: &str = "give the service that is flooded a `rate_limit`, or `deny` who floods it, or allow for more with a \
                       larger tracking_clients (docs/operations.md)";
