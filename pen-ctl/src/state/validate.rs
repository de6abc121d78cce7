//! The rules a desired state obeys, each with one line that says what is wrong, on what, and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use pen_common::abi;

use super::desired::{Backend, Desired, Health, InterfaceSpec, Service, TcpHealth};
use super::text;
use crate::api::{ApiError, ErrorCode};
use crate::dataplane::{Affinity, Mac, Scheduler, Tracking};

/// Bytes of an interface name at most: `IFNAMSIZ` − 1.
pub const INTERFACE_NAME_MAX: usize = 15;
/// Characters of a service's name at most.
pub const NAME_MAX: usize = 63;
/// Weights allowed.
pub const WEIGHTS: std::ops::RangeInclusive<u16> = 1..=1000;
/// Entries of a tracking table allowed.
pub const TRACKING_CLIENTS: std::ops::RangeInclusive<u32> = 1024..=16_777_216;
/// How long a window may stay open at most.
pub const TRANSITION_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a tracking timeout may be at most.
pub const TRACKING_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Checks a whole desired state.
pub fn desired(desired: &Desired) -> Result<(), ApiError> {
    interfaces(&desired.interfaces)?;
    if !TRACKING_CLIENTS.contains(&desired.tracking_clients) {
        return Err(ApiError::invalid(
            format!("tracking_clients = {} is out of range", desired.tracking_clients),
            format!("use {} to {}", TRACKING_CLIENTS.start(), TRACKING_CLIENTS.end()),
        ));
    }
    services_together(&desired.services)?;
    desired.services.iter().try_for_each(service)
}

/// Checks the interfaces to attach.
pub fn interfaces(interfaces: &[InterfaceSpec]) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for InterfaceSpec { name, .. } in interfaces {
        interface_name(name)?;
        if !seen.insert(name) {
            return Err(ApiError::invalid(format!("interface {name} is named twice"), "name it once"));
        }
    }
    if interfaces.len() > abi::MAX_INTERFACES {
        return Err(ApiError::invalid(
            format!("{} interfaces are too many", interfaces.len()),
            format!("pen attaches to at most {}", abi::MAX_INTERFACES),
        ));
    }
    Ok(())
}

/// Checks one service with its backends.
pub fn service(service: &Service) -> Result<(), ApiError> {
    service_name(&service.name)?;
    let wrong =
        |what: String, hint: &str| ApiError::invalid(format!("service {}: {what}", service.name), hint);
    if let Some(why) = not_a_host(service.vip.address) {
        return Err(wrong(
            format!("VIP {} is {why}", service.vip.address),
            "use an address that clients can reach",
        ));
    }
    if service.affinity == Affinity::None && service.tracking != Tracking::Off {
        return Err(wrong(
            "affinity `none` remembers nobody, so tracking must be `off`".into(),
            "leave tracking out, or use affinity `flow`",
        ));
    }
    round_robin(service).map_err(|(what, hint)| wrong(what, hint))?;
    for (key, value, limit) in [
        ("tracking_timeout", service.tracking_timeout, TRACKING_TIMEOUT_MAX),
        ("transition", service.transition, TRANSITION_MAX),
    ] {
        let shown = humantime::format_duration(value);
        if value.subsec_nanos() != 0 {
            return Err(wrong(format!("{key} = {shown} is not in whole seconds"), "use whole seconds"));
        }
        if value > limit {
            let most = format!("use at most {}", humantime::format_duration(limit));
            return Err(wrong(format!("{key} = {shown} is too long"), &most));
        }
    }
    if service.transition.is_zero() {
        return Err(wrong("transition = 0s is too short".into(), "use at least 1s"));
    }
    health(service, &service.effective_health()).map_err(|why| wrong(why.0, why.1))?;
    backends(service)
}

/// Checks what goes with round-robin: turns without memory would tear every connection apart.
fn round_robin(service: &Service) -> Result<(), (String, &'static str)> {
    if service.scheduler != Scheduler::RoundRobin {
        return Ok(());
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

/// Checks a service's name, which people type and which ends up in URLs and metrics.
pub fn service_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let shown = name.escape_debug();
    let refuse = |why: String| {
        Err(ApiError::invalid(
            format!("service name `{shown}` {why}"),
            format!(
                "use 1 to {NAME_MAX} of the letters a–z and A–Z, digits, `.`, `_` and `-`, a letter or digit first"
            ),
        ))
    };
    if name.is_empty() {
        return refuse("is empty".into());
    }
    if let Some(odd) = name.chars().find(|c| !allowed(*c)) {
        return refuse(format!("contains `{}`", odd.escape_debug()));
    }
    if name.len() > NAME_MAX {
        return refuse(format!("has {} characters", name.len()));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("starts with a sign".into());
    }
    Ok(())
}

/// Checks an interface's name by the kernel's rules (`dev_valid_name`).
pub fn interface_name(name: &str) -> Result<(), ApiError> {
    let refuse = |why: &str| {
        Err(ApiError::invalid(
            format!("interface name `{}` {why}", name.escape_debug()),
            format!("use a name from `ip link`: 1 to {INTERFACE_NAME_MAX} bytes without `/`, `:` or spaces"),
        ))
    };
    match name {
        "" => refuse("is empty"),
        "." | ".." => refuse("cannot be"),
        _ if name.len() > INTERFACE_NAME_MAX => refuse("is too long"),
        _ if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) => {
            refuse("contains a character that no interface has")
        }
        _ => Ok(()),
    }
}

/// Checks what concerns several services at once: names, VIPs and limits.
fn services_together(services: &[Service]) -> Result<(), ApiError> {
    let mut names = BTreeSet::new();
    let mut vips = BTreeMap::new();
    for service in services {
        if !names.insert(&service.name) {
            return Err(ApiError::new(
                ErrorCode::Exists,
                format!("service {} is there already", service.name),
                "use another name, or `service set` to change it",
            ));
        }
        if let Some(other) = vips.insert(service.vip, &service.name) {
            return Err(ApiError::new(
                ErrorCode::Exists,
                format!("service {}: {} belongs to service {other} already", service.name, service.vip),
                "use another address, port or protocol",
            ));
        }
    }
    if services.len() > abi::MAX_SERVICES as usize {
        return Err(ApiError::invalid(
            format!("{} services are too many", services.len()),
            format!("at most {} fit; remove one first", abi::MAX_SERVICES),
        ));
    }
    let backends: usize = services.iter().map(|service| service.backends.len()).sum();
    if backends > abi::MAX_BACKENDS as usize {
        return Err(ApiError::invalid(
            format!("{backends} backends over all services are too many"),
            format!("at most {} fit; remove some first", abi::MAX_BACKENDS),
        ));
    }
    no_vip_as_backend(services)
}

/// A backend that is a VIP would be sent to the balancer again.
fn no_vip_as_backend(services: &[Service]) -> Result<(), ApiError> {
    let vips: BTreeMap<IpAddr, &str> = services.iter().map(|s| (s.vip.address, s.name.as_str())).collect();
    for service in services {
        for backend in &service.backends {
            let address = backend.address;
            let whose = match vips.get(&address) {
                None => continue,
                Some(_) if address == service.vip.address => "the service's own VIP".to_owned(),
                Some(other) => format!("the VIP of service {other}"),
            };
            return Err(ApiError::invalid(
                format!("backend {address} of service {} is {whose}", service.name),
                "use the address that the backend has for itself",
            ));
        }
    }
    Ok(())
}

fn backends(service: &Service) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for backend in &service.backends {
        if !seen.insert(backend.address) {
            return Err(ApiError::new(
                ErrorCode::Exists,
                format!("backend {} of service {} is there already", backend.address, service.name),
                "use `backend set` to change it",
            ));
        }
        check_backend(service, backend).map_err(|(why, hint)| {
            ApiError::invalid(format!("backend {} of service {} {why}", backend.address, service.name), hint)
        })?;
    }
    Ok(())
}

fn check_backend(service: &Service, backend: &Backend) -> Result<(), (String, &'static str)> {
    let refuse = |why: String, hint| Err((why, hint));
    let (address, vip) = (backend.address, service.vip.address);
    if let Some(why) = not_a_host(address) {
        return refuse(format!("is {why}"), "use the address of a server");
    }
    if address.is_ipv4() != vip.is_ipv4() {
        let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let why = format!("is {} but the VIP {vip} is {}", family(address), family(vip));
        return refuse(why, "use an address of the VIP's family: direct server return translates nothing");
    }
    if address == vip {
        return refuse("is the service's own VIP".into(), "use the address that the backend has for itself");
    }
    if !WEIGHTS.contains(&backend.weight) {
        return refuse(
            format!("has weight {}, out of range", backend.weight),
            "use 1 to 1000; `--state drain` keeps newcomers away",
        );
    }
    if let Some(Mac(bytes)) = backend.mac
        && (bytes[0] & 1 == 1 || bytes == [0; 6])
    {
        return refuse(
            format!("has MAC {}, which is no single host's", Mac(bytes)),
            "use the MAC of its interface",
        );
    }
    match backend.vlan {
        Some(vlan) if !(1..=4094).contains(&vlan) => {
            return refuse(format!("has VLAN {vlan}, out of range"), "use 1 to 4094");
        }
        Some(_) if backend.mac.is_none() => {
            return refuse(
                "has a VLAN but no MAC".into(),
                "give its `mac` too: pen cannot look it up in there",
            );
        }
        _ => {}
    }
    if backend.remove_at.is_some_and(|at| at > text::LAST_SECOND) {
        return refuse(
            "is to be removed after the year 9999".into(),
            "`remove_at` is in seconds since 1970; use one before 253402300800",
        );
    }
    match &backend.health {
        Some(own) => health(service, own),
        None => Ok(()),
    }
}

fn health(service: &Service, health: &Health) -> Result<(), (String, &'static str)> {
    let Health::Tcp(TcpHealth { port, interval, timeout, rise, fall }) = health else {
        return Ok(());
    };
    let refuse = |why: String, hint| Err((format!("health check tcp: {why}"), hint));
    match port {
        None if service.vip.port == 0 => {
            return refuse("an every-port service has no port to check".into(), "say which, as tcp,port=80");
        }
        Some(0) => return refuse("port 0 cannot be".into(), "use 1 to 65535"),
        _ => {}
    }
    let range = Duration::from_millis(10)..=Duration::from_secs(3600);
    for (key, value) in [("interval", interval), ("timeout", timeout)] {
        if !range.contains(value) {
            return refuse(
                format!("{key} = {} is out of range", humantime::format_duration(*value)),
                "use 10ms to 1h",
            );
        }
    }
    for (key, value) in [("rise", rise), ("fall", fall)] {
        if !(1..=100).contains(value) {
            return refuse(format!("{key} = {value} is out of range"), "use 1 to 100");
        }
    }
    Ok(())
}

/// Why an address cannot be that of a single host out there.
pub fn not_a_host(address: IpAddr) -> Option<&'static str> {
    let v4_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let v4_zero_net = matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0);
    let v4_in_v6 = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let v6_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if v4_broadcast => Some("the broadcast address"),
        _ if v4_zero_net => Some("in 0.0.0.0/8, which no host has"),
        // It means another host on each link, and a frame for it does not say which.
        _ if v6_link_local => Some("a link-local address, which is not the same host on every link"),
        _ if v4_in_v6 => Some("an IPv4 address written as IPv6"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
