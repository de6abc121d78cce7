//! Calls whose answer says how full the tracking tables are: they wait a moment for a count, everybody else goes on.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::{Call, finished};
use crate::controller::Controller;
use crate::dataplane::{DataPlaneError, TrackingUse};

/// How long a call waits for a count that is under way before it is answered with what is known.
const PATIENCE: Duration = Duration::from_millis(250);

type Count = Result<TrackingUse, DataPlaneError>;

/// A count under way, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    count: Option<JoinHandle<Count>>,
    calls: Vec<Call>,
    /// When those that wait wait no longer.
    until: Option<Instant>,
}

impl Waiting {
    /// Keeps a call that had better wait; gives any other back.
    pub(super) fn keep(&mut self, controller: &mut Controller, call: Call) -> Option<Call> {
        if let Some(due) = controller.table_count_due(&call.asked.request) {
            self.count = Some(spawn_blocking(|| due.take()));
        }
        if !controller.awaits_table_count(&call.asked.request) {
            return Some(call);
        }
        self.until.get_or_insert_with(|| Instant::now() + PATIENCE);
        self.calls.push(call);
        None
    }

    /// Completes when those that wait are to be answered: with the count, or without it when they waited for long
    /// enough. A count that nobody waits for any more is heard as well.
    pub(super) async fn over(&mut self) -> Option<Count> {
        let until = self.until;
        let patience = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            count = finished(&mut self.count, "count the tracking tables") => {
                self.count = None;
                Some(count)
            }
            () = patience => None,
        }
    }

    /// Those who waited.
    pub(super) fn release(&mut self) -> Vec<Call> {
        self.until = None;
        std::mem::take(&mut self.calls)
    }
}
