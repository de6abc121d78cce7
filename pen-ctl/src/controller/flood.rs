//! Floods of newcomers: whether one is on, told when it begins and when it is over.

use std::time::Duration;

use super::Controller;
use crate::api::document::admission::FloodDocument;
use crate::api::event::Kind;
use crate::dataplane::Suppression;
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
                self.journal().warn(Note::new(Kind::Flood, BEGINS));
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
        self.flood.seen.map(FloodDocument::from)
    }

    /// The same as a data plane says it.
    pub(super) fn suppression(&self) -> Option<Suppression> {
        self.flood.seen
    }

    /// What somebody should know while one is on.
    pub(super) fn flood_warning(&self) -> Option<String> {
        let seen = self.flood.seen.filter(|_| self.flood.now.is_some())?;
        Some(format!("{BEGINS} ({} so far)", seen.newcomers))
    }
}

/// What is said of one that is on.
const BEGINS: &str = "a flood of newcomers, more than flood_inserts_per_cpu: they get backends by slot alone and are not \
                      remembered; clients that are remembered stay where they are";
