//! Families about connections, which only the proxy has.

use std::fmt;

use super::{To, counters, gauges, labels};
use crate::dataplane::{Connections, ServiceConnections};
use crate::metrics::Snapshot;

/// Connections from clients, by service.
pub(super) fn of_services(snapshot: &Snapshot, to: To<'_, '_>) -> fmt::Result {
    let by_service = |count: fn(&ServiceConnections) -> u64| {
        snapshot.services.iter().filter_map(move |service| {
            let found = snapshot.service_connections.get(&service.vip)?;
            Some(([("service", service.name.as_str())], count(found)))
        })
    };
    let help = "Connections and UDP sessions of clients that are open";
    gauges(to, "pen_service_connections", help, by_service(|found| found.open))?;
    let help = "Connections and UDP sessions of clients that were accepted";
    counters(to, "pen_service_connections_accepted", help, by_service(|found| found.accepted))?;
    let help = "Connections and UDP sessions of clients that were turned away: no room, or nobody serving";
    counters(to, "pen_service_connections_turned_away", help, by_service(|found| found.turned_away))
}

/// Connections to backends.
pub(super) fn of_backends(snapshot: &Snapshot, to: To<'_, '_>) -> fmt::Result {
    let by_backend = |count: fn(&Connections) -> u64| {
        snapshot.services.iter().flat_map(move |service| {
            service.backends.iter().filter_map(move |backend| {
                let found = snapshot.connections.get(&(service.vip, backend.address))?;
                Some((labels(service, backend), count(found)))
            })
        })
    };
    let help = "Connections and UDP sessions to a backend that are open";
    gauges(to, "pen_backend_connections", help, by_backend(|found| found.open))?;
    let help = "Connections and UDP sessions to a backend that were opened";
    counters(to, "pen_backend_connections_opened", help, by_backend(|found| found.total))?;
    let help = "Connections and UDP sessions to a backend that could not be opened";
    counters(to, "pen_backend_connections_failed", help, by_backend(|found| found.failed))?;
    let help =
        "Whether newcomers pass a backend over because connections to it failed just now, or it is full";
    gauges(to, "pen_backend_left_out", help, by_backend(|found| u64::from(found.left_out.is_some())))
}
