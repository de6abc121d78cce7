//! Families of metrics from a snapshot: their names, their words, their labels.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

mod admission;
mod connections;

use super::{BackendSample, ServiceSample, Snapshot};
use crate::api::document::InterfaceState;
use crate::dataplane::{AttachMode, Counters, HealthStatus, Traffic};
use crate::state::desired::AdminState;

/// Writes a snapshot.
#[derive(Debug)]
pub(super) struct Families(pub(super) Snapshot);

impl Collector for Families {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let Snapshot { services, counters, .. } = &self.0;
        self.build(&mut to)?;
        self.interfaces(&mut to)?;
        self.services(&mut to)?;
        backends(services, &mut to)?;
        if let Some(counters) = counters {
            forwarded(services, counters, &mut to)?;
            verdicts(counters, &mut to)?;
        }
        connections::of_services(&self.0, &mut to)?;
        connections::of_backends(&self.0, &mut to)?;
        admission::refused(&self.0, &mut to)?;
        self.tracking(&mut to)?;
        admission::flood(&self.0, &mut to)
    }
}

type To<'a, 'b> = &'a mut DescriptorEncoder<'b>;

impl Families {
    fn build(&self, to: To<'_, '_>) -> fmt::Result {
        let labels = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("map_abi", pen_common::abi::ABI_VERSION.to_string()),
        ];
        let info = Info::new(labels.to_vec());
        info.encode(to.encode_descriptor("pen_build", "The pen that runs.", None, info.metric_type())?)?;
        let failures = ConstGauge::new(self.0.failures as u64);
        let help = "Parts of the desired state that the data plane would not take.";
        failures.encode(to.encode_descriptor(
            "pen_controller_failures",
            help,
            None,
            failures.metric_type(),
        )?)
    }

    fn interfaces(&self, to: To<'_, '_>) -> fmt::Result {
        let attached = self.0.interfaces.iter().map(|interface| {
            let mode = match interface.mode {
                AttachMode::Auto => "auto",
                AttachMode::Native => "native",
                AttachMode::Generic => "generic",
            };
            let labels = [("interface", interface.name.as_str()), ("mode", mode)];
            (labels, u64::from(interface.state == InterfaceState::Attached))
        });
        let help = "Whether packets of an interface that is meant to be attached flow through pen";
        gauges(to, "pen_interface_attached", help, attached)?;
        let errors =
            self.0.interfaces.iter().filter_map(|interface| {
                Some(([("interface", interface.name.as_str())], interface.tx_errors?))
            });
        let help = "Frames that pen sent by an interface and its driver lost, as far as the driver tells";
        counters(to, "pen_interface_tx_errors", help, errors)
    }

    fn services(&self, to: To<'_, '_>) -> fmt::Result {
        let services = &self.0.services;
        let kind = Info::new([("", "")]).metric_type();
        let mut family =
            to.encode_descriptor("pen_service", "What is behind the name of a service.", None, kind)?;
        for service in services {
            family.encode_info(&[
                ("service", service.name.clone()),
                ("vip", service.vip.to_string()),
                ("affinity", word(&service.affinity)),
                ("scheduler", word(&service.scheduler)),
                ("tracking", word(&service.tracking)),
            ])?;
        }
        let count = |wanted: fn(&BackendSample) -> bool| {
            services.iter().map(move |service| {
                let count = service.backends.iter().filter(|backend| wanted(backend)).count();
                ([("service", service.name.as_str())], count as u64)
            })
        };
        gauges(to, "pen_service_backends", "Backends of a service", count(|_| true))?;
        let help = "Backends of a service that get newcomers; with 0, nobody serves it";
        gauges(to, "pen_service_backends_serving", help, count(|backend| backend.serving))?;
        let changing = services
            .iter()
            .map(|service| ([("service", service.name.as_str())], u64::from(service.slots_in_transition)));
        let help = "Slots of a service, of 65537, that are changing owner";
        gauges(to, "pen_service_slots_in_transition", help, changing)
    }

    fn tracking(&self, to: To<'_, '_>) -> fmt::Result {
        let Some(tracking) = &self.0.tracking else { return Ok(()) };
        let tables = tracking.tables;
        let families = [("ipv4", tables.v4), ("ipv6", tables.v6)];
        let used = families.map(|(family, table)| ([("family", family)], table.used));
        gauges(to, "pen_tracking_entries", "Clients and flows that are remembered", used)?;
        let max = families.map(|(family, table)| ([("family", family)], table.max));
        gauges(to, "pen_tracking_entries_limit", "Clients and flows that can be remembered", max)?;
        let inserted = families.map(|(family, table)| ([("family", family)], table.inserted));
        counters(to, "pen_tracking_inserts", "Clients and flows that came to be remembered", inserted)?;
        let evicted = families.map(|(family, table)| ([("family", family)], table.evicted));
        let help = "Clients and flows that were forgotten because the table was full";
        counters(to, "pen_tracking_evictions", help, evicted)?;
        let age = ConstGauge::new(tracking.age_seconds.unwrap_or_default());
        let help = "Seconds since what is remembered was counted.";
        age.encode(to.encode_descriptor("pen_tracking_age_seconds", help, None, age.metric_type())?)
    }
}

fn backends(services: &[ServiceSample], to: To<'_, '_>) -> fmt::Result {
    let each =
        || services.iter().flat_map(|service| service.backends.iter().map(move |backend| (service, backend)));
    let serving = each().map(|(service, backend)| (labels(service, backend), u64::from(backend.serving)));
    gauges(to, "pen_backend_serving", "Whether a backend gets newcomers", serving)?;
    let standby = each().map(|(service, backend)| (labels(service, backend), u64::from(backend.standby)));
    let help = "Whether a backend could serve and waits for those of a lower priority to fail";
    gauges(to, "pen_backend_standby", help, standby)?;
    let health = each().flat_map(|(service, backend)| {
        [HealthStatus::Up, HealthStatus::Down, HealthStatus::Unknown].map(|status| {
            let [service, address] = labels(service, backend);
            ([service, address, ("health", status.to_string())], u64::from(backend.health == status))
        })
    });
    gauges(
        to,
        "pen_backend_health",
        "What checks say of a backend: 1 for what holds, 0 for the others",
        health,
    )?;
    let state = each().flat_map(|(service, backend)| {
        [(AdminState::Up, "up"), (AdminState::Drain, "drain"), (AdminState::Down, "down")].map(
            |(state, name)| {
                let [service, address] = labels(service, backend);
                ([service, address, ("state", name.to_owned())], u64::from(backend.state == state))
            },
        )
    });
    let help = "What the administrator asked of a backend: 1 for what holds, 0 for the others";
    gauges(to, "pen_backend_state", help, state)?;
    let weight = each().map(|(service, backend)| (labels(service, backend), u64::from(backend.weight)));
    gauges(
        to,
        "pen_backend_weight",
        "A backend's share of newcomers, beside the others' of its service",
        weight,
    )?;
    let priority = each().map(|(service, backend)| (labels(service, backend), u64::from(backend.priority)));
    let help = "A backend's priority: of those that could serve, the lowest number does";
    gauges(to, "pen_backend_priority", help, priority)?;
    let transitions = each().map(|(service, backend)| (labels(service, backend), backend.transitions));
    let help = "How often what checks say of a backend changed since the controller started";
    counters(to, "pen_backend_health_transitions", help, transitions)
}

/// What was forwarded, by service and by backend.
fn forwarded(services: &[ServiceSample], held: &Counters, to: To<'_, '_>) -> fmt::Result {
    let by_service = |count: fn(Traffic) -> u64| {
        services
            .iter()
            .map(move |service| ([("service", service.name.as_str())], count(service.traffic(held))))
    };
    let by_backend = |count: fn(Traffic) -> u64| {
        services.iter().flat_map(move |service| {
            let one = move |backend| (labels(service, backend), count(service.traffic_of(backend, held)));
            service.backends.iter().map(one)
        })
    };
    let help = "Frames forwarded for a service, to backends since removed too";
    counters(to, "pen_service_packets", help, by_service(|traffic| traffic.packets))?;
    let help =
        "Bytes of frames forwarded for a service, from the Ethernet header on, to backends since removed too";
    counters(to, "pen_service_bytes", help, by_service(|traffic| traffic.bytes))?;
    let help = "Frames forwarded to a backend";
    counters(to, "pen_backend_packets", help, by_backend(|traffic| traffic.packets))?;
    let help = "Bytes of frames forwarded to a backend, from the Ethernet header on";
    counters(to, "pen_backend_bytes", help, by_backend(|traffic| traffic.bytes))
}

/// What became of all frames, by verdict and reason; forwarding needs no reason.
fn verdicts(held: &Counters, to: To<'_, '_>) -> fmt::Result {
    let forwarded = held.forwarded();
    let others = [("answered", &held.answered), ("passed", &held.passed), ("dropped", &held.dropped)];
    let each = || {
        let others = others.into_iter().flat_map(|(verdict, reasons)| {
            reasons.iter().map(move |(reason, traffic)| (verdict, *reason, *traffic))
        });
        std::iter::once(("forwarded", "", forwarded)).chain(others)
    };
    let by = |count: fn(Traffic) -> u64| {
        each().map(move |(verdict, reason, traffic)| {
            ([("verdict", verdict), ("reason", reason)], count(traffic))
        })
    };
    let mut received = |name, help, count: fn(Traffic) -> u64| {
        let sum = ConstCounter::new(each().map(|(_, _, traffic)| count(traffic)).fold(0, u64::wrapping_add));
        sum.encode(to.encode_descriptor(name, help, None, sum.metric_type())?)
    };
    let help = "Frames that came in on attached interfaces.";
    received("pen_received_packets", help, |traffic| traffic.packets)?;
    let help = "Bytes of frames that came in on attached interfaces, from the Ethernet header on.";
    received("pen_received_bytes", help, |traffic| traffic.bytes)?;
    let help = "Frames by what became of them: forwarded, or with the reason why not";
    counters(to, "pen_packets", help, by(|traffic| traffic.packets))?;
    let help = "Bytes of frames, from the Ethernet header on, by what became of them";
    counters(to, "pen_bytes", help, by(|traffic| traffic.bytes))
}

fn labels(service: &ServiceSample, backend: &BackendSample) -> [(&'static str, String); 2] {
    [("service", service.name.clone()), ("backend", backend.address.to_string())]
}

/// As the API writes it.
fn word(value: &impl serde::Serialize) -> String {
    // A variant without fields: cannot fail.
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A family of gauges.
fn gauges<L: EncodeLabelSet>(
    to: To<'_, '_>,
    name: &str,
    help: &str,
    members: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    family(to, name, help, members, ConstGauge::<u64>::new)
}

/// A family of counters: `_total` is put behind the name.
fn counters<L: EncodeLabelSet>(
    to: To<'_, '_>,
    name: &str,
    help: &str,
    members: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    family(to, name, help, members, ConstCounter::<u64>::new)
}

/// A family of what `metric` makes; none without members, which some readers take for a mistake.
fn family<L: EncodeLabelSet, M: EncodeMetric>(
    to: To<'_, '_>,
    name: &str,
    help: &str,
    members: impl IntoIterator<Item = (L, u64)>,
    metric: impl Fn(u64) -> M,
) -> fmt::Result {
    let mut members = members.into_iter().peekable();
    if members.peek().is_none() {
        return Ok(());
    }
    let mut family = to.encode_descriptor(name, &sentence(help), None, metric(0).metric_type())?;
    members.try_for_each(|(labels, value)| metric(value).encode(family.encode_family(&labels)?))
}

/// As prometheus-client ends the help of what is registered.
fn sentence(help: &str) -> String {
    format!("{help}.")
}
