//! The rules a desired state obeys, each with one line that says what is wrong, on what, and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use pen_common::abi;

use super::desired::{Backend, Desired, InterfaceSpec, Service};
use super::text;
use crate::api::{ApiError, ErrorCode};
use crate::check::{Health, rules};
use crate::dataplane::{Affinity, Kind, Mac, Tracking};

mod guard;
mod proxy;
mod xdp;

pub(crate) use proxy::{CONNECT_TIMEOUTS, IDLE_TIMEOUT_MAX, not_a_listener, not_a_server};

/// Bytes of an interface name at most: `IFNAMSIZ` − 1.
pub const INTERFACE_NAME_MAX: usize = 15;
/// Characters of a service's name at most.
pub const NAME_MAX: usize = 63;
/// Weights allowed.
pub const WEIGHTS: std::ops::RangeInclusive<u16> = 1..=1000;
/// Entries of a tracking table allowed.
pub const TRACKING_CLIENTS: std::ops::RangeInclusive<u32> = 1024..=16_777_216;
/// Newcomers that one CPU may remember a second.
pub const FLOOD_INSERTS_MAX: u32 = 1_000_000_000;
/// How long a window may stay open at most.
pub const TRANSITION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest time for a share to grow.
pub const SLOW_START_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a tracking timeout may be at most.
pub const TRACKING_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a desired state is right for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fits {
    /// Whatever moves packets.
    Either,
    /// This data plane alone; why not the other.
    Only(Kind, ApiError),
}

/// Checks a whole desired state by the rules of a data plane.
pub fn desired(desired: &Desired, kind: Kind) -> Result<(), ApiError> {
    common(desired)?;
    own_rules(desired, kind)
}

/// Checks a whole desired state where it is not known what is to move packets: it must be right for something.
pub fn fits(desired: &Desired) -> Result<Fits, ApiError> {
    common(desired)?;
    match (own_rules(desired, Kind::Xdp), own_rules(desired, Kind::Proxy)) {
        (Ok(()), Ok(())) => Ok(Fits::Either),
        (Ok(()), Err(why)) => Ok(Fits::Only(Kind::Xdp, why)),
        (Err(why), Ok(())) => Ok(Fits::Only(Kind::Proxy, why)),
        (Err(why), Err(_)) => Err(why),
    }
}

/// Checks a whole desired state by the rules of `kind`; where that is not known, as [`fits`] does.
pub fn desired_for(state: &Desired, kind: Option<Kind>) -> Result<(), ApiError> {
    match kind {
        Some(kind) => desired(state, kind),
        None => fits(state).map(drop),
    }
}

/// The rules that hold whatever moves packets.
fn common(desired: &Desired) -> Result<(), ApiError> {
    interfaces(&desired.interfaces)?;
    if !TRACKING_CLIENTS.contains(&desired.tracking_clients) {
        return Err(ApiError::invalid(
            format!("tracking_clients = {} is out of range", desired.tracking_clients),
            format!("use {} to {}", TRACKING_CLIENTS.start(), TRACKING_CLIENTS.end()),
        ));
    }
    if desired.flood_inserts_per_cpu > FLOOD_INSERTS_MAX {
        return Err(ApiError::invalid(
            format!("flood_inserts_per_cpu = {} is out of range", desired.flood_inserts_per_cpu),
            format!("use 0 to {FLOOD_INSERTS_MAX}"),
        ));
    }
    services_together(&desired.services)?;
    desired.services.iter().try_for_each(service)
}

/// The rules of one data plane alone.
fn own_rules(desired: &Desired, kind: Kind) -> Result<(), ApiError> {
    match kind {
        Kind::Xdp => xdp::services(&desired.services),
        Kind::Proxy => proxy::services(&desired.services),
    }
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
fn service(service: &Service) -> Result<(), ApiError> {
    service_name(&service.name)?;
    let wrong = |what: String, hint: &str| wrong(service, what, hint);
    if service.affinity == Affinity::None && service.tracking != Tracking::Off {
        return Err(wrong(
            "affinity `none` remembers nobody, so tracking must be `off`".into(),
            "leave tracking out, or use affinity `flow`",
        ));
    }
    for (key, value, limit) in [
        ("tracking_timeout", service.tracking_timeout, TRACKING_TIMEOUT_MAX),
        ("transition", service.transition, TRANSITION_MAX),
        ("slow_start", service.slow_start, SLOW_START_MAX),
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
    if service.on_change.first().is_some_and(|program| !program.starts_with('/')) {
        return Err(wrong(
            "on_change does not name its program by the whole path".into(),
            "write it as /usr/local/bin/tell",
        ));
    }
    if let Some(own) = &service.health {
        health(service, own).map_err(|why| wrong(why.0, why.1))?;
    }
    guard::guard(service)?;
    backends(service)
}

/// What is wrong with a service.
fn wrong(service: &Service, what: impl Display, hint: &str) -> ApiError {
    ApiError::invalid(format!("service {}: {what}", service.name), hint)
}

/// What is wrong with a backend of a service.
fn wrong_backend(service: &Service, backend: &Backend, what: impl Display, hint: &str) -> ApiError {
    ApiError::invalid(format!("backend {} of service {} {what}", backend.address, service.name), hint)
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
        check_backend(service, backend).map_err(|(why, hint)| wrong_backend(service, backend, why, hint))?;
    }
    Ok(())
}

fn check_backend(service: &Service, backend: &Backend) -> Result<(), (String, &'static str)> {
    let refuse = |why: String, hint| Err((why, hint));
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
    let Some(check) = health.check() else { return Ok(()) };
    let refused = rules::check(check, service.vip.is_every_port());
    refused.map_err(|(why, hint)| (format!("health check {}: {why}", health.name()), hint))
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
