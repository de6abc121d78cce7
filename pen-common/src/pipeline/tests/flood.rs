//! In a flood nobody is remembered anew, and what only memory could keep together is not torn apart.

use super::windows::{ACK, SYN, changed, datagram, each_slot, first, number, pass, remembered, segment};
use super::*;
use crate::abi::{Slot, inserts};
use crate::flood::CALM;
use crate::host::Lines;
use crate::host::sample::BURST;
use crate::tables::{Line, Tables};

/// A world in which one newcomer a second is one enough, in a flood since just now.
fn flooded(mut tables: HostTables) -> HostTables {
    tables.inserts = Some(Lines::default());
    (tables.directory.flood_per_cpu, tables.directory.flood_in_all) = (1, u32::MAX);
    for client in [201, 202] {
        run(&tables, &link(&[]).frame(kind::IPV4, &udp_from([192, 0, 2, client].into(), 1, 9999)));
    }
    assert_eq!(word(&tables, inserts::SUPPRESSED), 1, "the second one");
    assert_eq!(remembered(&tables), 1, "the first one");
    tables
}

fn udp_from(client: Ipv4Addr, client_port: u16, port: u16) -> Vec<u8> {
    frames::ipv4(client, VIP4, UDP, &[], 0, &frames::udp(client_port, port, b""))
}

fn word(tables: &HostTables, word: u32) -> u64 {
    tables.own_inserts().unwrap().word(word)
}

/// Newcomers counted so far in this second, and those of all time that were not remembered.
fn counted(tables: &HostTables) -> (u64, u64) {
    (word(tables, inserts::PACE), word(tables, inserts::SUPPRESSED))
}

#[test]
fn newcomers_are_served_and_not_remembered() {
    let (tables, calm) = (flooded(world()), world());
    for client_port in 1..20 {
        let expected = number(&calm, &datagram(client_port, port::DNS));
        assert_eq!(number(&tables, &datagram(client_port, port::DNS)), expected, "by their slots");
    }
    assert_eq!((remembered(&tables), word(&tables, inserts::SUPPRESSED)), (1, 20));
    tables.pass_seconds(u64::from(CALM) + 1);
    number(&tables, &datagram(1, port::DNS));
    assert_eq!(remembered(&tables), 2, "once the flood is over");
}

/// As nobody is remembered meanwhile, all that who came in a flood sends looks like a newcomer's.
#[test]
fn a_flood_is_over_when_no_newcomers_come_however_much_those_send_who_came_in_it() {
    let mut tables = flooded(world());
    (tables.directory.flood_per_cpu, tables.directory.flood_in_all) = (40, 300);
    for _ in 0..2 * CALM {
        for _ in 0..100 {
            number(&tables, &segment(1, port::WEB, ACK));
            number(&tables, &datagram(1, port::DNS));
        }
        tables.pass_seconds(1);
    }
    number(&tables, &segment(1, port::WEB, ACK));
    assert_eq!(remembered(&tables), 3, "the one before, and those two");
}

#[test]
fn those_who_came_in_a_flood_keep_it_up_when_they_are_too_many() {
    let tables = flooded(world());
    for _ in 0..3 * CALM {
        // One more than one a second is enough here.
        number(&tables, &datagram(1, port::DNS));
        number(&tables, &datagram(2, port::DNS));
        tables.pass_seconds(1);
    }
    assert_eq!(remembered(&tables), 1);
}

/// Who is remembered is charged once for each flow; who cannot be, once in a second.
#[test]
fn in_a_flood_a_flow_is_not_limited_as_if_each_datagram_was_one() {
    let tables = flooded(world());
    let is_limited = |client_port| {
        let frame = link(&[]).frame(kind::IPV4, &udp_from(CLIENT4, client_port, port::FLOWS));
        run(&tables, &frame).0 == Verdict::Dropped(Drop::RateLimited)
    };
    for _ in 0..9 {
        for flow in 0..BURST as u16 {
            assert!(!is_limited(flow), "flow {flow}");
        }
    }
    for _ in 0..9 {
        assert!(is_limited(100), "a flow too many, again and again");
    }
}

#[test]
fn where_nobody_serves_newcomers_are_no_flood() {
    let mut tables = world();
    tables.inserts = Some(Lines::default());
    (tables.directory.flood_per_cpu, tables.directory.flood_in_all) = (1, u32::MAX);
    for client_port in 0..200 {
        run(&tables, &segment(client_port, port::EMPTY_DROP, SYN));
    }
    assert_eq!(counted(&tables), (0, 0));
}

/// Who is not remembered at the owner could not be told from a flow of the previous one when it comes again.
#[test]
fn what_begins_in_an_open_window_goes_to_the_one_before() {
    for port in [port::TRANSITIONS, port::WEB] {
        let tables = flooded(changed(port));
        assert_eq!(number(&tables, &segment(1, port, SYN)), 0);
        assert_eq!(number(&tables, &segment(1, port, ACK)), 0, "and so does what follows");
        assert_eq!(remembered(&tables), 1);
    }
    let tables = flooded(changed(port::DNS));
    assert_eq!(number(&tables, &datagram(1, port::DNS)), 0);
    assert_eq!(remembered(&tables), 1);
}

#[test]
fn nobody_takes_a_turn() {
    let tables = flooded(world());
    let slots = world();
    for client_port in 1..10 {
        let by_slot = number(&slots, &segment(client_port, port::TURNS, ACK));
        assert_eq!(number(&tables, &segment(client_port, port::TURNS, SYN)), by_slot);
    }
    assert!(tables.taken.borrow().is_empty());
}

#[test]
fn who_was_remembered_before_still_is() {
    let tables = changed(port::WEB);
    assert_eq!(number(&tables, &segment(1, port::WEB, ACK)), 0);
    let key = *tables.tracked.borrow().keys().next().unwrap();
    let memory = tables.tracked.borrow_mut().remove(&key).unwrap();
    let mut tables = flooded(tables);
    tables.tracked.borrow_mut().insert(key, memory);
    each_slot(&mut tables, port::WEB, |slot| Slot::owned_by(slot.owner));
    tables.pass_seconds(2);
    let before = counted(&tables);
    assert_eq!(number(&tables, &segment(1, port::WEB, SYN)), 0, "not with the slot's owner");
    assert!(tables.tracked.borrow()[&key].seen > memory.seen, "and was used just now");
    assert_eq!(counted(&tables), before, "and is no newcomer");
}

#[test]
fn a_memory_that_no_longer_counts_is_written_anew() {
    let tables = world();
    let gone = number(&tables, &segment(1, port::WEB, SYN));
    let key = *tables.tracked.borrow().keys().next().unwrap();
    let stale = tables.tracked.borrow_mut().remove(&key).unwrap();
    let mut tables = flooded(tables);
    tables.tracked.borrow_mut().insert(key, stale);
    let index = first(&tables, sample::service_index(false, port::WEB)) + gone;
    tables.backends[usize::from(index)].generation += 1;
    let before = counted(&tables);
    assert_eq!(number(&tables, &segment(1, port::WEB, SYN)), gone);
    assert_eq!(tables.tracked.borrow()[&key].generation, stale.generation + 1);
    assert_eq!((remembered(&tables), counted(&tables)), (2, before), "it takes no room");
}

/// What would not be remembered anyway is no reason to stop remembering.
#[test]
fn only_who_should_be_remembered_counts() {
    let mut tables = flooded(changed(port::TRANSITIONS));
    let before = counted(&tables);
    let uncounted = |tables: &HostTables, what: &str, frame: &[u8]| {
        run(tables, frame);
        assert_eq!(counted(tables), before, "{what}");
    };
    uncounted(&tables, "tracking off", &segment(1, port::STATELESS, SYN));
    uncounted(&tables, "no service", &segment(1, 999, SYN));
    let later = frames::ipv4(CLIENT4, VIP4, UDP, &[], 1, &[0xaa; 64]);
    uncounted(&tables, "a later fragment", &link(&[]).frame(kind::IPV4, &later));
    let quoted = frames::ipv4(VIP4, CLIENT4, UDP, &[], 0, &frames::udp(port::DNS, 9, b""));
    let error = frames::ipv4(CLIENT4, VIP4, 1, &[], 0, &frames::icmp(3, 4, [0; 4], &quoted));
    uncounted(&tables, "an error", &link(&[]).frame(kind::IPV4, &error));
    each_slot(&mut tables, port::TRANSITIONS, |slot| Slot::owned_by(slot.owner));
    uncounted(&tables, "a slot that is not changing owner", &segment(1, port::TRANSITIONS, SYN));
    let mut tables = flooded(changed(port::TRANSITIONS));
    let seconds = sample::TRANSITION + 1;
    pass(&mut tables, port::TRANSITIONS, seconds);
    uncounted(&tables, "a closing one", &segment(1, port::TRANSITIONS, ACK));
}

#[test]
fn where_the_limit_is_0_there_is_no_flood() {
    let mut tables = world();
    tables.inserts = Some(Lines::default());
    for client_port in 0..500 {
        number(&tables, &datagram(client_port, port::DNS));
    }
    assert_eq!((remembered(&tables), counted(&tables)), (500, (0, 0)));
}
