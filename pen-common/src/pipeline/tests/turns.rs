//! Round-robin: newcomers take turns, and nobody else does.

use super::*;
use crate::abi::backend_flags::{SERVING, USABLE};
use crate::abi::service_flags;

/// A TCP segment with these control bits from a client to the service with turns.
fn segment(client: u8, client_port: u16, bits: u8) -> Vec<u8> {
    let mut segment = frames::tcp(client_port, port::TURNS, b"");
    segment[13] = bits;
    let client = Ipv4Addr::new(192, 0, 2, client);
    link(&[]).frame(kind::IPV4, &frames::ipv4(client, VIP4, TCP, &[], 0, &segment))
}

fn syn(client: u8) -> Vec<u8> {
    segment(client, 40_000, 0x02)
}

fn datagram(client_port: u16) -> Vec<u8> {
    let udp = frames::udp(client_port, port::FLOW_TURNS, b"query");
    link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, UDP, 64, &udp))
}

/// Which of its service's backends gets a frame: 0 is the one with twice the turns.
fn number(tables: &HostTables, frame: &[u8]) -> u16 {
    let Verdict::Forwarded { backend, .. } = run(tables, frame).0 else { panic!("not forwarded") };
    let service = tables.backends[usize::from(backend)].service;
    backend - tables.backends.iter().position(|other| other.service == service).unwrap() as u16
}

fn taken(tables: &HostTables) -> u64 {
    tables.taken.borrow().values().sum()
}

#[test]
fn new_clients_get_the_backends_in_turn_by_weight() {
    let tables = world();
    let got: Vec<u16> = (1..=12).map(|client| number(&tables, &syn(client))).collect();
    assert_eq!(got, [0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0]);
    let tables = world();
    let got: Vec<u16> = (1..=8).map(|port| number(&tables, &datagram(port))).collect();
    assert_eq!(got, [0, 1, 2, 0, 0, 1, 2, 0], "each UDP flow by itself");
}

#[test]
fn a_client_is_remembered_as_a_whole_and_takes_one_turn() {
    let tables = world();
    let before = number(&tables, &syn(1));
    for client_port in 40_000..40_010 {
        assert_eq!(number(&tables, &segment(1, client_port, 0x02)), before, "another connection");
        assert_eq!(number(&tables, &segment(1, client_port, 0x10)), before, "and what follows");
    }
    assert_eq!(taken(&tables), 1);
}

#[test]
fn what_opens_nothing_goes_to_the_owner_of_its_slot_and_takes_no_turn() {
    for (what, bits) in [("ACK", 0x10), ("SYN and ACK", 0x12), ("RST", 0x04), ("FIN", 0x11), ("none", 0)] {
        let tables = world();
        let slots: Vec<u16> = (1..=30).map(|client| number(&tables, &segment(client, 1, bits))).collect();
        let mut maglev = world();
        maglev.rounds.clear();
        let owners: Vec<u16> = (1..=30).map(|client| number(&maglev, &syn(client))).collect();
        assert_eq!(slots, owners, "{what}");
        assert_eq!(taken(&tables), 0, "{what}");
    }
    let tables = world();
    number(&tables, &segment(1, 1, 0xc2));
    assert_eq!(taken(&tables), 1, "a SYN that offers ECN (RFC 3168, 6.1.1) opens a connection, too");
}

#[test]
fn later_fragments_take_no_turn() {
    let mut tables = world();
    for entry in &mut tables.directory.halves[0].entries {
        entry.flags |= if entry.port == 0 { service_flags::ROUND_ROBIN } else { 0 };
    }
    let later = frames::ipv4(CLIENT4, VIP4, UDP, &[], 1, &[0xaa; 64]);
    assert!(matches!(run(&tables, &link(&[]).frame(kind::IPV4, &later)).0, Verdict::Forwarded { .. }));
    assert_eq!(taken(&tables), 0);
}

#[test]
fn a_turn_of_who_is_not_serving_falls_to_the_owner_of_the_slot() {
    let mut tables = world();
    let service = sample::service_index(false, port::TURNS);
    // Only the last backend serves; the round does not know yet.
    for backend in tables.backends.iter_mut().filter(|backend| backend.service == service).take(2) {
        backend.word &= !SERVING;
    }
    let last = tables.backends.iter().rposition(|backend| backend.service == service).unwrap() as u16;
    let half = u32::from(service % 2);
    tables.share_slots(service, half, &[last]);
    for client in 1..=12 {
        assert_eq!(number(&tables, &syn(client)), 2, "client {client}");
    }
    // Draining: who had it keeps it.
    tables.backends[usize::from(last)].word &= !SERVING;
    assert_eq!(number(&tables, &syn(1)), 2);
    tables.backends[usize::from(last)].word &= !USABLE;
    assert_eq!(run(&tables, &syn(1)).0, Verdict::Dropped(Drop::NoBackend));
}

#[test]
fn a_client_whose_backend_died_takes_a_turn_of_those_that_are_left() {
    let mut tables = world();
    let gone = number(&tables, &syn(1));
    assert_eq!(gone, 0);
    let service = sample::service_index(false, port::TURNS);
    let first = tables.backends.iter().position(|backend| backend.service == service).unwrap() as u16;
    tables.backends[usize::from(first)].word &= !(SERVING | USABLE);
    tables.rounds.insert((service, u32::from(service % 2)), vec![first + 1, first + 2]);
    let (one, other) = (number(&tables, &syn(1)), number(&tables, &syn(2)));
    assert_eq!(one + other, 3, "one each: {one}, {other}");
    assert_eq!(number(&tables, &syn(1)), one, "and there it stays");
}
