//! Changes of owner: which packets go to the owner of a slot and which to the one before, in each phase of a window.

use super::*;
use crate::abi::backend_flags::{SERVING, USABLE};
use crate::abi::{NO_BACKEND, Slot};
use crate::track;

pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

pub(super) fn segment(client_port: u16, port: u16, bits: u8) -> Vec<u8> {
    let mut segment = frames::tcp(client_port, port, b"");
    segment[13] = bits;
    link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, TCP, &[], 0, &segment))
}

pub(super) fn datagram(client_port: u16, port: u16) -> Vec<u8> {
    let udp = frames::udp(client_port, port, b"query");
    link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &udp))
}

/// Which of its service's backends gets a frame.
pub(super) fn number(tables: &HostTables, frame: &[u8]) -> u16 {
    let Verdict::Forwarded { backend, .. } = run(tables, frame).0 else { panic!("not forwarded") };
    backend - first(tables, tables.backends[usize::from(backend)].service)
}

pub(super) fn first(tables: &HostTables, service: u16) -> u16 {
    tables.backends.iter().position(|other| other.service == service).unwrap() as u16
}

pub(super) fn now(tables: &HostTables) -> u32 {
    track::now(&tables.directory, tables.jiffies.get())
}

pub(super) fn remembered(tables: &HostTables) -> usize {
    tables.tracked.borrow().len()
}

/// Does something with every slot of a service.
pub(super) fn each_slot(tables: &mut HostTables, port: u16, change: impl Fn(Slot) -> Slot) {
    let service = sample::service_index(false, port);
    let slots = tables.slots.get_mut(&(service, u32::from(service % 2))).unwrap();
    slots.iter_mut().for_each(|slot| *slot = change(*slot));
}

/// Gives every slot of a service to the backend of this number.
fn give(tables: &mut HostTables, port: u16, number: u16) {
    let owner = first(tables, sample::service_index(false, port)) + number;
    let now = now(tables);
    each_slot(tables, port, |slot| slot.given_to(owner, now, sample::TRANSITION));
}

/// A service all of whose slots were the first backend's for long and are the second one's since now.
pub(super) fn changed(port: u16) -> HostTables {
    let mut tables = world();
    let owner = first(&tables, sample::service_index(false, port));
    each_slot(&mut tables, port, |_| Slot::owned_by(owner));
    give(&mut tables, port, 1);
    tables
}

/// Lets so many seconds pass, and the phases move on.
pub(super) fn pass(tables: &mut HostTables, port: u16, seconds: u32) {
    tables.pass_seconds(u64::from(seconds));
    let now = now(tables);
    each_slot(tables, port, |slot| slot.at(now, None, sample::TRANSITION));
}

fn set_flags(tables: &mut HostTables, port: u16, number: u16, flags: u64) {
    let index = first(tables, sample::service_index(false, port)) + number;
    let word = &mut tables.backends[usize::from(index)].word;
    *word = *word & !(SERVING | USABLE) | flags;
}

#[test]
fn an_unmarked_slot_reads_and_writes_no_memory() {
    let mut tables = changed(port::TRANSITIONS);
    number(&tables, &segment(1, port::TRANSITIONS, ACK));
    each_slot(&mut tables, port::TRANSITIONS, |slot| Slot::owned_by(slot.owner));
    assert_eq!(number(&tables, &segment(1, port::TRANSITIONS, ACK)), 1, "what is remembered does not count");
    for client_port in 10..20 {
        assert_eq!(number(&tables, &segment(client_port, port::TRANSITIONS, SYN)), 1);
    }
    assert_eq!(remembered(&tables), 1);
}

#[test]
fn while_open_what_begins_goes_to_the_owner_and_the_rest_stays_with_the_one_before() {
    for port in [port::TRANSITIONS, port::WEB] {
        let tables = changed(port);
        assert_eq!(number(&tables, &segment(1, port, ACK)), 0, "a connection from before");
        assert_eq!(remembered(&tables), 1);
    }
    for port in [port::TRANSITIONS, port::WEB] {
        let tables = changed(port);
        assert_eq!(number(&tables, &segment(1, port, SYN)), 1, "a new one");
        assert_eq!(number(&tables, &segment(1, port, ACK)), 1, "and what follows");
        assert_eq!(remembered(&tables), 1);
    }
}

#[test]
fn with_full_tracking_a_client_moves_as_a_whole_or_not_at_all() {
    let tables = changed(port::WEB);
    assert_eq!(number(&tables, &segment(1, port::WEB, ACK)), 0);
    assert_eq!(number(&tables, &segment(2, port::WEB, SYN)), 0, "its next connection stays, too");
    let tables = changed(port::TRANSITIONS);
    assert_eq!(number(&tables, &segment(1, port::TRANSITIONS, ACK)), 0);
    assert_eq!(number(&tables, &segment(2, port::TRANSITIONS, SYN)), 1, "with transitions each by itself");
}

#[test]
fn a_datagram_begins_a_flow_where_all_are_remembered_and_may_be_an_old_one_where_not() {
    assert_eq!(number(&changed(port::DNS), &datagram(1, port::DNS)), 1);
    let tables = changed(port::FLOW_TRANSITIONS);
    assert_eq!(number(&tables, &datagram(1, port::FLOW_TRANSITIONS)), 0);
    assert_eq!(remembered(&tables), 1);
}

#[test]
fn while_closing_memory_decides_and_all_else_goes_to_the_owner() {
    let port = port::TRANSITIONS;
    let mut tables = changed(port);
    number(&tables, &segment(1, port, ACK));
    pass(&mut tables, port, sample::TRANSITION - 1);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
    pass(&mut tables, port, 2);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0, "remembered");
    assert_eq!(number(&tables, &segment(2, port, ACK)), 1, "not remembered");
    assert_eq!(number(&tables, &segment(3, port, SYN)), 1, "new");
    assert_eq!(remembered(&tables), 1, "and they need not be");
}

#[test]
fn a_previous_owner_that_is_dead_loses_its_flows_to_the_owner_for_good() {
    for port in [port::TRANSITIONS, port::WEB] {
        let mut tables = changed(port);
        set_flags(&mut tables, port, 0, 0);
        assert_eq!(number(&tables, &segment(1, port, ACK)), 1);
        set_flags(&mut tables, port, 0, USABLE | SERVING);
        assert_eq!(number(&tables, &segment(1, port, ACK)), 1, "stays where it moved to");
    }
}

#[test]
fn a_flow_that_was_idle_while_its_backend_was_dead_is_still_with_it() {
    let mut tables = changed(port::TRANSITIONS);
    set_flags(&mut tables, port::TRANSITIONS, 0, 0);
    set_flags(&mut tables, port::TRANSITIONS, 0, USABLE | SERVING);
    assert_eq!(number(&tables, &segment(1, port::TRANSITIONS, ACK)), 0);
}

#[test]
fn a_previous_owner_that_drains_keeps_its_flows() {
    let mut tables = changed(port::TRANSITIONS);
    set_flags(&mut tables, port::TRANSITIONS, 0, USABLE);
    assert_eq!(number(&tables, &segment(1, port::TRANSITIONS, ACK)), 0);
    assert_eq!(number(&tables, &segment(2, port::TRANSITIONS, SYN)), 1);
}

/// A connection of each owner, begun while it was one: all stay, though the slot came back to its first owner.
#[test]
fn a_slot_that_goes_away_and_comes_back_breaks_nobody() {
    let port = port::TRANSITIONS;
    let mut tables = changed(port);
    assert_eq!(number(&tables, &segment(2, port, SYN)), 1);
    pass(&mut tables, port, 10);
    give(&mut tables, port, 2);
    assert_eq!(number(&tables, &segment(3, port, SYN)), 2);
    pass(&mut tables, port, 10);
    give(&mut tables, port, 0);
    assert_eq!(number(&tables, &segment(4, port, SYN)), 0);
    for (client_port, expected) in [(1, 0), (2, 1), (3, 2), (4, 0)] {
        assert_eq!(number(&tables, &segment(client_port, port, ACK)), expected, "port {client_port}");
    }
}

#[test]
fn a_failure_within_a_window_moves_the_flows_of_the_failed_alone() {
    let port = port::TRANSITIONS;
    let mut tables = changed(port);
    assert_eq!(number(&tables, &segment(2, port, SYN)), 1);
    set_flags(&mut tables, port, 1, 0);
    give(&mut tables, port, 2);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0, "of the one before");
    // Its own backend is dead: it goes where the slot sends what nobody remembers.
    assert_eq!(number(&tables, &segment(2, port, ACK)), 0);
    assert_eq!(number(&tables, &segment(3, port, SYN)), 2);
}

#[test]
fn a_change_while_closing_keeps_those_of_the_owner_and_those_remembered() {
    let port = port::TRANSITIONS;
    let mut tables = changed(port);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
    pass(&mut tables, port, sample::TRANSITION / 2);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
    pass(&mut tables, port, sample::TRANSITION / 2);
    assert_eq!(number(&tables, &segment(2, port, SYN)), 1, "begun while closing");
    give(&mut tables, port, 2);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
    assert_eq!(number(&tables, &segment(2, port, ACK)), 1);
    assert_eq!(number(&tables, &segment(3, port, SYN)), 2);
}

#[test]
fn an_entry_left_from_an_earlier_window_does_not_catch_a_new_flow_of_the_same_port() {
    let port = port::TRANSITIONS;
    let mut tables = changed(port);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
    pass(&mut tables, port, sample::TRANSITION + 1);
    each_slot(&mut tables, port, Slot::closed);
    pass(&mut tables, port, 1);
    give(&mut tables, port, 2);
    assert_eq!(number(&tables, &segment(1, port, SYN)), 2);
}

#[test]
fn with_transitions_memory_counts_for_one_transition_whatever_the_timeout() {
    let port = port::TRANSITIONS;
    let mut tables = changed(port);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
    pass(&mut tables, port, sample::TIMEOUT * 2);
    give(&mut tables, port, 2);
    assert_eq!(number(&tables, &segment(1, port, SYN)), 0, "remembered for longer than the timeout");
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
}

#[test]
fn turns_are_for_what_begins_and_the_rest_stays_with_the_one_before() {
    let tables = changed(port::TURNS);
    let remains = number(&tables, &segment(1, port::TURNS, ACK));
    assert_eq!((remains, tables.taken.borrow().len()), (0, 0));
}

#[test]
fn a_slot_that_lost_its_last_owner_keeps_who_drains() {
    let port = port::TRANSITIONS;
    let mut tables = changed(port);
    let (now, owner) = (now(&tables), first(&tables, sample::service_index(false, port)));
    let lost = Slot::owned_by(owner).given_to(NO_BACKEND, now, sample::TRANSITION);
    each_slot(&mut tables, port, |_| lost);
    set_flags(&mut tables, port, 0, USABLE);
    assert_eq!(number(&tables, &segment(1, port, ACK)), 0);
    assert_eq!(number(&tables, &segment(2, port, SYN)), 0, "better than nobody");
}
