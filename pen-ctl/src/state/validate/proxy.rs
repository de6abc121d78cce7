//! What the proxy asks of a desired state: every service listens on one port or Unix socket, and every backend is
//! connected to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{not_a_host, wrong, wrong_backend};
use crate::api::ApiError;
use crate::check::Way;
use crate::dataplane::proxy::transparent::is_of_clients;
use crate::dataplane::{BackendAddress, Kind, OnEmpty, Protocol, ProxyProtocol, ServiceKey, Tracking};
use crate::state::desired::{Backend, Service};

/// How long a backend may be given to accept.
pub(crate) const CONNECT_TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(600);
/// How long a connection may be without a byte at most where that has an end.
pub(crate) const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The rules of services and what they have to do with each other.
pub(super) fn services(services: &[Service]) -> Result<(), ApiError> {
    services.iter().try_for_each(service)?;
    no_listener_as_backend(services)
}

fn service(service: &Service) -> Result<(), ApiError> {
    let refuse = |what: String, hint| Err(wrong(service, what, hint));
    if let Some(why) = service.vip.ip().and_then(not_a_listener) {
        return refuse(format!("VIP {} is {why}", service.vip), "use an address that this machine has");
    }
    if service.vip.is_every_port() {
        return refuse(
            "the proxy listens on one port, not on every one".into(),
            "name the port, one service for each",
        );
    }
    if service.on_empty == OnEmpty::Pass {
        return refuse(
            "on_empty `pass` is about packets: the proxy has accepted a connection before it can pass it on"
                .into(),
            "use `drop`, or a backend of a higher `priority` on this host",
        );
    }
    if service.tracking == Tracking::Transitions {
        return refuse(
            "tracking `transitions` is about packets: in the proxy a connection stays where it is anyway"
                .into(),
            "use `full` or `off`",
        );
    }
    if service.rate_limit.is_some() {
        return refuse(
            "`rate_limit` is about packets, and the proxy takes connections".into(),
            "leave it out, or use `max_connections`",
        );
    }
    if service.vip.unix_path().is_some() && !(service.allow.is_empty() && service.deny.is_empty()) {
        return refuse(
            "`allow` and `deny` are about clients' addresses, and whoever comes over a Unix socket has none"
                .into(),
            "leave them out: the socket's directory says who may",
        );
    }
    times(service)?;
    if service.max_connections == Some(0) {
        return refuse("max_connections = 0 lets nobody in".into(), "use at least 1, or leave it out");
    }
    if service.vip.protocol == Protocol::Udp && service.proxy_protocol == Some(ProxyProtocol::V1) {
        return refuse("proxy_protocol `v1` is for streams only".into(), "use `v2` with UDP");
    }
    if service.transparent && service.vip.unix_path().is_some() {
        return refuse(
            "transparent needs the client's IP address, and whoever comes over a Unix socket has none".into(),
            "leave transparent out",
        );
    }
    service.backends.iter().try_for_each(|one| backend(service, one))?;
    no_endpoint_twice(service)
}

fn times(service: &Service) -> Result<(), ApiError> {
    if let Some(time) = service.connect_timeout.filter(|time| !CONNECT_TIMEOUTS.contains(time)) {
        let what = format!("connect_timeout = {} is out of range", humantime::format_duration(time));
        return Err(wrong(service, what, "use 1ms to 10m"));
    }
    if let Some(time) = service.idle_timeout.filter(|time| *time > IDLE_TIMEOUT_MAX) {
        let what = format!("idle_timeout = {} is too long", humantime::format_duration(time));
        return Err(wrong(service, what, "use at most 1year, or 0 for never"));
    }
    Ok(())
}

fn backend(service: &Service, backend: &Backend) -> Result<(), ApiError> {
    let refuse = |why: String, hint| Err(wrong_backend(service, backend, why, hint));
    if let Some(why) = backend.address.ip().and_then(not_a_server) {
        return refuse(format!("is {why}"), "use the address of a server");
    }
    let packets = [("mac", backend.mac.is_some()), ("vlan", backend.vlan.is_some())];
    if let Some(key) = packets.into_iter().find_map(|(key, said)| said.then_some(key)) {
        return refuse(
            format!("has a `{key}`, which is about packets, and the proxy connects"),
            "leave it out: the system's routes say where it is",
        );
    }
    if service.check(backend, Kind::Proxy).is_some_and(|check| check.way == Some(Way::Dsr)) {
        return refuse(
            "is checked with way = \"dsr\", which is about packets, and the proxy connects".into(),
            "leave `way` out: the check takes the way that connections take",
        );
    }
    if let BackendAddress::Unix(_) = backend.address {
        return unix_backend(service, backend);
    }
    if backend.address.port().is_none() && service.vip.port == 0 {
        return refuse("has no port, and neither has the service".into(), "say which, as 10.0.0.11:8080");
    }
    let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    match (service.vip.ip(), backend.address.ip()) {
        (Some(vip), Some(own)) if service.transparent && !is_of_clients(vip, own) => refuse(
            format!("is {} and clients are {}, so it cannot see their addresses", family(own), family(vip)),
            "use an address of the VIP's family, or leave transparent out",
        ),
        _ => limits(service, backend),
    }
}

/// What a Unix socket cannot be asked for.
fn unix_backend(service: &Service, backend: &Backend) -> Result<(), ApiError> {
    let refuse = |why: &str, hint| Err(wrong_backend(service, backend, why, hint));
    if service.vip.protocol == Protocol::Udp {
        return refuse("is a Unix socket, and the service is UDP", "use the IP address of a server");
    }
    if service.transparent {
        return refuse(
            "is a Unix socket, where nobody has the client's address",
            "leave transparent out, or use proxy_protocol",
        );
    }
    let check = service.check(backend, Kind::Proxy);
    if let Some(check) = check.filter(|check| !check.kind.knows_unix_sockets()) {
        let what = format!("is a Unix socket, which the health check {} cannot ask", check.kind.name());
        return Err(wrong_backend(service, backend, what, "give it one of its own, as tcp"));
    }
    match &backend.health {
        Some(health) if health.check().is_some_and(|check| check.port.is_some()) => {
            refuse("is a Unix socket, which has no port to check", "leave `port` out of its health check")
        }
        _ => limits(service, backend),
    }
}

fn limits(service: &Service, backend: &Backend) -> Result<(), ApiError> {
    let refuse = |why: String, hint| Err(wrong_backend(service, backend, why, hint));
    for (key, limit) in [("soft_limit", backend.soft_limit), ("hard_limit", backend.hard_limit)] {
        if limit == Some(0) {
            return refuse(
                format!("has {key} = 0, which lets nobody in"),
                "use at least 1; `--state drain` keeps newcomers away",
            );
        }
    }
    match (backend.soft_limit, backend.hard_limit) {
        (Some(soft), Some(hard)) if soft > hard => {
            refuse(format!("has soft_limit {soft} above its hard_limit {hard}"), "use at most the hard one")
        }
        _ => Ok(()),
    }
}

/// Two backends that come to the same endpoint are one: it would get twice its share.
fn no_endpoint_twice(service: &Service) -> Result<(), ApiError> {
    let mut seen = BTreeMap::new();
    for backend in &service.backends {
        let endpoint = backend.address.endpoint(service.vip.port);
        if let Some(other) = seen.insert(endpoint, backend.address) {
            return Err(wrong_backend(
                service,
                backend,
                format!("is the same as backend {other}: both are {endpoint}"),
                "give one of them another port, or take it out",
            ));
        }
    }
    Ok(())
}

/// A backend that is where the proxy listens would be sent to the proxy again.
fn no_listener_as_backend(services: &[Service]) -> Result<(), ApiError> {
    for service in services {
        for backend in &service.backends {
            let endpoint = backend.address.endpoint(service.vip.port);
            let protocol = service.vip.protocol;
            let listens = |other: &&Service| listens_on(&other.vip, &endpoint, protocol);
            let Some(other) = services.iter().find(listens) else { continue };
            let whose = match other.vip == service.vip {
                true => "the service itself listens".to_owned(),
                false => format!("service {} listens", other.name),
            };
            return Err(wrong_backend(
                service,
                backend,
                format!("is where {whose}"),
                "use the address and port of a server",
            ));
        }
    }
    Ok(())
}

/// Whether what is sent to an endpoint comes to this listener. A wildcard listener has the loopback addresses, too.
fn listens_on(vip: &ServiceKey, endpoint: &BackendAddress, protocol: Protocol) -> bool {
    match *endpoint {
        BackendAddress::Unix(path) => vip.unix_path() == Some(path),
        BackendAddress::Port(endpoint) if vip.protocol == protocol && vip.port == endpoint.port() => {
            vip.ip().is_some_and(|listener| comes_to(listener, endpoint))
        }
        BackendAddress::Port(_) | BackendAddress::Ip(_) => false,
    }
}

fn comes_to(listener: IpAddr, endpoint: SocketAddr) -> bool {
    let wildcard = listener.is_unspecified() && listener.is_ipv4() == endpoint.is_ipv4();
    listener == endpoint.ip() || (wildcard && endpoint.ip().is_loopback())
}

/// Why nobody can listen on an address.
pub(crate) fn not_a_listener(address: IpAddr) -> Option<&'static str> {
    not_a_host(address).filter(|_| !address.is_unspecified() && !address.is_loopback())
}

/// Why an address cannot be that of a server.
pub(crate) fn not_a_server(address: IpAddr) -> Option<&'static str> {
    not_a_host(address).filter(|_| !address.is_loopback())
}
