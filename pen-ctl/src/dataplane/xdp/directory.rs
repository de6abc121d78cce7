//! Services and interfaces, to and from what one half of map `directory` holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use pen_common::abi::{
    Address, DirectoryHalf, Interface, Limit, ServiceEntry, entry_kind, interface_flags, service_flags,
    vip_flags,
};
use pen_common::mac;
use pen_common::service::{self, BuildError, TCP, UDP};

use crate::dataplane::{
    AccessList, Affinity, AttachMode, InterfaceTarget, Mac, OnEmpty, Prefixes, Protocol, Rate, RateLimit,
    Scheduler, ServiceKey, ServiceSettings, Tracking,
};

/// Where the search for a hash seed starts: fixed, so that equal services give equal bytes.
const FIRST_SEED: u64 = 0x70656e;

/// Services by key, as their directory entries.
pub(super) type Services = BTreeMap<ServiceKey, ServiceEntry>;

/// Writes a half that holds these services, their VIPs and these interfaces.
pub(super) fn encode(
    services: &Services,
    interfaces: &[Interface],
) -> Result<Box<DirectoryHalf>, BuildError> {
    let mut entries: Vec<ServiceEntry> = services.values().copied().collect();
    let vips: BTreeSet<Address> = services.values().map(|entry| entry.address).collect();
    entries.extend(vips.into_iter().map(|address| vip_entry(address, services)));
    let mut half = Box::new(DirectoryHalf::EMPTY);
    service::build(&mut half, &entries, interfaces, FIRST_SEED)?;
    Ok(half)
}

/// The services that packets really find in this half: each under its own key, its VIP beside it.
pub(super) fn decode(half: &DirectoryHalf) -> Services {
    let listed: Services = half
        .entries
        .iter()
        .filter(|entry| entry.kind == entry_kind::SERVICE)
        .filter_map(|entry| Some((key_of(entry)?, *entry)))
        .collect();
    let found = |entry: &ServiceEntry| {
        // Who is told there is no VIP asks no further.
        (!service::is_no_vip(half, &entry.address)).then_some(())?;
        let vip = service::vip(half, &entry.address)?;
        (*vip == vip_entry(entry.address, &listed)).then_some(())?;
        service::service(half, &entry.address, entry.port, entry.protocol)
    };
    listed
        .iter()
        .filter(|(_, entry)| found(entry) == Some(*entry))
        .map(|(key, entry)| (*key, *entry))
        .collect()
}

/// Where the entry of a service stands in a half.
pub(super) fn position(half: &DirectoryHalf, key: &ServiceKey) -> Option<usize> {
    half.entries.iter().position(|entry| entry.kind == entry_kind::SERVICE && key_of(entry) == Some(*key))
}

/// The directory entry of a service.
pub(super) fn entry_of(
    address: IpAddr,
    key: &ServiceKey,
    settings: &ServiceSettings,
    id: u16,
    table_half: u32,
    ticks: u64,
) -> ServiceEntry {
    let limits = settings.rate_limit;
    let limit = |rate: fn(RateLimit) -> Option<Rate>| {
        limits.and_then(rate).map_or(Limit::default(), |rate| limit_of(rate, ticks))
    };
    ServiceEntry {
        address: address.into(),
        port: key.port.to_be(),
        protocol: protocol_number(key.protocol),
        kind: entry_kind::SERVICE,
        service: id,
        flags: flags_of(settings),
        table_half,
        tracking_timeout: seconds(settings.tracking_timeout),
        transition: seconds(settings.transition),
        packets: limit(|limits| limits.packets),
        flows: limit(|limits| limits.flows),
        limit_prefix_v4: limits.map_or(0, |limits| limits.prefix_v4),
        limit_prefix_v6: limits.map_or(0, |limits| limits.prefix_v6),
        ..ServiceEntry::EMPTY
    }
}

/// The settings that an entry says. Affinity `none` and affinity `flow` without tracking are the same bits; rates are
/// rounded; of an access list it says only that there is one: [`unknown_list`].
pub(super) fn settings_of(entry: &ServiceEntry, ticks: u64) -> ServiceSettings {
    let has = |flag: u16| entry.flags & flag != 0;
    let tracking = if has(service_flags::TRACK_FULL) {
        Tracking::Full
    } else if has(service_flags::TRACK_TRANSITIONS) {
        Tracking::Transitions
    } else {
        Tracking::Off
    };
    let affinity = match (has(service_flags::AFFINITY_FLOW), tracking) {
        (false, _) => Affinity::Client,
        (true, Tracking::Off) => Affinity::None,
        (true, _) => Affinity::Flow,
    };
    ServiceSettings {
        affinity,
        scheduler: if has(service_flags::ROUND_ROBIN) { Scheduler::RoundRobin } else { Scheduler::Maglev },
        tracking,
        tracking_timeout: Duration::from_secs(entry.tracking_timeout.into()),
        transition: Duration::from_secs(entry.transition.into()),
        on_empty: if has(service_flags::PASS_WHEN_EMPTY) { OnEmpty::Pass } else { OnEmpty::Drop },
        access: if has(service_flags::LISTED) { unknown_list() } else { AccessList::default() },
        rate_limit: rate_limit_of(entry, ticks),
        proxy: None,
    }
}

/// Stands for a list that we did not put in place: one that nobody can want, as the same prefix is in both of its parts.
pub(super) fn unknown_list() -> AccessList {
    let all = Prefixes::from_iter([IpNet::V4(Default::default())]);
    AccessList { allow: all.clone(), deny: all }
}

/// Stands for limits that are not what the entry says: none that anybody can want, as nobody gets anything.
pub(super) fn unknown_limits() -> RateLimit {
    let none = Some(Rate { per_second: 0, burst: 0 });
    RateLimit { packets: none, flows: none, prefix_v4: 0, prefix_v6: 0 }
}

/// The limits that an entry says.
fn rate_limit_of(entry: &ServiceEntry, ticks: u64) -> Option<RateLimit> {
    let rate = |flag: u16, limit: Limit| (entry.flags & flag != 0).then(|| rate_of(limit, ticks));
    let packets = rate(service_flags::LIMITS_PACKETS, entry.packets);
    let flows = rate(service_flags::LIMITS_FLOWS, entry.flows);
    let (prefix_v4, prefix_v6) = (entry.limit_prefix_v4, entry.limit_prefix_v6);
    (packets.is_some() || flows.is_some()).then_some(RateLimit { packets, flows, prefix_v4, prefix_v6 })
}

/// A token's cost is the time in which one comes.
fn limit_of(rate: Rate, ticks: u64) -> Limit {
    Limit { cost: each(rate.per_second, ticks), burst: rate.burst }
}

fn rate_of(limit: Limit, ticks: u64) -> Rate {
    Rate { per_second: each(limit.cost, ticks), burst: limit.burst }
}

/// A second in units of time, of which a jiffy has 2²⁰, divided by this and rounded; at least one.
fn each(divisor: u32, ticks: u64) -> u32 {
    let (second, divisor) = (ticks << 20, u64::from(divisor.max(1)));
    u32::try_from(((second + divisor / 2) / divisor).max(1)).unwrap_or(u32::MAX)
}

/// The directory's record of an interface, with what is to be undone there after detaching ([`interface_flags::STRIPPED`]).
pub(super) fn interface_of(target: &InterfaceTarget, stripped: u64) -> Interface {
    let announce = if target.announce { interface_flags::ANNOUNCE } else { 0 };
    Interface {
        word: mac::word(target.mac.0) | announce | stripped & interface_flags::STRIPPED,
        master_mac: mac::word(target.master_mac.unwrap_or(target.mac).0),
        ifindex: target.ifindex,
        reserved: 0,
    }
}

/// What a record says of an interface that is attached in `mode`.
pub(super) fn target_of(interface: &Interface, mode: AttachMode) -> InterfaceTarget {
    let master = interface.master_mac & pen_common::abi::MAC_MASK;
    InterfaceTarget {
        ifindex: interface.ifindex,
        mac: Mac(mac::bytes(interface.mac())),
        master_mac: (master != interface.mac()).then(|| Mac(mac::bytes(master))),
        mode,
        announce: interface.announces(),
    }
}

/// The entry of a VIP that these services share; announced as long as any of them holds it.
fn vip_entry(address: Address, services: &Services) -> ServiceEntry {
    let any_port = |protocol: u8| {
        services
            .values()
            .any(|entry| entry.address == address && entry.port == 0 && entry.protocol == protocol)
    };
    let mut flags = vip_flags::ANNOUNCE;
    if any_port(TCP) {
        flags |= vip_flags::ANY_TCP;
    }
    if any_port(UDP) {
        flags |= vip_flags::ANY_UDP;
    }
    ServiceEntry { address, kind: entry_kind::VIP, flags, ..ServiceEntry::default() }
}

/// The key that an entry says; `None` for a protocol that no service has.
fn key_of(entry: &ServiceEntry) -> Option<ServiceKey> {
    let protocol = match entry.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    Some(ServiceKey { address: entry.address.to_ip().into(), port: u16::from_be(entry.port), protocol })
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

fn flags_of(settings: &ServiceSettings) -> u16 {
    let affinity = match settings.affinity {
        Affinity::Client => 0,
        Affinity::Flow | Affinity::None => service_flags::AFFINITY_FLOW,
    };
    let tracking = match (settings.affinity, settings.tracking) {
        (Affinity::None, _) | (_, Tracking::Off) => 0,
        (_, Tracking::Full) => service_flags::TRACK_FULL,
        (_, Tracking::Transitions) => service_flags::TRACK_TRANSITIONS,
    };
    let empty = match settings.on_empty {
        OnEmpty::Drop => 0,
        OnEmpty::Pass => service_flags::PASS_WHEN_EMPTY,
    };
    let scheduler = match settings.scheduler {
        // Rules keep connections from being counted where there are none.
        Scheduler::Maglev | Scheduler::LeastConnections => 0,
        Scheduler::RoundRobin => service_flags::ROUND_ROBIN,
    };
    affinity | tracking | empty | scheduler | guard_flags(settings)
}

fn guard_flags(settings: &ServiceSettings) -> u16 {
    let when = |condition: bool, flag: u16| if condition { flag } else { 0 };
    when(!settings.access.is_empty(), service_flags::LISTED)
        | when(!settings.access.allow.is_empty(), service_flags::LISTED_ONLY)
        | when(
            settings.rate_limit.is_some_and(|limits| limits.packets.is_some()),
            service_flags::LIMITS_PACKETS,
        )
        | when(settings.rate_limit.is_some_and(|limits| limits.flows.is_some()), service_flags::LIMITS_FLOWS)
}

/// Whole seconds, rounded up: only zero itself becomes 0, which has a meaning of its own.
fn seconds(duration: Duration) -> u32 {
    let rounded = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
