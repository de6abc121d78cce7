//! How full the tracking tables are, and how fast they fill. Counting reads them through, which takes seconds with
//! millions of entries: it is handed out ([`TableCount`]) when somebody wants to know, and the newest result is kept.

use std::time::Duration;

use super::{Controller, SHARE_OF_TIME};
use crate::api::Request;
use crate::api::document::TrackingDocument;
use crate::dataplane::clients::Clients;
use crate::dataplane::{DataPlaneError, Inserted, TrackingUse};

/// Least time that a pace is measured over.
const PACE_OVER: Duration = Duration::from_secs(1);

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
    /// How many entries had been made, and when (uptime): twice, the newer one first, at least [`PACE_OVER`] apart.
    made: [Option<(Inserted, Duration)>; 2],
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
            Ok(mut tables) => {
                // What comes or goes during a count makes this too low by so much; nothing that gave way comes back.
                if let Some((before, _)) = self.occupancy.newest {
                    tables.v4.evicted = tables.v4.evicted.max(before.v4.evicted);
                    tables.v6.evicted = tables.v6.evicted.max(before.v6.evicted);
                }
                self.occupancy.newest = Some((tables, now));
                self.occupancy.trouble = None;
            }
            Err(error) => self.occupancy.trouble = Some(error.to_string()),
        }
    }

    /// The newest that is known.
    pub(super) fn tracking_document(&mut self) -> Option<TrackingDocument> {
        let inserts_per_second = self.pace();
        let (tables, at) = self.occupancy.newest?;
        let age = self.clock.uptime().saturating_sub(at);
        let (age_seconds, flood) = (Some(age.as_secs()), self.flood_document());
        Some(TrackingDocument { tables, age_seconds, inserts_per_second, flood })
    }

    /// Notes how many entries have been made by now, for [`Controller::pace`].
    pub(super) fn note_inserted(&mut self) {
        let now = self.clock.uptime();
        let [newer, _] = self.occupancy.made;
        if newer.is_some_and(|(_, at)| now.saturating_sub(at) < PACE_OVER) {
            return;
        }
        // A plane that cannot tell just now is asked again.
        if let Ok(inserted) = self.plane.inserted() {
            self.occupancy.made = [Some((inserted, now)), newer];
        }
    }

    /// Entries made a second since they were last noted, or the time before where that was only just now.
    fn pace(&mut self) -> Option<Inserted> {
        let (now, inserted) = (self.clock.uptime(), self.plane.inserted().ok()?);
        let long_ago = |(_, at): &(Inserted, Duration)| now.saturating_sub(*at) >= PACE_OVER;
        let (before, at) = self.occupancy.made.into_iter().flatten().find(long_ago)?;
        let per_second = |now_made: u64, before: u64, over: Duration| {
            let made = u128::from(now_made.saturating_sub(before));
            u64::try_from(made * 1000 / over.as_millis().max(1)).unwrap_or(u64::MAX)
        };
        let over = now.saturating_sub(at);
        Some(Inserted {
            v4: per_second(inserted.v4, before.v4, over),
            v6: per_second(inserted.v6, before.v6, over),
        })
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
