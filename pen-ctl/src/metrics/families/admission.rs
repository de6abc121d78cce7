//! What was refused, and who was not remembered.

use std::fmt;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{Snapshot, To, counters};
use crate::dataplane::{RefusedClients, Suppression};

/// Packets that services refused, by reason, of those that ask anything of their clients.
pub(super) fn refused(snapshot: &Snapshot, to: To<'_, '_>) -> fmt::Result {
    let members = snapshot.services.iter().filter_map(|service| Some((service, service.refused?)));
    let members = members.flat_map(|(service, RefusedClients { denied, rate_limited })| {
        [("denied", denied), ("rate_limited", rate_limited)].map(|(reason, refused)| {
            ([("service", service.name.as_str()), ("reason", reason)], refused.packets)
        })
    });
    let help = "What a service refused, by its access list or above a limit: frames, in the proxy connections and datagrams";
    counters(to, "pen_service_refused_packets", help, members)
}

/// Newcomers that were not remembered.
pub(super) fn flood(snapshot: &Snapshot, to: To<'_, '_>) -> fmt::Result {
    let Some(Suppression { active, newcomers, .. }) = snapshot.suppression else { return Ok(()) };
    let (counter, gauge) = (ConstCounter::new(newcomers), ConstGauge::new(u64::from(active)));
    let help = "Newcomers that were not remembered because there were too many at once.";
    let kind = counter.metric_type();
    counter.encode(to.encode_descriptor("pen_tracking_suppressed", help, None, kind)?)?;
    let help = "Whether newcomers are too many at once now.";
    gauge.encode(to.encode_descriptor("pen_flood", help, None, gauge.metric_type())?)
}
