//! What Prometheus scrapes: a snapshot of the controller, written out beside its task.
//!
//! Names follow Prometheus's guidelines: base units, `_total` for what only grows. Labels have bounded values:
//! services, backends, interfaces, and words of ours. docs/operations.md lists what there is.

mod families;
mod text;
pub mod timings;

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::api::document::{InterfaceDocument, TrackingDocument};
use crate::dataplane::{
    Affinity, BackendAddress, Connections, Counters, HealthStatus, RefusedClients, Scheduler,
    ServiceConnections, ServiceKey, Suppression, Tracking, Traffic,
};
use crate::state::desired::AdminState;
use timings::Timings;

#[cfg(test)]
mod tests;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, for whoever does not ask for the other.
    Text,
}

impl Format {
    /// As HTTP names it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The controller and its data plane at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Interfaces attached or meant to be.
    pub interfaces: Vec<InterfaceDocument>,
    /// Services.
    pub services: Vec<ServiceSample>,
    /// What became of packets; `None` = could not be read: no count is better than one that goes back.
    pub counters: Option<Counters>,
    /// What connections to backends came to; nothing under XDP.
    pub connections: BTreeMap<(ServiceKey, BackendAddress), Connections>,
    /// What connections from clients came to; nothing under XDP.
    pub service_connections: BTreeMap<ServiceKey, ServiceConnections>,
    /// How full the tracking tables are; `None` = not counted yet.
    pub tracking: Option<TrackingDocument>,
    /// Newcomers that were not remembered; `None` = all are.
    pub suppression: Option<Suppression>,
    /// How many parts of the desired state the data plane would not take.
    pub failures: usize,
}

/// A service at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSample {
    /// What people call it.
    pub name: String,
    /// VIP, port and protocol.
    pub vip: ServiceKey,
    /// What the choice hashes.
    pub affinity: Affinity,
    /// Who gets a newcomer.
    pub scheduler: Scheduler,
    /// Memory of which backend was given.
    pub tracking: Tracking,
    /// How many of its slots are changing owner.
    pub slots_in_transition: u32,
    /// What it refused; `None` where it asks nothing of its clients.
    pub refused: Option<RefusedClients>,
    /// Its backends.
    pub backends: Vec<BackendSample>,
}

/// A backend at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendSample {
    /// Its address.
    pub address: BackendAddress,
    /// Its share of newcomers.
    pub weight: u16,
    /// What the administrator asked of it.
    pub state: AdminState,
    /// What was seen of it.
    pub health: HealthStatus,
    /// The lowest number that has anybody serving serves.
    pub priority: u16,
    /// It gets newcomers.
    pub serving: bool,
    /// It would, were not others of a lower priority there.
    pub standby: bool,
    /// How often its health changed while this controller ran.
    pub transitions: u64,
}

impl ServiceSample {
    /// What was forwarded for it, to removed backends too.
    fn traffic(&self, counters: &Counters) -> Traffic {
        let removed = counters.removed_backends.get(&self.vip).copied().unwrap_or_default();
        self.backends.iter().fold(removed, |sum, backend| {
            let one = self.traffic_of(backend, counters);
            Traffic { packets: sum.packets + one.packets, bytes: sum.bytes + one.bytes }
        })
    }

    fn traffic_of(&self, backend: &BackendSample, counters: &Counters) -> Traffic {
        counters.backends.get(&(self.vip, backend.address)).copied().unwrap_or_default()
    }
}

/// Writes it all out; takes a moment with thousands of backends, and asks nothing of the controller.
///
/// # Errors
/// Never, as long as prometheus-client knows how to write numbers.
pub fn render(snapshot: Snapshot, timings: &Timings, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    timings.register(&mut registry);
    registry.register_collector(Box::new(families::Families(snapshot)));
    let mut written = String::new();
    encode(&mut written, &registry)?;
    Ok(match format {
        Format::OpenMetrics => written,
        Format::Text => text::from_open_metrics(&written),
    })
}
