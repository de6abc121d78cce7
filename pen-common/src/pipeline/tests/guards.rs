//! Access lists and limits, of services that have them.

use core::net::IpAddr;

use super::windows::{ACK, SYN};
use super::*;
use crate::abi::{Refused, ServiceEntry, access, limit_table, refused_record, service_flags};
use crate::host::sample::{ALLOWED, BURST, DENIED, LIMIT_PREFIXES};
use crate::parse::ICMP;

/// A packet of a client to a service: TCP with these control bits, or UDP.
fn from(client: IpAddr, client_port: u16, port: u16, bits: u8) -> Vec<u8> {
    let (protocol, payload) = if sample::is_tcp(port) {
        let mut segment = frames::tcp(client_port, port, b"");
        segment[13] = bits;
        (TCP, segment)
    } else {
        (UDP, frames::udp(client_port, port, b""))
    };
    match client {
        IpAddr::V4(client) => {
            link(&[]).frame(kind::IPV4, &frames::ipv4(client, VIP4, protocol, &[], 0, &payload))
        }
        IpAddr::V6(client) => {
            link(&[]).frame(kind::IPV6, &frames::ipv6(client, VIP6, protocol, 64, &payload))
        }
    }
}

/// What a list says of a client, the plain way: the longest prefix that it is in.
fn says(list: &[(u8, u32, u32)], client: u8) -> Option<u32> {
    let is_in = |last: u8, length: u32| u32::from(client ^ last) >> (32 - length) == 0;
    let found = list.iter().filter(|(last, length, _)| is_in(*last, *length)).max_by_key(|prefix| prefix.1);
    found.map(|prefix| prefix.2)
}

fn lets_in(list: &[(u8, u32, u32)], others: bool, client: u8) -> bool {
    says(list, client).map_or(others, |says| says == access::ALLOW)
}

/// Changes what packets find of the services of a port.
fn change_entries(tables: &mut HostTables, port: u16, change: impl Fn(&mut ServiceEntry)) {
    for half in &mut tables.directory.halves {
        half.entries.iter_mut().filter(|entry| entry.port == port.to_be()).for_each(&change);
    }
}

fn is_dropped(tables: &HostTables, frame: &[u8], why: Drop) -> bool {
    let (verdict, out) = run(tables, frame);
    match verdict {
        Verdict::Forwarded { .. } => false,
        Verdict::Dropped(reason) if reason == why => {
            assert_eq!(out, frame, "dropped and changed");
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_prefix_of_a_list_decides() {
    let tables = world();
    for (port, list, others) in [(port::ALLOWED, ALLOWED, false), (port::DENIED, DENIED, true)] {
        let mut seen = [0; 2];
        for number in 0..64 {
            let expected = lets_in(list, others, number);
            seen[usize::from(expected)] += 1;
            for client in sample::clients(number) {
                // The second packet is one of who is remembered, if he was let in.
                for packet in 0..2 {
                    let denied = is_dropped(&tables, &from(client, 1, port, SYN), Drop::Denied);
                    assert_eq!(denied, !expected, "{client} to port {port}, packet {packet}");
                }
            }
        }
        assert!(seen[0] > 4 && seen[1] > 4, "{seen:?}");
    }
}

#[test]
fn a_list_ends_what_was_remembered_before_it() {
    let tables = world();
    let service = sample::service_index(false, port::ALLOWED);
    let [client, _] = sample::clients(1);
    assert!(!is_dropped(&tables, &from(client, 1, port::ALLOWED, SYN), Drop::Denied));
    let mut tables = tables;
    tables.access.insert(service, vec![(client.into(), 128, access::DENY)]);
    assert!(is_dropped(&tables, &from(client, 1, port::ALLOWED, ACK), Drop::Denied));
}

#[test]
fn who_is_refused_is_counted_with_the_newest_client() {
    let tables = world();
    let service = sample::service_index(true, port::ALLOWED);
    for number in [40, 41, 42] {
        let [_, client] = sample::clients(number);
        run(&tables, &from(client, 1, port::ALLOWED, SYN));
    }
    tables.pass_seconds(9);
    let [_, client] = sample::clients(43);
    run(&tables, &from(client, 1, port::ALLOWED, SYN));
    let second = crate::track::now(&tables.directory, tables.jiffies.get());
    let expected = Refused { packets: 4, client: client.into(), second, reserved: 0 };
    assert_eq!(tables.refused.borrow().clone(), [(refused_record(service), expected)].into());
}

#[test]
fn a_prefix_sends_as_many_packets_as_its_bucket_holds() {
    for (family, prefix) in LIMIT_PREFIXES.into_iter().enumerate() {
        let tables = world();
        let client = |number: u8| sample::clients(number)[family];
        let limited = |client| is_dropped(&tables, &from(client, 1, port::PACKETS, ACK), Drop::RateLimited);
        let shared: u8 = 1 << if family == 0 { 32 - prefix } else { 128 - prefix };
        let mut let_through = 0;
        for round in 0..4 {
            for number in 0..shared {
                let_through += u32::from(!limited(client(number)));
                assert!(let_through <= BURST, "round {round}");
            }
        }
        assert_eq!(let_through, BURST, "of all clients of a prefix together");
        assert!(!limited(client(shared)), "the next prefix is another matter");
        let service = sample::service_index(family == 1, port::PACKETS);
        let refused = tables.refused.borrow()[&(refused_record(service) + 1)].packets;
        assert_eq!(refused, 4 * u64::from(shared) - u64::from(BURST));
    }
}

#[test]
fn a_client_opens_as_many_connections_as_its_bucket_holds_and_keeps_those_it_has() {
    for family in 0..2 {
        let tables = world();
        let limited = |number, client_port, bits| {
            let client = sample::clients(number)[family];
            is_dropped(&tables, &from(client, client_port, port::CONNECTIONS, bits), Drop::RateLimited)
        };
        for connection in 0..BURST as u16 {
            assert!(!limited(1, connection, SYN), "connection {connection}");
            for _ in 0..5 {
                assert!(!limited(1, connection, ACK), "what follows is not new");
            }
        }
        // The client is remembered, and so its packets take the short way: but a connection too many is one.
        assert!(limited(1, 100, SYN));
        assert!(limited(1, 101, SYN));
        assert!(!limited(1, 1, ACK));
        assert!(!limited(2, 1, SYN), "another client");
    }
}

#[test]
fn of_udp_what_nobody_remembers_is_a_new_flow() {
    for family in 0..2 {
        let tables = world();
        let limited = |client_port| {
            let client = sample::clients(1)[family];
            is_dropped(&tables, &from(client, client_port, port::FLOWS, 0), Drop::RateLimited)
        };
        for _ in 0..5 {
            for flow in 0..BURST as u16 {
                assert!(!limited(flow), "flow {flow}");
            }
        }
        assert!(limited(100), "a flow too many");
        assert_eq!(tables.tracked.borrow().len(), BURST as usize, "which is not remembered");
    }
}

/// What a list refuses and what is no packet to be served takes no token.
#[test]
fn the_list_is_asked_before_the_limits() {
    let tables = world();
    let [denied, _] = sample::clients(1);
    for _ in 0..9 {
        assert!(is_dropped(&tables, &from(denied, 1, port::GUARDED, SYN), Drop::Denied));
    }
    let table = limit_table(sample::service_index(false, port::GUARDED));
    for table in [table, table + 1] {
        assert!(tables.buckets[&table].written().is_empty(), "table {table}");
    }
    let [allowed, _] = sample::clients(4);
    for _ in 0..BURST {
        assert!(!is_dropped(&tables, &from(allowed, 1, port::GUARDED, SYN), Drop::RateLimited));
    }
    assert!(is_dropped(&tables, &from(allowed, 1, port::GUARDED, SYN), Drop::RateLimited));
}

/// A router, or whoever says that he is one.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// An error about what went to a client, with 8 bytes of it.
fn error(router: Ipv4Addr, client: u8, port: u16) -> Vec<u8> {
    let [IpAddr::V4(client), _] = sample::clients(client) else { unreachable!() };
    let protocol = if sample::is_tcp(port) { TCP } else { UDP };
    let quoted = frames::ipv4(VIP4, client, protocol, &[], 0, &frames::tcp(port, 1, b"")[..8]);
    let message = frames::icmp(3, 4, [0; 4], &quoted);
    link(&[]).frame(kind::IPV4, &frames::ipv4(router, VIP4, ICMP, &[], 0, &message))
}

#[test]
fn errors_come_in_as_the_client_does_unless_their_sender_is_denied() {
    let tables = world();
    for (port, list, others) in [(port::ALLOWED, ALLOWED, false), (port::DENIED, DENIED, true)] {
        for number in 0..64 {
            let denied = is_dropped(&tables, &error(ROUTER, number, port), Drop::Denied);
            assert_eq!(denied, !lets_in(list, others, number), "about client {number}");
            for sender in 0..64 {
                let [IpAddr::V4(router), _] = sample::clients(sender) else { unreachable!() };
                let denied = is_dropped(&tables, &error(router, number, port), Drop::Denied);
                let expected = says(list, sender) == Some(access::DENY) || !lets_in(list, others, number);
                assert_eq!(denied, expected, "about client {number} by {sender}");
            }
        }
    }
    let service = sample::service_index(false, port::ALLOWED);
    let [IpAddr::V4(denied), _] = sample::clients(9) else { unreachable!() };
    assert!(
        is_dropped(&tables, &error(denied, 1, port::ALLOWED), Drop::Denied),
        "about somebody who is let in"
    );
    let newest = tables.refused.borrow()[&refused_record(service)].client;
    assert_eq!(newest, denied.into(), "who sent it is told, not whom he quotes");
}

#[test]
fn errors_are_charged_to_who_sends_them() {
    let tables = world();
    let router = |number: u8| Ipv4Addr::new(198, 51, 100, number);
    // Of one client each time, who all share the prefix of nobody else.
    for number in 0..BURST as u8 {
        let frame = error(router(1), number * 16, port::PACKETS);
        assert!(!is_dropped(&tables, &frame, Drop::RateLimited));
    }
    assert!(is_dropped(&tables, &error(router(1), 200, port::PACKETS), Drop::RateLimited));
    assert!(
        !is_dropped(&tables, &error(router(65), 200, port::PACKETS), Drop::RateLimited),
        "another router"
    );
    let [client, _] = sample::clients(0);
    assert!(!is_dropped(&tables, &from(client, 1, port::PACKETS, ACK), Drop::RateLimited), "not the client");
    for _ in 0..9 {
        assert!(
            !is_dropped(&tables, &error(ROUTER, 1, port::CONNECTIONS), Drop::RateLimited),
            "packets only"
        );
        assert!(!is_dropped(&tables, &error(ROUTER, 1, port::FLOWS), Drop::RateLimited));
    }
}

/// What Linux hands to a server of its own, however many headers are before it, must not come from who is refused.
#[test]
fn extension_headers_lead_nobody_past_a_list_to_a_backend_on_this_host() {
    let mut tables = world();
    change_entries(&mut tables, port::LOCAL, |entry| entry.flags |= service_flags::LISTED);
    let service = sample::service_index(true, port::LOCAL);
    tables.access.insert(service, vec![(CLIENT6.into(), 128, access::DENY)]);
    let (mut next, mut payload) = (TCP, frames::tcp(40_000, port::LOCAL, b""));
    for headers in 0..=20 {
        let frame = link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, next, 64, &payload));
        let verdict = run(&tables, &frame).0;
        assert!(matches!(verdict, Verdict::Dropped(_)), "{headers} extension headers: {verdict:?}");
        payload = frames::extension(next, 0, &payload);
        next = 60;
    }
}

/// An IPv4-mapped source is of no IPv4 client (RFC 4942, 2.2): what IPv6 clients are asked, it is asked.
#[test]
fn a_mapped_source_is_a_client_of_ipv6() {
    let mut tables = world();
    let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
    let service = sample::service_index(true, port::DENIED);
    tables.access.insert(service, vec![(Ipv6Addr::UNSPECIFIED.into(), 0, access::DENY)]);
    assert!(is_dropped(&tables, &from(mapped, 1, port::DENIED, 0), Drop::Denied));
    let [_, client] = sample::clients(1);
    change_entries(&mut tables, port::PACKETS, |entry| entry.limit_prefix_v6 = 0);
    for _ in 0..BURST {
        assert!(!is_dropped(&tables, &from(client, 1, port::PACKETS, ACK), Drop::RateLimited));
    }
    assert!(
        is_dropped(&tables, &from(mapped, 1, port::PACKETS, ACK), Drop::RateLimited),
        "one bucket for all"
    );
}

/// A fragment of a datagram to a service: the first one with its ports, or the last one.
fn fragment(client: u8, id: u8, port: u16, is_first: bool) -> Vec<u8> {
    let [IpAddr::V4(client), _] = sample::clients(client) else { unreachable!() };
    let protocol = if sample::is_tcp(port) { TCP } else { UDP };
    let payload =
        if protocol == TCP { frames::tcp(1, port, &[0; 4]) } else { frames::udp(1, port, &[0; 24]) };
    let (flags, payload) = if is_first { (0x2000, payload) } else { (9, vec![0xaa; 40]) };
    let mut packet = frames::ipv4(client, VIP4, protocol, &[], flags, &payload);
    packet[5] = id;
    link(&[]).frame(kind::IPV4, &packet)
}

#[test]
fn each_fragment_is_a_packet_and_comes_in_as_its_client_does() {
    let mut tables = world();
    assert!(!is_dropped(&tables, &fragment(1, 1, port::ALLOWED, true), Drop::Denied));
    assert!(!is_dropped(&tables, &fragment(1, 1, port::ALLOWED, false), Drop::Denied));
    let service = sample::service_index(false, port::ALLOWED);
    tables.access.insert(service, vec![]);
    assert!(is_dropped(&tables, &fragment(1, 1, port::ALLOWED, false), Drop::Denied), "a new list");
    assert!(!is_dropped(&tables, &fragment(1, 2, port::PACKETS, true), Drop::RateLimited));
    for _ in 1..BURST {
        assert!(!is_dropped(&tables, &fragment(1, 2, port::PACKETS, false), Drop::RateLimited));
    }
    assert!(is_dropped(&tables, &fragment(1, 2, port::PACKETS, false), Drop::RateLimited));
}

/// A first fragment that did not come in is not waited for: the rest is of no use to anybody.
#[test]
fn what_follows_a_refused_fragment_is_of_an_unknown_datagram() {
    let mut tables = world();
    change_entries(&mut tables, port::CONNECTIONS, |entry| entry.flags |= service_flags::PASS_WHEN_EMPTY);
    assert!(is_dropped(&tables, &fragment(40, 1, port::ALLOWED, true), Drop::Denied));
    assert!(is_dropped(&tables, &fragment(40, 1, port::ALLOWED, false), Drop::FragmentWithoutFirst));
    for id in 0..BURST as u8 {
        assert!(!is_dropped(&tables, &fragment(1, id, port::CONNECTIONS, true), Drop::RateLimited));
    }
    assert!(is_dropped(&tables, &fragment(1, 99, port::CONNECTIONS, true), Drop::RateLimited));
    assert!(is_dropped(&tables, &fragment(1, 99, port::CONNECTIONS, false), Drop::FragmentWithoutFirst));
}
