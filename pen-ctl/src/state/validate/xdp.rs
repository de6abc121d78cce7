//! What XDP asks of a desired state: packets are forwarded as they came, to servers on the link.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pen_common::{abi, probe};

use super::{not_a_host, wrong, wrong_backend};
use crate::api::ApiError;
use crate::check::Way;
use crate::dataplane::{Affinity, BackendAddress, Kind, OnDown, Scheduler, Tracking};
use crate::state::desired::{Backend, Service};

/// Why an address is nobody's.
const PROBES: &str = "is of 240.0.0.0/4 or fd70:656e:9c4d::/48, which health checks keep for themselves";

/// The rules of services and what they have to do with each other.
pub(super) fn services(services: &[Service]) -> Result<(), ApiError> {
    services.iter().try_for_each(service)?;
    no_vip_as_backend(services)
}

fn service(service: &Service) -> Result<(), ApiError> {
    let Some(vip) = service.vip.ip() else {
        return Err(wrong(
            service,
            format!("VIP {} is a Unix socket, which gets no packets", service.vip),
            "use an IP address that clients can reach, or run the proxy (`run --dataplane proxy`)",
        ));
    };
    if let Some(why) = not_a_host(vip) {
        return Err(wrong(
            service,
            format!("VIP {vip} is {why}"),
            "use an address that clients can reach, or run the proxy (`run --dataplane proxy`)",
        ));
    }
    if probe::is_alias(&vip.into()) {
        return Err(wrong(service, format!("VIP {vip} {PROBES}"), "use an address that clients can reach"));
    }
    if let Some(key) = proxy_key(service) {
        return Err(wrong(
            service,
            format!("`{key}` is about connections, and XDP forwards packets"),
            "leave it out, or run the proxy (`run --dataplane proxy`)",
        ));
    }
    scheduler(service).map_err(|(what, hint)| wrong(service, what, hint))?;
    service.backends.iter().try_for_each(|one| backend(service, vip, one))
}

/// The first key of a service that only the proxy knows and that says something.
fn proxy_key(service: &Service) -> Option<&'static str> {
    let said = [
        ("connect_timeout", service.connect_timeout.is_some()),
        ("idle_timeout", service.idle_timeout.is_some()),
        ("max_connections", service.max_connections.is_some()),
        ("stubborn", service.stubborn),
        ("transparent", service.transparent),
        ("proxy_protocol", service.proxy_protocol.is_some()),
        ("proxy_protocol_from", !service.proxy_protocol_from.is_empty()),
        ("on_down", service.on_down != OnDown::default()),
    ];
    said.into_iter().find_map(|(key, said)| said.then_some(key))
}

/// Checks what goes with a scheduler: turns without memory would tear every connection apart.
fn scheduler(service: &Service) -> Result<(), (String, &'static str)> {
    match service.scheduler {
        Scheduler::Maglev => return Ok(()),
        Scheduler::LeastConnections => {
            let what = "scheduler `least-connections` counts connections, and XDP forwards packets";
            return Err((
                what.into(),
                "use scheduler `maglev` or `round-robin`, or run the proxy (`run --dataplane proxy`)",
            ));
        }
        Scheduler::RoundRobin => {}
    }
    if service.affinity == Affinity::None {
        let what = "scheduler `round-robin` must remember who got which backend, and affinity `none` remembers nobody";
        return Err((what.into(), "use affinity `client` or `flow`, or scheduler `maglev`"));
    }
    if service.tracking != Tracking::Full {
        let what =
            "scheduler `round-robin` must remember who got which backend: it goes with tracking `full` only";
        return Err((what.into(), "leave tracking out, or use scheduler `maglev`"));
    }
    if service.backends.len() > abi::RING_TURNS {
        let what = format!("{} backends are too many for scheduler `round-robin`", service.backends.len());
        return Err((what, "4096 can take turns; use scheduler `maglev`"));
    }
    Ok(())
}

fn backend(service: &Service, vip: IpAddr, backend: &Backend) -> Result<(), ApiError> {
    let refuse = |why: String, hint| Err(wrong_backend(service, backend, why, hint));
    let address = match backend.address {
        BackendAddress::Ip(address) => address,
        BackendAddress::Port(_) => {
            return refuse(
                "has a port".into(),
                "leave it out: in direct server return a packet keeps the service's port; or run the proxy (`run \
                 --dataplane proxy`)",
            );
        }
        BackendAddress::Unix(_) => {
            return refuse(
                "is a Unix socket, which gets no packets".into(),
                "use the IP address of a server, or run the proxy (`run --dataplane proxy`)",
            );
        }
    };
    if let Some(why) = not_a_host(address) {
        return refuse(
            format!("is {why}"),
            "use the address of a server on the link, or run the proxy (`run --dataplane proxy`)",
        );
    }
    if probe::is_alias(&address.into()) {
        return refuse(PROBES.into(), "use the address of a server on the link");
    }
    let way = service.check(backend, Kind::Xdp).and_then(|check| check.way);
    if backend.vlan.is_some() && way == Some(Way::Dsr) {
        return refuse(
            "has a `vlan`, where this host may have no address that its VIP could answer to".into(),
            "leave `way` out of its health check, or use way = \"direct\"",
        );
    }
    if address.is_ipv4() != vip.is_ipv4() {
        let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let why = format!("is {} but the VIP {vip} is {}", family(address), family(vip));
        return refuse(
            why,
            "use an address of the VIP's family: direct server return translates nothing; or run the proxy (`run \
             --dataplane proxy`)",
        );
    }
    let limits = [("soft_limit", backend.soft_limit), ("hard_limit", backend.hard_limit)];
    match limits.into_iter().find_map(|(key, limit)| limit.map(|_| key)) {
        Some(key) => refuse(
            format!("has a `{key}`, which is about connections, and XDP forwards packets"),
            "leave it out, or run the proxy (`run --dataplane proxy`)",
        ),
        None => Ok(()),
    }
}

/// A backend that is a VIP would be sent to the balancer again.
fn no_vip_as_backend(services: &[Service]) -> Result<(), ApiError> {
    let vips: BTreeMap<IpAddr, &str> =
        services.iter().filter_map(|service| Some((service.vip.ip()?, service.name.as_str()))).collect();
    for service in services {
        for backend in &service.backends {
            let Some(address) = backend.address.ip() else { continue };
            let whose = match vips.get(&address) {
                None => continue,
                Some(_) if Some(address) == service.vip.ip() => "the service's own VIP".to_owned(),
                Some(other) => format!("the VIP of service {other}"),
            };
            return Err(wrong_backend(
                service,
                backend,
                format!("is {whose}"),
                "use the address that the backend has for itself",
            ));
        }
    }
    Ok(())
}
