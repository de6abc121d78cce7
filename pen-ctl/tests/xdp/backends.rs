//! Indexes, generations and tables: what a packet may rely on while backends come and go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aya::maps::{Array, HashMap, MapData};
use pen_common::abi::{LOOP_FILTER_WORDS, NO_BACKEND, SLOTS, backend_flags};
use pen_common::mac::{loop_filter_bit, loop_key, word};
use pen_ctl::dataplane::{DataPlane, Operation};

use crate::pinned;
use crate::place::Place;
use crate::wants::{Do, address, key, members, serving};

#[test]
fn an_index_is_given_away_under_a_new_generation() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    let (before, _) = pinned::backend(&place, 0);
    plane.remove_backend(key(0), 11);
    assert_eq!(pinned::backend(&place, 0).1, 0);
    plane.set_backend(key(0), 12);
    let (after, word) = pinned::backend(&place, 0);
    assert_ne!(after, before, "what is remembered of the former owner must not count");
    assert_ne!(word & backend_flags::USABLE, 0);
}

#[test]
fn a_backend_that_the_table_names_is_not_removed() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_table(key(0), &[11]);
    let before = plane.observe().unwrap();
    assert!(plane.apply(&Operation::RemoveBackend { key: key(0), address: address(11) }).is_err());
    assert_eq!(plane.observe().unwrap(), before);
    plane.set_table(key(0), &[]);
    plane.remove_backend(key(0), 11);
    assert!(plane.observe().unwrap().services[&key(0)].backends.is_empty());
}

/// As after a controller that was killed in the middle of a removal, under a table it had not yet replaced.
#[test]
fn a_retired_index_is_not_given_away_while_a_table_names_it() {
    let Some(place) = Place::enter() else { return };
    let mut first = place.open().unwrap();
    first.set_service(key(0));
    first.set_backend(key(0), 11);
    first.set_table(key(0), &[11]);
    drop(first);
    let mut backends: Array<MapData, [u64; 8]> = pinned::open(&place, "backends");
    let mut words = backends.get(&0, 0).unwrap();
    words[0] = backend_flags::IN_USE | backend_flags::RETIRED;
    backends.set(0, words, 0).unwrap();

    let mut second = place.open().unwrap();
    assert!(second.observe().unwrap().services[&key(0)].backends.is_empty());
    second.set_backend(key(0), 12);
    assert_ne!(pinned::backend(&place, 1).1, 0, "the newcomer gets another index");
    second.set_table(key(0), &[12]);
    assert_eq!(second.observe().unwrap().services[&key(0)].backends.len(), 1);
    assert_eq!(pinned::backend(&place, 0).1, 0, "not named any more, it is free");
}

#[test]
fn what_a_removed_backend_counted_is_kept() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    let mut counters: aya::maps::PerCpuArray<MapData, [u64; 2]> = pinned::open(&place, "counters");
    let cpus = aya::util::nr_cpus().unwrap();
    let record = vec![[3, 300]; cpus].try_into().unwrap();
    counters.set(pen_common::abi::COUNTER_BACKENDS, record, 0).unwrap();
    let packets = 3 * cpus as u64;
    assert_eq!(plane.counters().unwrap().backends[&(key(0), address(11))].packets, packets);

    plane.remove_backend(key(0), 11);
    let counted = plane.counters().unwrap();
    assert!(counted.backends.is_empty());
    assert_eq!(counted.removed_backends[&key(0)].packets, packets);

    plane.set_backend(key(0), 12);
    assert_eq!(plane.counters().unwrap().backends[&(key(0), address(12))].packets, 0);
    plane.remove_service(key(0));
    assert_eq!(plane.counters().unwrap().removed_services.packets, packets);
    plane.set_service(key(0));
    let counted = plane.counters().unwrap();
    assert_eq!(counted.removed_backends[&key(0)].packets, 0);
    assert_eq!(counted.removed_services.packets, packets);
}

#[test]
fn the_loop_guard_knows_the_macs_of_backends_and_no_others() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_backend(key(0), 12);
    let moved = serving(13);
    plane.apply(&Operation::SetBackend { key: key(0), address: address(11), target: moved }).unwrap();
    plane.remove_backend(key(0), 12);

    let wanted = loop_key(word([2, 0, 0, 0, 0, 13]), 0);
    let exact: HashMap<MapData, u64, u32> = pinned::open(&place, "backend_macs");
    assert_eq!(exact.keys().collect::<Result<Vec<_>, _>>().unwrap(), [wanted]);
    let filter: Array<MapData, [u64; LOOP_FILTER_WORDS]> = pinned::open(&place, "loop_filter");
    let filter = filter.get(&0, 0).unwrap();
    let (index, bit) = loop_filter_bit(wanted);
    assert_eq!(filter[index], bit);
    assert_eq!(filter.iter().map(|word| word.count_ones()).sum::<u32>(), 1);
}

#[test]
fn a_table_is_shared_by_weight_and_follows_the_seed() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    for number in [11, 12] {
        plane.set_backend(key(0), number);
    }
    let mut sharers = members(&[11, 12]);
    sharers[1].weight = 3;
    plane.apply(&Operation::SetTable { key: key(0), members: sharers.clone() }).unwrap();
    let before = pinned::owners(&place, 0, 1);
    let first = before.iter().filter(|owner| **owner == 0).count();
    assert!(first.abs_diff(SLOTS as usize / 4) <= 1, "{first} slots for a quarter of the weight");

    plane.apply(&Operation::SetSeed(5)).unwrap();
    assert_ne!(pinned::owners(&place, 0, 0), before);
    let seen = plane.observe().unwrap();
    assert_eq!((seen.seed, seen.services[&key(0)].members.as_ref()), (5, Some(&sharers)));

    plane.set_table(key(0), &[]);
    assert!(pinned::owners(&place, 0, 1).iter().all(|owner| *owner == NO_BACKEND));
    assert!(!plane.observe().unwrap().services[&key(0)].has_table);
}

#[test]
fn a_table_that_names_a_stranger_is_refused() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_table(key(0), &[11]);
    let before = plane.observe().unwrap();
    assert!(plane.apply(&Operation::SetTable { key: key(0), members: members(&[11, 12]) }).is_err());
    assert_eq!(plane.observe().unwrap(), before);
}

#[test]
fn what_someone_else_changed_is_seen_and_repaired() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_table(key(0), &[11]);
    let right = plane.observe().unwrap();

    let mut slots: Array<MapData, u64> = pinned::open(&place, "slots_0");
    slots.set(SLOTS + 7, u64::MAX, 0).unwrap();
    assert_eq!(plane.observe().unwrap().services[&key(0)].members, None);
    plane.set_table(key(0), &[11]);
    assert_eq!(plane.observe().unwrap(), right);

    let mut backends: Array<MapData, [u64; 8]> = pinned::open(&place, "backends");
    backends.set(0, [0; 8], 0).unwrap();
    assert!(plane.observe().unwrap().services[&key(0)].backends.is_empty());
    plane.set_backend(key(0), 11);
    assert_eq!(plane.observe().unwrap(), right);

    let mut directory: Array<MapData, [u8; size_of::<pen_common::abi::Directory>()]> =
        pinned::open(&place, "directory");
    let mut bytes = directory.get(&0, 0).unwrap();
    bytes[64..].fill(0);
    directory.set(0, bytes, 0).unwrap();
    assert!(plane.observe().unwrap().services.is_empty());
    plane.set_service(key(0));
    assert_eq!(plane.observe().unwrap(), right);
}

#[test]
fn what_packets_use_is_not_written_into() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_backend(key(0), 12);
    plane.set_table(key(0), &[11]);

    let (active, before) = pinned::directory(&place);
    plane.set_service(key(1));
    let (flipped, after) = pinned::directory(&place);
    assert_eq!(flipped, 1 - active);
    assert!(after[active as usize] == before[active as usize]);

    let (in_use, before) = (1, pinned::owners(&place, 0, 1));
    plane.set_table(key(0), &[12]);
    assert_eq!(pinned::owners(&place, 0, in_use), before);
    assert!(pinned::owners(&place, 0, 1 - in_use).iter().all(|owner| *owner == 1));
}

/// As packets see it: the half that the directory names is whole as long as it is named.
#[test]
fn a_table_in_use_is_never_half_written() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_backend(key(0), 12);
    plane.set_table(key(0), &[11]);
    let slots: Array<MapData, u64> = pinned::open(&place, "slots_0");
    let (flips, stop, whole) = (AtomicU64::new(1), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                // The writer counts after each flip: an unchanged count means at most one flip, under way.
                let before = flips.load(Ordering::SeqCst);
                let half = (before % 2) as u32;
                let seen: BTreeSet<u16> = (0..SLOTS)
                    .step_by(61)
                    .map(|slot| pinned::owner(slots.get(&(half * SLOTS + slot), 0).unwrap()))
                    .collect();
                if flips.load(Ordering::SeqCst) == before {
                    assert_eq!(seen.len(), 1, "the table in use names {seen:?}");
                    whole.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let mut round = 0;
        while !reader.is_finished() && (round < 40 || whole.load(Ordering::SeqCst) < 20) {
            plane.set_table(key(0), if round % 2 == 0 { &[12] } else { &[11] });
            flips.fetch_add(1, Ordering::SeqCst);
            round += 1;
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn tracked_clients_are_counted() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    let mut table = pinned::track_v4(&place);
    for client in 0..3000 {
        table.insert([client, 0, 0], 0, 0).unwrap();
    }
    let there = table.keys().count() as u64;
    let told = plane.clients().unwrap().occupancy().unwrap();
    assert_eq!((told.v4.used, told.v4.max, told.v6.used), (there, 4096, 0));
}
