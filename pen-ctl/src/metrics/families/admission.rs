//! What was refused, and who was not remembered.

use std::fmt;

use super::{Snapshot, To, counters, gauges};
use crate::dataplane::{RefusedClients, Suppression};

/// Packets that services refused, by reason, of those that ask anything of their clients.
pub(super) fn refused(snapshot: &Snapshot, to: To<'_, '_>) -> fmt::Result {
    let members = snapshot.services.iter().filter_map(|service| Some((service, service.refused?)));
    let members = members.flat_map(|(service, RefusedClients { denied, rate_limited })| {
        [("denied", denied), ("rate_limited", rate_limited)].map(|(reason, refused)| {
            ([("service", service.name.as_str()), ("reason", reason)], refused.packets)
        })
    });
    let help = "Frames that a service refused: by its access list, or above a limit";
    counters(to, "pen_service_refused_packets", help, members)
}

/// Newcomers that were not remembered.
pub(super) fn flood(snapshot: &Snapshot, to: To<'_, '_>) -> fmt::Result {
    let Some(Suppression { active, newcomers, .. }) = snapshot.suppression else { return Ok(()) };
    let nothing: [(&str, &str); 0] = [];
    let help = "Newcomers that were not remembered because there were too many at once";
    counters(to, "pen_tracking_suppressed", help, [(nothing, newcomers)])?;
    gauges(to, "pen_flood", "Whether newcomers are too many at once now", [(nothing, u64::from(active))])
}
