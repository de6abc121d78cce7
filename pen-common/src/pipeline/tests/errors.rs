//! ICMP errors: to the very backend of the flow they quote, and without a trace.

use super::memory::turn_slots;
use super::windows::{ACK, SYN, changed, number, remembered, segment};
use super::*;
use crate::parse::{ICMP, ICMPV6};

/// An error about what the VIP sent from this port to the client's.
fn error4(protocol: u8, port: u16, client_port: u16) -> Vec<u8> {
    let sent = if protocol == TCP {
        frames::tcp(port, client_port, b"")
    } else {
        frames::udp(port, client_port, b"")
    };
    let quoted = frames::ipv4(VIP4, CLIENT4, protocol, &[], 0x4000, &sent[..8]);
    let message = frames::icmp(3, 4, [0, 0, 5, 0x78], &quoted);
    let router = Ipv4Addr::new(198, 51, 100, 7);
    link(&[]).frame(kind::IPV4, &frames::ipv4(router, VIP4, ICMP, &[], 0, &message))
}

fn error6(port: u16) -> Vec<u8> {
    let quoted = frames::ipv6(VIP6, CLIENT6, TCP, 64, &frames::tcp(port, 40_000, b"")[..8]);
    let router = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
    let message = frames::icmpv6(router, VIP6, 2, 0, [0, 0, 5, 0], &quoted);
    link(&[]).frame(kind::IPV6, &frames::ipv6(router, VIP6, ICMPV6, 64, &message))
}

/// All that packets write, but the clock.
fn written(tables: &HostTables) -> impl PartialEq + std::fmt::Debug + use<> {
    let fragments = tables.fragments.written();
    (tables.tracked.borrow().clone(), tables.taken.borrow().clone(), tables.inserted.get(), fragments)
}

#[test]
fn an_error_goes_where_its_flow_is_remembered_and_not_where_its_slot_says() {
    let mut tables = world();
    let before = number(&tables, &segment(40_000, port::WEB, SYN));
    let run_v6 = |tables: &HostTables, frame: &[u8]| match run(tables, frame).0 {
        Verdict::Forwarded { backend, .. } => backend,
        other => panic!("{other:?}"),
    };
    let before6 = run_v6(&tables, &tcp6(&link(&[]), VIP6, port::WEB));
    for v6 in [false, true] {
        turn_slots(&mut tables, v6, port::WEB);
    }
    tables.pass_seconds(5);
    let memory = written(&tables);
    assert_eq!(number(&tables, &error4(TCP, port::WEB, 40_000)), before);
    assert_eq!(run_v6(&tables, &error6(port::WEB)), before6);
    assert_eq!(written(&tables), memory, "an error keeps nobody's memory alive");
}

#[test]
fn with_affinity_flow_each_flow_has_its_own_errors() {
    let mut tables = world();
    let query = |client_port| {
        let udp = frames::udp(client_port, port::DNS, b"query");
        link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &udp))
    };
    let before: Vec<u16> = (1..30).map(|client_port| number(&tables, &query(client_port))).collect();
    assert!(before.contains(&0) && before.contains(&1) && before.contains(&2));
    turn_slots(&mut tables, false, port::DNS);
    let after: Vec<u16> =
        (1..30).map(|client_port| number(&tables, &error4(UDP, port::DNS, client_port))).collect();
    assert_eq!(after, before);
}

#[test]
fn an_error_about_who_is_not_remembered_goes_by_its_slot_and_leaves_no_memory() {
    for (protocol, port) in [(TCP, port::WEB), (UDP, port::DNS), (TCP, port::TURNS), (TCP, port::TRANSITIONS)]
    {
        let tables = world();
        let by_slot = number(&tables, &error4(protocol, port, 40_000));
        assert_eq!(remembered(&tables), 0, "port {port}");
        assert!(tables.taken.borrow().is_empty(), "port {port} took a turn");
        if protocol == TCP && port != port::TURNS {
            assert_eq!(number(&tables, &segment(40_000, port, ACK)), by_slot, "port {port}");
        }
    }
}

/// The flow is older than the error: what nobody remembers was the previous owner's.
#[test]
fn in_an_open_window_it_goes_to_the_owner_before() {
    for port in [port::TRANSITIONS, port::WEB] {
        let tables = changed(port);
        assert_eq!(number(&tables, &error4(TCP, port, 40_000)), 0);
        assert_eq!(remembered(&tables), 0);
        assert_eq!(number(&tables, &segment(40_001, port, SYN)), 1);
    }
}

#[test]
fn a_backend_cannot_send_errors_to_its_own_service() {
    let mut error = error4(TCP, port::WEB, 40_000);
    error[6..12].copy_from_slice(&sample::backend_mac(sample::service_index(false, port::WEB), 1));
    assert_unchanged("from a backend", &error, Verdict::Dropped(Drop::Loop));
}

#[test]
fn an_error_cut_off_anywhere_is_never_forwarded_nor_changed() {
    for frame in [error4(TCP, port::WEB, 40_000), error6(port::WEB)] {
        for length in 0..frame.len() {
            let (verdict, out) = run(world_once(), &frame[..length]);
            let quiet = matches!(verdict, Verdict::Passed(Pass::NotIp) | Verdict::Dropped(Drop::Malformed));
            assert!(quiet, "{length} bytes: {verdict:?}");
            assert_eq!(out, frame[..length], "{length} bytes: changed");
        }
    }
}
