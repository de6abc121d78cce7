//! Round-robin, from what the controller writes to where the pinned program sends newcomers.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use pen_ctl::dataplane::xdp::XdpPlane;
use pen_ctl::dataplane::{
    BackendTarget, DataPlane, InterfaceTarget, Member, Operation, Scheduler, ServiceSettings,
};

use crate::packets::{Wire, behind};
use crate::place::Place;
use crate::wants::{Do, address, key, settings};

/// A plane that is attached and gives service 0's newcomers to these, by weight.
fn taking_turns(place: &Place, weights: &[(u8, u16)]) -> (XdpPlane, InterfaceTarget) {
    let interface = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.attach("a0", &interface);
    schedule(&mut plane, Scheduler::RoundRobin);
    for (number, _) in weights {
        set_backend(&mut plane, *number, behind(&interface, *number));
    }
    share(&mut plane, weights);
    (plane, interface)
}

fn schedule(plane: &mut XdpPlane, scheduler: Scheduler) {
    let settings = ServiceSettings { scheduler, ..settings() };
    plane.apply(&Operation::SetService { key: key(0), settings }).unwrap();
}

fn set_backend(plane: &mut XdpPlane, number: u8, target: BackendTarget) {
    plane.apply(&Operation::SetBackend { key: key(0), address: address(number), target }).unwrap();
}

fn share(plane: &mut XdpPlane, weights: &[(u8, u16)]) {
    let members = weights.iter().map(|&(number, weight)| Member { address: address(number), weight });
    plane.apply(&Operation::SetTable { key: key(0), members: members.collect() }).unwrap();
}

/// The backends of clients of these numbers, in their order.
fn backends(wire: &Wire, clients: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    clients.map(|client| wire.backend_of(client)).collect()
}

#[test]
fn three_new_clients_on_three_equal_backends_get_one_each() {
    let Some(place) = Place::enter() else { return };
    let (_plane, interface) = taking_turns(&place, &[(11, 1), (12, 1), (13, 1)]);
    let wire = Wire::new(&place, &interface);
    assert_eq!(backends(&wire, 1..=6), [11, 12, 13, 11, 12, 13]);
    assert_eq!(backends(&wire, 1..=6), [11, 12, 13, 11, 12, 13], "and keep it");
}

#[test]
fn turns_are_by_weight_and_only_of_those_who_serve() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = taking_turns(&place, &[(11, 3), (12, 1)]);
    let wire = Wire::new(&place, &interface);
    for round in 0..5 {
        let got = backends(&wire, 1 + 4 * round..=4 + 4 * round);
        assert_eq!(got.iter().filter(|backend| **backend == 11).count(), 3, "{got:?}");
    }
    share(&mut plane, &[(12, 1)]);
    assert_eq!(backends(&wire, 101..=104), [12; 4]);
    schedule(&mut plane, Scheduler::Maglev);
    share(&mut plane, &[(11, 3), (12, 1)]);
    let by_slot = backends(&wire, 120..=160);
    schedule(&mut plane, Scheduler::RoundRobin);
    let by_turn = backends(&wire, 161..=201);
    assert!(by_slot.windows(4).any(|four| four == [11; 4]), "{by_slot:?}");
    assert!(by_turn.windows(4).all(|four| four.contains(&11) && four.contains(&12)), "{by_turn:?}");
}

#[test]
fn the_next_controller_goes_on_with_the_next_turn() {
    let Some(place) = Place::enter() else { return };
    let weights = [(11, 1), (12, 1), (13, 1)];
    let (mut plane, interface) = taking_turns(&place, &weights);
    let before = plane.observe().unwrap();
    assert_eq!(backends(&Wire::new(&place, &interface), 1..=4), [11, 12, 13, 11]);
    drop(plane);

    let mut next = place.open().unwrap();
    let wire = Wire::new(&place, &interface);
    assert_eq!(backends(&wire, 5..=5), [12], "by the rings as they were found");
    let mut after = next.observe().unwrap();
    after.services.get_mut(&key(0)).unwrap().members = before.services[&key(0)].members.clone();
    assert_eq!(after.services, before.services, "the scheduler among it");
    share(&mut next, &weights);
    assert_eq!(backends(&wire, 6..=8), [13, 11, 12]);
}

/// An earlier controller made none, and an earlier program asks for none.
#[test]
fn pins_without_rings_get_them() {
    let Some(place) = Place::enter() else { return };
    let weights = [(11, 1), (12, 1), (13, 1)];
    let (plane, interface) = taking_turns(&place, &weights);
    drop(plane);
    std::fs::remove_file(place.pins().join("maps/rings")).unwrap();

    let mut next = place.open().unwrap();
    let wire = Wire::new(&place, &interface);
    assert!((11..=13).contains(&wire.backend_of(1)), "until then by slot");
    assert_eq!(next.observe().unwrap().services[&key(0)].members, None);
    share(&mut next, &weights);
    let mut got = backends(&wire, 2..=4);
    got.sort();
    assert_eq!(got, [11, 12, 13]);
    assert!(place.pins().join("maps/rings").exists());
}

#[test]
fn turns_that_someone_changed_are_noticed() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = taking_turns(&place, &[(11, 1), (12, 1)]);
    backends(&Wire::new(&place, &interface), 1..=3);
    assert!(plane.observe().unwrap().services[&key(0)].members.is_some(), "to take a turn is no change");
    let mut rings: aya::maps::Array<_, [u8; size_of::<pen_common::abi::Ring>()]> =
        crate::pinned::open(&place, "rings");
    let mut bytes = rings.get(&0, 0).unwrap();
    bytes[64..].fill(0);
    rings.set(0, bytes, 0).unwrap();
    assert_eq!(plane.observe().unwrap().services[&key(0)].members, None);
}
