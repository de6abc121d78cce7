//! Slots that changed owner and are done with it: ended off the controller's task, for that reads the tracking tables
//! through ([`WindowsToEnd`]).

use std::time::Duration;

use super::{Controller, SHARE_OF_TIME};
use crate::api::event::Kind;
use crate::dataplane::clients::Clients;
use crate::dataplane::{DataPlaneError, Tracking};
use crate::journal::Note;

/// From one look to the next, at least.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is known of looking for them.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// When (uptime) the look under way began.
    looking: Option<Duration>,
    /// When (uptime) the next is due at the earliest.
    next: Duration,
    /// Why the last one came to nothing.
    trouble: Option<String>,
}

/// A look to be taken, off the controller's task.
pub struct WindowsToEnd {
    clients: Box<dyn Clients>,
}

impl WindowsToEnd {
    /// Ends what can be ended; takes as long as reading the tracking tables takes.
    pub fn take(self) -> Result<(), DataPlaneError> {
        self.clients.end_windows()
    }
}

impl Controller {
    /// A look that is due, if any; to be answered with [`Controller::windows_ended`].
    pub fn windows_due(&mut self) -> Option<WindowsToEnd> {
        let now = self.clock.uptime();
        let lingers =
            self.observed.services.values().any(|service| {
                service.in_transition > 0 && service.settings.tracking == Tracking::Transitions
            });
        if !lingers || self.windows.looking.is_some() || now < self.windows.next {
            return None;
        }
        match self.plane.clients() {
            Ok(clients) => {
                self.windows.looking = Some(now);
                Some(WindowsToEnd { clients })
            }
            Err(error) => {
                self.windows_ended(Err(error));
                None
            }
        }
    }

    /// Hears what a look came to.
    pub fn windows_ended(&mut self, result: Result<(), DataPlaneError>) {
        let now = self.clock.uptime();
        let took = now.saturating_sub(self.windows.looking.take().unwrap_or(now));
        self.windows.next = now + LOOK_EVERY.max(took * SHARE_OF_TIME);
        let trouble =
            result.err().map(|error| format!("slots that changed owner stay marked for longer: {error}"));
        if let Some(message) = trouble.as_ref().filter(|_| self.windows.trouble != trouble) {
            self.journal().warn(Note::new(Kind::Trouble, message));
        }
        self.windows.trouble = trouble;
    }
}
