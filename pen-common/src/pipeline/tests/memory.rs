//! Memory: who got which backend, for how long it counts, and what ends it.

use super::*;
use crate::abi::{Slot, backend_flags};

fn packet(client: u32, client_port: u16, port: u16) -> Vec<u8> {
    let segment = frames::tcp(client_port, port, b"hello");
    link(&[]).frame(kind::IPV4, &frames::ipv4(Ipv4Addr::from(client), VIP4, TCP, &[], 0, &segment))
}

fn backend(tables: &HostTables, frame: &[u8]) -> u16 {
    match run(tables, frame).0 {
        Verdict::Forwarded { backend, .. } => backend,
        other => panic!("{other:?}"),
    }
}

/// Gives every slot of a service to its next backend.
pub(super) fn turn_slots(tables: &mut HostTables, v6: bool, port: u16) {
    let service = sample::service_index(v6, port);
    let first = tables.backends.iter().position(|backend| backend.service == service).unwrap() as u16;
    for slot in tables.slots.get_mut(&(service, u32::from(service % 2))).unwrap() {
        *slot = Slot::owned_by(first + (slot.owner - first + 1) % sample::BACKENDS);
    }
}

#[test]
fn a_remembered_client_stays_when_the_table_changes_and_newcomers_do_not() {
    let mut tables = world();
    let before = backend(&tables, &packet(1, 40_000, port::WEB));
    let newcomer = backend(&world(), &packet(2, 40_000, port::WEB));
    turn_slots(&mut tables, false, port::WEB);
    assert_eq!(backend(&tables, &packet(1, 40_000, port::WEB)), before);
    assert_eq!(backend(&tables, &packet(1, 40_001, port::WEB)), before, "its next connection too");
    assert_ne!(backend(&tables, &packet(2, 40_000, port::WEB)), newcomer);
}

#[test]
fn with_affinity_flow_and_full_tracking_each_flow_is_remembered_by_itself() {
    let datagram = |client_port| {
        let udp = frames::udp(client_port, port::DNS, b"query");
        link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &udp))
    };
    let mut tables = world();
    let before = backend(&tables, &datagram(40_000));
    let newcomer = backend(&world(), &datagram(40_001));
    turn_slots(&mut tables, false, port::DNS);
    assert_eq!(backend(&tables, &datagram(40_000)), before);
    assert_ne!(backend(&tables, &datagram(40_001)), newcomer);
    assert_eq!(tables.tracked.get_mut().len(), 2);
}

/// All four words of an address and the service are part of what is remembered.
#[test]
fn clients_over_ipv6_are_told_apart_by_their_whole_address_and_their_service() {
    let packet = |client: u128, port| {
        let segment = frames::tcp(40_000, port, b"hello");
        let packet = frames::ipv6(Ipv6Addr::from(client), VIP6, TCP, 64, &segment);
        link(&[]).frame(kind::IPV6, &packet)
    };
    let tables = world();
    let client = u128::from(CLIENT6);
    let clients = [client, client ^ 1 << 96, client ^ 1 << 64, client ^ 1 << 32, client ^ 1];
    for client in clients {
        backend(&tables, &packet(client, port::WEB));
    }
    assert_eq!(tables.tracked.borrow().len(), clients.len());
    backend(&tables, &packet(client, port::DRAINING));
    assert_eq!(tables.tracked.borrow().len(), clients.len() + 1);
}

#[test]
fn without_tracking_nothing_is_remembered() {
    let mut tables = world();
    let before = backend(&tables, &packet(1, 40_000, port::STATELESS));
    turn_slots(&mut tables, false, port::STATELESS);
    assert_ne!(backend(&tables, &packet(1, 40_000, port::STATELESS)), before);
    assert!(tables.tracked.borrow().is_empty());
}

#[test]
fn a_memory_counts_until_it_was_unused_for_the_timeout() {
    let mut tables = world();
    let before = backend(&tables, &packet(1, 40_000, port::WEB));
    turn_slots(&mut tables, false, port::WEB);
    for _ in 0..5 {
        tables.pass_seconds(u64::from(sample::TIMEOUT) - 1);
        assert_eq!(backend(&tables, &packet(1, 40_000, port::WEB)), before, "used in time");
    }
    tables.pass_seconds(u64::from(sample::TIMEOUT) + 2);
    assert_ne!(backend(&tables, &packet(1, 40_000, port::WEB)), before);
}

#[test]
fn a_draining_backend_keeps_its_clients_and_a_dead_one_loses_them() {
    use backend_flags::{SERVING, USABLE};
    let mut tables = world();
    let before = backend(&tables, &packet(1, 40_000, port::WEB));
    tables.backends[usize::from(before)].word &= !SERVING;
    turn_slots(&mut tables, false, port::WEB);
    assert_eq!(backend(&tables, &packet(1, 40_000, port::WEB)), before, "draining");
    tables.backends[usize::from(before)].word &= !USABLE;
    let after = backend(&tables, &packet(1, 40_000, port::WEB));
    assert_ne!(after, before, "dead");
    tables.backends[usize::from(before)].word |= USABLE | SERVING;
    turn_slots(&mut tables, false, port::WEB);
    assert_eq!(backend(&tables, &packet(1, 40_000, port::WEB)), after, "stays where it moved to");
}

#[test]
fn an_index_given_to_another_backend_is_nobodys_memory() {
    let mut tables = world();
    let before = backend(&tables, &packet(1, 40_000, port::WEB));
    tables.backends[usize::from(before)].generation += 1;
    turn_slots(&mut tables, false, port::WEB);
    assert_ne!(backend(&tables, &packet(1, 40_000, port::WEB)), before);
}

#[test]
fn a_memory_never_leads_to_a_backend_of_another_service() {
    let mut tables = world();
    let before = backend(&tables, &packet(1, 40_000, port::WEB));
    let foreign = tables.backends.iter().position(|backend| backend.service != 0).unwrap() as u16;
    for tracked in tables.tracked.get_mut().values_mut() {
        tracked.backend = foreign;
        tracked.generation = tables.backends[usize::from(foreign)].generation;
    }
    assert_eq!(backend(&tables, &packet(1, 40_000, port::WEB)), before);
}

#[test]
fn clients_of_one_service_are_not_those_of_another() {
    let mut tables = world();
    backend(&tables, &packet(1, 40_000, port::WEB));
    let fresh = backend(&tables, &packet(1, 40_000, port::DRAINING));
    let service = sample::service_index(false, port::DRAINING);
    assert_eq!(tables.backends[usize::from(fresh)].service, service);
    assert_eq!(tables.tracked.get_mut().len(), 2);
}
