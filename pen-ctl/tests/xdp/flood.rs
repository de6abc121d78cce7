//! Floods: what packets are told of them, what they tell, and what becomes of open windows.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::mem::offset_of;

use aya::maps::{Array, MapData, PerCpuArray};
use pen_common::abi::{Directory, inserts};
use pen_common::abi::{SLOTS, Slot};
use pen_common::slot::Phase;
use pen_ctl::dataplane::xdp::XdpPlane;
use pen_ctl::dataplane::{BackendTarget, DataPlane, FloodLimits, InterfaceTarget, Suppression};

use crate::packets::{Wire, behind, set_backend, sharing};
use crate::pinned;
use crate::place::Place;
use crate::wants::{Do, key};

/// Seconds that windows of these tests stay open.
const TRANSITION: u32 = 600;

/// Notes what the first CPU suppressed, as a program there would.
fn suppress(place: &Place, until: u32, last: u32, suppressed: u64) {
    let mut map: PerCpuArray<MapData, [u64; 8]> = pinned::open(place, "inserts");
    let mut lines = vec![[0; 8]; aya::util::nr_cpus().unwrap()];
    lines[0][inserts::UNTIL as usize] = until.into();
    lines[0][inserts::LAST as usize] = last.into();
    lines[0][inserts::SUPPRESSED as usize] = suppressed;
    map.set(0, lines.try_into().unwrap(), 0).unwrap();
}

/// Open slots of service 0.
fn open_slots(place: &Place) -> Vec<Slot> {
    let slots: Array<MapData, u64> = pinned::open(place, "slots_0");
    let halves = pinned::table_half(place, key(0));
    let all =
        (halves * SLOTS..(halves + 1) * SLOTS).map(|slot| Slot::from_word(slots.get(&slot, 0).unwrap()));
    all.filter(|slot| slot.phase() == Phase::Open).collect()
}

/// A plane whose service 0 went from 11 to 12 in the second that is told.
fn moved(place: &Place) -> (XdpPlane, InterfaceTarget, u32) {
    let (mut plane, interface) = sharing(place, &[11]);
    set_backend(&mut plane, 12, behind(&interface, 12));
    plane.set_table(key(0), &[12]);
    let now = open_slots(place)[0].end() - TRANSITION;
    (plane, interface, now)
}

#[test]
fn packets_see_both_limits_and_the_next_controller_finds_them() {
    let Some(place) = Place::enter() else { return };
    let limits = |place: &Place| {
        let map: Array<MapData, [u8; size_of::<Directory>()]> = pinned::open(place, "directory");
        let bytes = map.get(&0, 0).unwrap();
        let at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        (at(offset_of!(Directory, flood_per_cpu)), at(offset_of!(Directory, flood_in_all)))
    };
    let mut plane = place.open().unwrap();
    assert_eq!(limits(&place), (0, 0), "nothing was set");
    plane.set_flood(100_000);
    assert_eq!(limits(&place), (100_000, 4096 / 8), "an eighth of the table");
    plane.set_service(key(0));
    drop(plane);
    let mut plane = place.open().unwrap();
    assert_eq!(limits(&place), (100_000, 512));
    plane.set_flood(0);
    assert_eq!(limits(&place), (0, 0));
}

#[test]
fn what_cpus_tell_is_told_while_it_goes_on_and_afterwards() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, _, now) = moved(&place);
    assert_eq!(plane.suppression().unwrap(), Some(Suppression::default()));
    plane.set_flood(100_000);
    suppress(&place, now + 1000, now + 100, 7);
    let told = plane.suppression().unwrap().unwrap();
    assert_eq!((told.active, told.newcomers, told.last_seconds_ago), (true, 7, Some(0)));
    assert_eq!(told.limits, FloodLimits { per_cpu: 100_000, in_all: 4096 / 8 });
    plane.set_flood(0);
    let unlimited = plane.suppression().unwrap().unwrap();
    assert_eq!((unlimited.active, unlimited.newcomers), (false, 7), "everybody is remembered again");
    plane.set_flood(100_000);
    suppress(&place, now - 90, now - 100, 7);
    let told = plane.suppression().unwrap().unwrap();
    assert!(!told.active && told.last_seconds_ago.is_some_and(|ago| ago >= 100), "{told:?}");
}

#[test]
fn newcomers_of_a_flood_are_not_remembered_and_told_of() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    plane.set_flood(5);
    let wire = Wire::new(&place, &interface);
    (1..=250).for_each(|client| assert_eq!(wire.backend_of(client), 11));
    let told = plane.suppression().unwrap().unwrap();
    assert!(told.active && told.last_seconds_ago.is_some(), "{told:?}");
    let remembered = plane.clients().unwrap().occupancy().unwrap().v4.used;
    assert_eq!(told.newcomers, 250 - remembered);
}

#[test]
fn a_window_that_is_open_stays_so_until_one_transition_after_the_flood() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, _, now) = moved(&place);
    let ends = |place: &Place| open_slots(place).iter().map(|slot| slot.end()).max();
    suppress(&place, now - 90, now - 100, 7);
    plane.observe().unwrap();
    assert_eq!(ends(&place), Some(now + TRANSITION), "one that was over before changes nothing");
    suppress(&place, now + 60, now + 50, 8);
    plane.observe().unwrap();
    assert_eq!(ends(&place), Some(now + 50 + TRANSITION));
}

#[test]
fn whoever_was_away_while_nobody_was_remembered_gets_nobody_back() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface, now) = moved(&place);
    let wire = Wire::new(&place, &interface);
    let away = BackendTarget { usable: false, serving: false, ..behind(&interface, 11) };
    let stays = |plane: &mut XdpPlane, client| {
        set_backend(plane, 11, behind(&interface, 11));
        plane.observe().unwrap();
        wire.backend_of_old(client)
    };
    suppress(&place, now - 90, now - 100, 7);
    set_backend(&mut plane, 11, away);
    plane.observe().unwrap();
    assert_eq!(wire.backend_of_old(1), 12);
    assert_eq!(stays(&mut plane, 2), 11, "the flood was over before it went");

    set_backend(&mut plane, 11, away);
    plane.observe().unwrap();
    suppress(&place, now + 1000, now + 990, 8);
    plane.observe().unwrap();
    assert_eq!(stays(&mut plane, 3), 12, "whom 12 got meanwhile, nobody knows");
}

#[test]
fn of_a_backend_that_is_found_away_nobody_knows_since_when() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface, now) = moved(&place);
    let away = BackendTarget { usable: false, serving: false, ..behind(&interface, 11) };
    set_backend(&mut plane, 11, away);
    plane.observe().unwrap();
    suppress(&place, now - 90, now - 100, 7);
    drop(plane);
    let mut next = place.open().unwrap();
    next.observe().unwrap();
    set_backend(&mut next, 11, behind(&interface, 11));
    next.observe().unwrap();
    assert_eq!(Wire::new(&place, &interface).backend_of_old(1), 12);
}
