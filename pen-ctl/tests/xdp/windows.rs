//! Changes of owner with tracking `transitions`, on the real tables: connections stay, and memory is for them alone.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use pen_ctl::dataplane::xdp::XdpPlane;
use pen_ctl::dataplane::{
    BackendTarget, DataPlane, InterfaceTarget, Operation, ServiceSettings, TableUse, Tracking,
};

use crate::packets::{Wire, behind, set_backend};
use crate::place::Place;
use crate::wants::{Do, key, settings};

/// Seconds that a window stays open: more than this test is silent, less than anybody wants to wait.
const TRANSITION: Duration = Duration::from_secs(3);
const BACKENDS: [u8; 6] = [11, 12, 13, 14, 15, 16];
/// Connections that are there before anything changes.
const OLD: std::ops::RangeInclusive<u8> = 1..=120;

struct Bed {
    plane: XdpPlane,
    interface: InterfaceTarget,
    wire: Wire,
}

impl Bed {
    /// A service that remembers only what is changing, shared among all.
    fn new(place: &Place) -> Bed {
        let interface = place.interface("a0", "a1");
        let mut plane = place.open().unwrap();
        plane.apply(&Operation::SetSeed(1)).unwrap();
        plane.attach("a0", &interface);
        let settings =
            ServiceSettings { tracking: Tracking::Transitions, transition: TRANSITION, ..settings() };
        plane.apply(&Operation::SetService { key: key(0), settings }).unwrap();
        for number in BACKENDS {
            set_backend(&mut plane, number, behind(&interface, number));
        }
        plane.set_table(key(0), &BACKENDS);
        let wire = Wire::new(place, &interface);
        Bed { plane, interface, wire }
    }

    /// Those serve; the others drain.
    fn share(&mut self, numbers: &[u8]) {
        self.plane.set_table(key(0), numbers);
        for number in BACKENDS {
            let serving = numbers.contains(&number);
            set_backend(
                &mut self.plane,
                number,
                BackendTarget { serving, ..behind(&self.interface, number) },
            );
        }
    }

    fn old(&self) -> BTreeMap<u8, u8> {
        OLD.map(|client| (client, self.wire.backend_of_old(client))).collect()
    }

    fn in_transition(&mut self) -> u32 {
        self.plane.observe().unwrap().services[&key(0)].in_transition
    }

    fn remembered(&mut self) -> TableUse {
        self.plane.clients().unwrap().occupancy().unwrap().v4
    }
}

#[test]
fn connections_stay_through_drains_returns_and_adoption_and_memory_goes_when_all_is_over() {
    let Some(place) = Place::enter() else { return };
    let mut bed = Bed::new(&place);
    let first = bed.old();
    assert_eq!((bed.in_transition(), bed.remembered().used), (0, 0), "nothing changes owner");

    let mut begun = BTreeMap::new();
    let subsets: [&[u8]; 5] = [&[11, 12, 13, 14, 15], &[12, 13, 15], &BACKENDS, &[11, 16], &[11, 12, 13]];
    for (client, serving) in (200..).zip(subsets) {
        bed.share(serving);
        assert_eq!(bed.old(), first, "{serving:?}");
        let backend = bed.wire.backend_of(client);
        assert!(serving.contains(&backend), "client {client} began at {backend}, which drains");
        begun.insert(client, backend);
        for (client, backend) in &begun {
            assert_eq!(bed.wire.backend_of_old(*client), *backend, "client {client}, begun in a window");
        }
    }
    assert!(bed.in_transition() > 0);

    drop(bed.plane);
    bed.plane = place.open().unwrap();
    bed.wire = Wire::new(&place, &bed.interface);
    assert_eq!(bed.old(), first, "adopted");
    bed.share(&BACKENDS);
    assert_eq!(bed.old(), first, "changed by the next controller");

    sleep(TRANSITION * 2 + Duration::from_secs(1));
    assert!(bed.in_transition() > 0, "closing");
    bed.plane.clients().unwrap().end_windows().unwrap();
    assert_eq!((bed.in_transition(), bed.remembered().used), (0, 0));
}

#[test]
fn memory_in_use_keeps_a_slot_from_ending() {
    let Some(place) = Place::enter() else { return };
    let mut bed = Bed::new(&place);
    let first = bed.old();
    bed.share(&[11]);
    let end = std::time::Instant::now() + TRANSITION * 2;
    while std::time::Instant::now() < end {
        assert_eq!(bed.old(), first);
        bed.plane.observe().unwrap();
        bed.plane.clients().unwrap().end_windows().unwrap();
        sleep(Duration::from_millis(200));
    }
    let elsewhere = first.values().filter(|backend| **backend != 11).count() as u64;
    assert!(bed.in_transition() > 0);
    assert!((elsewhere..=first.len() as u64).contains(&bed.remembered().used));
    assert_eq!(bed.old(), first);
}

#[test]
fn a_backend_that_is_removed_in_a_window_gives_its_index_back_and_loses_its_own_connections_alone() {
    let Some(place) = Place::enter() else { return };
    let mut bed = Bed::new(&place);
    let first = bed.old();
    let rest = &BACKENDS[1..];
    bed.share(rest);
    assert_eq!(bed.old(), first);
    bed.plane.remove_backend(key(0), 11);
    let after = bed.old();
    for (client, backend) in &first {
        let now = after[client];
        assert!(if *backend == 11 { rest.contains(&now) } else { now == *backend }, "client {client}: {now}");
    }
    assert_eq!(bed.plane.observe().unwrap().services[&key(0)].backends.len(), rest.len());
    set_backend(&mut bed.plane, 99, behind(&bed.interface, 99));
    assert_eq!(bed.old(), after, "nobody follows an index to its next owner");
}
