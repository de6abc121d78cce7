//! How full the tracking tables are. Counting reads them through, which takes seconds with millions of entries: it is
//! handed out ([`TableCount`]) when somebody wants to know, and the newest result is kept.

use std::time::Duration;

use super::Controller;
use crate::api::Request;
use crate::api::document::TrackingDocument;
use crate::dataplane::clients::Clients;
use crate::dataplane::{DataPlaneError, TrackingUse};

/// A count is good for this many times as long as it took, so that counting never takes more than a small share of a
/// CPU: a million entries are counted every now and then, a few at every question.
const SHARE_OF_TIME: u32 = 20;

/// What is known of the tables.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    /// What the newest count came to, and when (uptime).
    newest: Option<(TrackingUse, Duration)>,
    /// When (uptime) the count under way began.
    counting: Option<Duration>,
    /// Until when (uptime) the newest need not be repeated.
    good_until: Duration,
    /// Why the last count came to nothing.
    trouble: Option<String>,
}

/// A count to be made, off the controller's task.
pub struct TableCount {
    clients: Box<dyn Clients>,
}

impl TableCount {
    /// Counts; takes as long as reading the tracking tables takes.
    pub fn take(self) -> Result<TrackingUse, DataPlaneError> {
        self.clients.occupancy()
    }
}

impl Controller {
    /// A count that is due if this is asked, if any; to be answered with [`Controller::tables_counted`].
    pub fn table_count_due(&mut self, request: &Request) -> Option<TableCount> {
        let now = self.clock.uptime();
        if !wants(request) || self.occupancy.counting.is_some() || now < self.occupancy.good_until {
            return None;
        }
        match self.plane.clients() {
            Ok(clients) => {
                self.occupancy.counting = Some(now);
                Some(TableCount { clients })
            }
            Err(error) => {
                self.occupancy.trouble = Some(error.to_string());
                None
            }
        }
    }

    /// Whether a count is under way that the answer to this would better wait for.
    pub fn awaits_table_count(&self, request: &Request) -> bool {
        wants(request) && self.occupancy.counting.is_some()
    }

    /// Hears what a count came to.
    pub fn tables_counted(&mut self, result: Result<TrackingUse, DataPlaneError>) {
        let now = self.clock.uptime();
        let took = now.saturating_sub(self.occupancy.counting.take().unwrap_or(now));
        self.occupancy.good_until = now + took * SHARE_OF_TIME;
        match result {
            Ok(tables) => {
                self.occupancy.newest = Some((tables, now));
                self.occupancy.trouble = None;
            }
            Err(error) => self.occupancy.trouble = Some(error.to_string()),
        }
    }

    /// The newest that is known.
    pub(super) fn tracking_document(&self) -> Option<TrackingDocument> {
        let (tables, at) = self.occupancy.newest?;
        let age = self.clock.uptime().saturating_sub(at);
        Some(TrackingDocument { tables, age_seconds: Some(age.as_secs()) })
    }

    /// Why no more is known.
    pub(super) fn tracking_trouble(&self) -> Option<&str> {
        self.occupancy.trouble.as_deref()
    }
}

/// Whether the answer says how full the tables are.
fn wants(request: &Request) -> bool {
    matches!(request, Request::Status | Request::Metrics)
}
