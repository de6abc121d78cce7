//! A small world to test in: two VIPs of each family, and a service for every case that the pipeline knows.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HostTables, Lines};
use crate::abi::{
    Backend, Interface, Limit, NO_BACKEND, RING_TURNS, ServiceEntry, Slot, access, backend_flags, entry_kind,
    interface_flags, limit_table, service_flags, vip_flags,
};
use crate::service::{BuildError, TCP, UDP};
use crate::{mac, ring};

/// The interface that frames come in by (`lo` of a namespace, when the kernel runs the test).
pub const INGRESS: u32 = 1;
/// Another attached interface.
pub const OTHER: u32 = 7;
/// An interface that is not attached.
pub const UNATTACHED: u32 = 9;
/// MAC of the ingress interface.
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC of the bond or bridge it belongs to.
pub const MASTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// MAC of the other interface.
pub const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// MAC of the router that clients are behind.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// The VIP that has all services.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The same for IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
/// A VIP that is not announced and has no service.
pub const QUIET4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 101);
/// The same for IPv6.
pub const QUIET6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x101);
/// What keys its choice of slots.
pub const SEED: u64 = 0x5eed;
/// Backends of each ordinary service.
pub const BACKENDS: u16 = 3;

/// What is special about a service, by its port.
pub mod port {
    /// TCP, affinity `client`, tracking `full`.
    pub const WEB: u16 = 80;
    /// UDP, affinity `flow`, tracking `full`.
    pub const DNS: u16 = 53;
    /// TCP, affinity `flow`, tracking `off`.
    pub const STATELESS: u16 = 443;
    /// TCP, affinity `client`, tracking `transitions`; slots in all phases.
    pub const TRANSITIONS: u16 = 8080;
    /// TCP, nobody serving, dropped.
    pub const EMPTY_DROP: u16 = 81;
    /// TCP, nobody serving, passed.
    pub const EMPTY_PASS: u16 = 82;
    /// TCP, backends on this host.
    pub const LOCAL: u16 = 83;
    /// TCP, backends on VLAN 5.
    pub const VLAN: u16 = 84;
    /// TCP, backends on VLAN 5 within VLAN 6.
    pub const DOUBLE_VLAN: u16 = 85;
    /// TCP, backends behind the other interface.
    pub const OTHER: u16 = 86;
    /// TCP, backends behind an interface that is not attached.
    pub const UNATTACHED: u16 = 87;
    /// TCP, owners down, previous owners up.
    pub const PREVIOUS: u16 = 88;
    /// TCP, owners' indexes retired.
    pub const RETIRED: u16 = 89;
    /// TCP, backends draining only: they keep the clients they have.
    pub const DRAINING: u16 = 90;
    /// TCP, round-robin, affinity `client`; the first backend has twice the turns.
    pub const TURNS: u16 = 91;
    /// UDP, round-robin, affinity `flow`; the first backend has twice the turns.
    pub const FLOW_TURNS: u16 = 92;
    /// UDP, affinity `flow`, tracking `transitions`; slots in all phases.
    pub const FLOW_TRANSITIONS: u16 = 93;
    /// UDP, affinity `client`, tracking `full`.
    pub const DATAGRAMS: u16 = 94;
    /// UDP, affinity `client`, tracking `full`; backends on VLAN 5.
    pub const VLAN_DATAGRAMS: u16 = 95;
    /// The same; backends on VLAN 5 within VLAN 6.
    pub const DOUBLE_VLAN_DATAGRAMS: u16 = 96;
    /// TCP, affinity `client`, tracking `full`; only who is listed comes in ([`super::ALLOWED`]).
    pub const ALLOWED: u16 = 97;
    /// UDP, affinity `flow`, tracking `full`; who is listed is kept out ([`super::DENIED`]).
    pub const DENIED: u16 = 98;
    /// TCP, affinity `client`, tracking `full`; [`super::BURST`] packets of each prefix.
    pub const PACKETS: u16 = 99;
    /// TCP, affinity `client`, tracking `full`; [`super::BURST`] connections of each client.
    pub const CONNECTIONS: u16 = 100;
    /// UDP, affinity `flow`, tracking `full`; [`super::BURST`] new flows of each prefix.
    pub const FLOWS: u16 = 101;
    /// TCP, affinity `flow`, tracking `off`; the list of [`DENIED`], and both limits.
    pub const GUARDED: u16 = 102;
    /// UDP, every other port, affinity `client`, tracking `full`.
    pub const EVERY: u16 = 0;
}

/// Seconds after which the sample's services forget.
pub const TIMEOUT: u32 = 60;
/// Seconds for which their slots' windows stay open.
pub const TRANSITION: u32 = 600;

/// Tokens of the limited services' buckets. They cost so much that none comes back for many seconds: what a test decides
/// by them does not depend on how fast it runs.
pub const BURST: u32 = 2;
/// Leading bits of a client's address that share a bucket, IPv4 and IPv6, but with [`port::CONNECTIONS`], where none do.
pub const LIMIT_PREFIXES: [u8; 2] = [28, 124];

/// One list's prefixes: their last number, their length, and what is said of them. Clients are `192.0.2.N` and `2001:db8:1::N`.
type List = [(u8, u32, u32)];
/// A network that may come in but for a part of it, of which one client may.
pub const ALLOWED: &List = &[(0, 27, access::ALLOW), (8, 29, access::DENY), (10, 32, access::ALLOW)];
/// A network that may not come in but for a part of it, of which one client may not.
pub const DENIED: &List = &[(0, 28, access::DENY), (4, 30, access::ALLOW), (6, 32, access::DENY)];

/// Services of each family.
pub const SERVICE_COUNT: u16 = SERVICES.len() as u16;

/// Every service: its port, protocol and flags.
const SERVICES: [(u16, u8, u16); 27] = {
    use service_flags::{
        AFFINITY_FLOW, LIMITS_FLOWS, LIMITS_PACKETS, LISTED, LISTED_ONLY, PASS_WHEN_EMPTY, ROUND_ROBIN,
        TRACK_FULL, TRACK_TRANSITIONS,
    };
    [
        (port::WEB, TCP, TRACK_FULL),
        (port::DNS, UDP, TRACK_FULL | AFFINITY_FLOW),
        (port::STATELESS, TCP, AFFINITY_FLOW),
        (port::TRANSITIONS, TCP, TRACK_TRANSITIONS),
        (port::EMPTY_DROP, TCP, TRACK_FULL),
        (port::EMPTY_PASS, TCP, TRACK_FULL | PASS_WHEN_EMPTY),
        (port::LOCAL, TCP, TRACK_FULL),
        (port::VLAN, TCP, TRACK_FULL),
        (port::DOUBLE_VLAN, TCP, 0),
        (port::OTHER, TCP, TRACK_FULL),
        (port::UNATTACHED, TCP, TRACK_FULL),
        (port::PREVIOUS, TCP, TRACK_FULL),
        (port::RETIRED, TCP, TRACK_FULL),
        (port::DRAINING, TCP, TRACK_FULL),
        (port::TURNS, TCP, TRACK_FULL | ROUND_ROBIN),
        (port::FLOW_TURNS, UDP, TRACK_FULL | ROUND_ROBIN | AFFINITY_FLOW),
        (port::FLOW_TRANSITIONS, UDP, TRACK_TRANSITIONS | AFFINITY_FLOW),
        (port::DATAGRAMS, UDP, TRACK_FULL),
        (port::VLAN_DATAGRAMS, UDP, TRACK_FULL),
        (port::DOUBLE_VLAN_DATAGRAMS, UDP, TRACK_FULL),
        (port::ALLOWED, TCP, TRACK_FULL | LISTED | LISTED_ONLY),
        (port::DENIED, UDP, TRACK_FULL | AFFINITY_FLOW | LISTED),
        (port::PACKETS, TCP, TRACK_FULL | LIMITS_PACKETS),
        (port::CONNECTIONS, TCP, TRACK_FULL | LIMITS_FLOWS),
        (port::FLOWS, UDP, TRACK_FULL | AFFINITY_FLOW | LIMITS_FLOWS),
        (port::GUARDED, TCP, AFFINITY_FLOW | LISTED | LIMITS_PACKETS | LIMITS_FLOWS),
        (port::EVERY, UDP, TRACK_FULL),
    ]
};

/// Whether the service of a port is one of TCP; one of UDP else.
pub fn is_tcp(port: u16) -> bool {
    SERVICES.iter().any(|&(other, protocol, _)| other == port && protocol == TCP)
}

/// Ports of the sample's services, and one that has none.
pub fn ports() -> impl Iterator<Item = u16> {
    SERVICES.iter().map(|&(port, ..)| port).chain([999])
}

/// The MAC of a service's backend of this number.
pub const fn backend_mac(service: u16, number: u16) -> [u8; 6] {
    [2, 0, 0, 1, service as u8, number as u8]
}

/// The index of a service, by its family and port.
pub fn service_index(v6: bool, port: u16) -> u16 {
    let position = SERVICES.iter().position(|&(other, ..)| other == port).unwrap_or_default() as u16;
    position + if v6 { SERVICE_COUNT } else { 0 }
}

/// The world.
///
/// # Errors
/// As [`crate::service::build`]; never.
pub fn tables() -> Result<HostTables, BuildError> {
    let mut tables = HostTables::default();
    tables.directory.seed = SEED;
    let mut entries = vec![
        vip(VIP4, vip_flags::ANNOUNCE | vip_flags::ANY_UDP),
        vip(VIP6, vip_flags::ANNOUNCE | vip_flags::ANY_UDP),
        vip(QUIET4, 0),
        vip(QUIET6, 0),
    ];
    for address in [IpAddr::V4(VIP4), IpAddr::V6(VIP6)] {
        for (port, protocol, flags) in SERVICES {
            let service = service_index(address.is_ipv6(), port);
            entries.push(ServiceEntry {
                address: address.into(),
                port: port.to_be(),
                protocol,
                kind: entry_kind::SERVICE,
                service,
                flags,
                table_half: u32::from(service % 2),
                tracking_timeout: TIMEOUT,
                transition: TRANSITION,
                packets: limit(flags, service_flags::LIMITS_PACKETS),
                flows: limit(flags, service_flags::LIMITS_FLOWS),
                limit_prefix_v4: if port == port::CONNECTIONS { 32 } else { LIMIT_PREFIXES[0] },
                limit_prefix_v6: if port == port::CONNECTIONS { 128 } else { LIMIT_PREFIXES[1] },
                ..ServiceEntry::EMPTY
            });
            add_backends(&mut tables, service, port);
            add_guards(&mut tables, service, port, flags);
        }
    }
    tables.set_directory(
        &entries,
        &[interface(INGRESS, OWN_MAC, MASTER_MAC), interface(OTHER, OTHER_MAC, OTHER_MAC)],
    )?;
    Ok(tables)
}

fn vip(address: impl Into<IpAddr>, flags: u16) -> ServiceEntry {
    ServiceEntry { address: address.into().into(), kind: entry_kind::VIP, flags, ..ServiceEntry::default() }
}

fn interface(ifindex: u32, own: [u8; 6], master: [u8; 6]) -> Interface {
    Interface {
        word: mac::word(own) | interface_flags::ANNOUNCE,
        master_mac: mac::word(master),
        ifindex,
        reserved: 0,
    }
}

/// The limit of a service that has this one among its flags.
fn limit(flags: u16, limited: u16) -> Limit {
    if flags & limited == 0 { Limit::default() } else { Limit { cost: u32::MAX, burst: BURST } }
}

/// Gives a service its access list and its tables of buckets, as its port and flags say.
fn add_guards(tables: &mut HostTables, service: u16, port: u16, flags: u16) {
    if flags & service_flags::LISTED != 0 {
        let v6 = service >= SERVICE_COUNT;
        let prefix = |&(last, length, says): &(u8, u32, u32)| {
            (clients(last)[usize::from(v6)].into(), length + 96, says)
        };
        let list = if port == port::ALLOWED { ALLOWED } else { DENIED };
        tables.access.insert(service, list.iter().map(prefix).collect());
    }
    let table = limit_table(service);
    for (limits, table) in [(service_flags::LIMITS_PACKETS, table), (service_flags::LIMITS_FLOWS, table + 1)]
    {
        if flags & limits != 0 {
            tables.buckets.insert(table, Lines::default());
        }
    }
}

/// The clients of a number, of both families.
pub fn clients(number: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(192, 0, 2, number);
    [v4.into(), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number.into()).into()]
}

/// Has more than so many newcomers a second be a flood.
pub fn flood_from(tables: &mut HostTables, newcomers: u32) {
    (tables.directory.flood_per_cpu, tables.directory.flood_in_all) = (newcomers, u32::MAX);
    tables.inserts = Some(Lines::default());
}

/// Gives a service its backends and its slots, as its port says.
fn add_backends(tables: &mut HostTables, service: u16, port: u16) {
    use backend_flags::{HEALTH_KNOWN, HEALTH_UP, IN_USE, LOCAL, RETIRED, SERVING, USABLE};
    let up = IN_USE | USABLE | SERVING | HEALTH_KNOWN | HEALTH_UP;
    let flags = match port {
        port::LOCAL => up | LOCAL,
        port::RETIRED => IN_USE | RETIRED,
        port::PREVIOUS => IN_USE | HEALTH_KNOWN,
        port::DRAINING => IN_USE | USABLE | HEALTH_KNOWN | HEALTH_UP,
        _ => up,
    };
    let (vlan, ifindex) = match port {
        port::VLAN | port::VLAN_DATAGRAMS => (5, INGRESS),
        port::DOUBLE_VLAN | port::DOUBLE_VLAN_DATAGRAMS => (6 | 5 << 16, INGRESS),
        port::OTHER => (0, OTHER),
        port::UNATTACHED => (0, UNATTACHED),
        _ => (0, INGRESS),
    };
    let mut add = |number, flags| {
        tables.add_backend(Backend {
            word: mac::word(backend_mac(service, number)) | flags,
            ifindex,
            vlan,
            generation: 100 + service,
            service,
            ..Backend::default()
        })
    };
    let owners: Vec<u16> = (0..BACKENDS).map(|number| add(number, flags)).collect();
    let previous = if port == port::PREVIOUS { add(BACKENDS, up) } else { NO_BACKEND };
    let empty = matches!(port, port::EMPTY_DROP | port::EMPTY_PASS);
    let half = u32::from(service % 2);
    tables.share_slots(service, half, if empty { &[] } else { &owners });
    if matches!(port, port::TURNS | port::FLOW_TURNS) {
        let (mut round, mut credits) = ([0; RING_TURNS], [0; BACKENDS as usize]);
        let length = ring::build(&[2, 1, 1], &mut round, &mut credits);
        let turns = round[..length].iter().map(|turn| owners[usize::from(*turn)]);
        tables.rounds.insert((service, half), turns.collect());
    }
    let slots = tables.slots.get_mut(&(service, half)).into_iter().flatten();
    for (number, slot) in slots.enumerate() {
        *slot = match port {
            port::TRANSITIONS | port::FLOW_TRANSITIONS => in_some_phase(number, *slot, &owners),
            _ => Slot { previous, ..*slot },
        };
    }
}

/// A slot that is unmarked, open or closing, by its number; then its owner was another of these before.
fn in_some_phase(number: usize, slot: Slot, owners: &[u16]) -> Slot {
    let opened = Slot::owned_by(owners[(number + 1) % owners.len()]).given_to(slot.owner, 0, TRANSITION);
    match number / 7 % 3 {
        0 => slot,
        1 => opened,
        _ => opened.at(TRANSITION, None, TRANSITION),
    }
}
