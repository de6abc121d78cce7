//! Services and interfaces, to and from what one half of map `directory` holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use pen_common::abi::{
    Address, DirectoryHalf, Interface, ServiceEntry, entry_kind, interface_flags, service_flags, vip_flags,
};
use pen_common::mac;
use pen_common::service::{self, BuildError, TCP, UDP};

use crate::dataplane::{
    AccessList, Affinity, AttachMode, InterfaceTarget, Mac, OnEmpty, Protocol, Scheduler, ServiceKey,
    ServiceSettings, Tracking,
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
        service::service(half, vip, &entry.address, entry.port, entry.protocol)
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
) -> ServiceEntry {
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
        ..ServiceEntry::EMPTY
    }
}

/// The settings that an entry says. Affinity `none` and affinity `flow` without tracking are the same bits.
pub(super) fn settings_of(entry: &ServiceEntry) -> ServiceSettings {
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
        access: AccessList::default(),
        rate_limit: None,
        proxy: None,
    }
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
    affinity | tracking | empty | scheduler
}

/// Whole seconds, rounded up: only zero itself becomes 0, which has a meaning of its own.
fn seconds(duration: Duration) -> u32 {
    let rounded = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = ServiceKey> {
        let address = prop_oneof![
            (0u8..4).prop_map(|last| IpAddr::from([10, 0, 0, last])),
            (0u16..4).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
        ];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        (address, 0u16..3, protocol).prop_map(|(address, port, protocol)| ServiceKey {
            address: address.into(),
            port,
            protocol,
        })
    }

    fn settings() -> impl Strategy<Value = ServiceSettings> {
        let affinity = prop_oneof![Just(Affinity::Client), Just(Affinity::Flow)];
        let tracking = prop_oneof![Just(Tracking::Full), Just(Tracking::Transitions)];
        let scheduler = prop_oneof![Just(Scheduler::Maglev), Just(Scheduler::RoundRobin)];
        (affinity, scheduler, tracking, 0u64..1000, 0u64..1000, any::<bool>()).prop_map(
            |(affinity, scheduler, tracking, timeout, transition, pass)| ServiceSettings {
                affinity,
                scheduler,
                tracking,
                tracking_timeout: Duration::from_secs(timeout),
                transition: Duration::from_secs(transition),
                on_empty: if pass { OnEmpty::Pass } else { OnEmpty::Drop },
                access: AccessList::default(),
                rate_limit: None,
                proxy: None,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_found_again(
            wanted in proptest::collection::btree_map(keys(), (settings(), any::<u16>(), 0u32..2), 0..30),
        ) {
            let services: Services = wanted
                .iter()
                .map(|(key, (settings, id, half))| (*key, entry_of(key.ip().unwrap(), key, settings, *id, *half)))
                .collect();
            let half = encode(&services, &[]).unwrap();
            prop_assert_eq!(&decode(&half), &services);
            for (key, (settings, ..)) in wanted {
                prop_assert_eq!(settings_of(&services[&key]), settings);
                prop_assert_eq!(half.entries[position(&half, &key).unwrap()], services[&key]);
            }
        }
    }

    #[test]
    fn a_service_whose_vip_was_damaged_is_not_found() {
        let key = ServiceKey { address: [10, 0, 0, 1].into(), port: 80, protocol: Protocol::Tcp };
        let entry = ServiceEntry {
            address: key.ip().unwrap().into(),
            port: 80u16.to_be(),
            protocol: TCP,
            kind: entry_kind::SERVICE,
            ..Default::default()
        };
        let mut half = encode(&Services::from([(key, entry)]), &[]).unwrap();
        assert_eq!(decode(&half).len(), 1);
        for entry in half.entries.iter_mut().filter(|entry| entry.kind == entry_kind::VIP) {
            entry.flags = 0;
        }
        assert_eq!(decode(&half).len(), 0);
    }

    #[test]
    fn a_fraction_of_a_second_is_not_forever() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::ZERO), 0);
    }
}
