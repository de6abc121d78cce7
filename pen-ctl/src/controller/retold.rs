//! Reasons why a backend does not serve that keep changing: told, but not without end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dataplane::{BackendAddress, ServiceKey};
use crate::target::Standing;

/// For so long reasons are counted.
const WHILE: Duration = Duration::from_secs(60);
/// So many are told. What a backend or a program says of itself (`SMTP 421 …`, `exit status 1: load 3.42`) may differ at
/// each check, and each would be an event, a line of the log, and a run of `on_change`.
const TOLD: u32 = 5;

/// A backend of a service.
type Id = (ServiceKey, BackendAddress);

/// How often each backend's reason changed of late, and since when that is counted.
#[derive(Debug, Default)]
pub(super) struct Retold(BTreeMap<Id, (Duration, u32)>);

impl Retold {
    /// Whether that a backend stands otherwise `now` than `before` goes without saying: only what its checks say is
    /// another, and that was told often enough.
    pub(super) fn is_no_news(
        &mut self,
        id: Id,
        before: &Standing,
        standing: &Standing,
        now: Duration,
    ) -> bool {
        if !(before.unhealthy && standing.unhealthy) {
            return false;
        }
        let (since, count) = self.0.entry(id).or_insert((now, 0));
        if now.saturating_sub(*since) >= WHILE {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > TOLD
    }

    /// Forgets backends that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&Id) -> bool) {
        self.0.retain(|id, _| is_there(id));
    }
}
