//! Who is remembered, read from the real tables: every entry once, for what it is worth, beside everything else.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::Duration;

use pen_common::abi::{TrackKeyV4, Tracked};
use pen_ctl::dataplane::clients::{Clients, Fate, Remembered, Standing};
use pen_ctl::dataplane::xdp::{OpenOptions, XdpPlane};
use pen_ctl::dataplane::{
    Affinity, BackendAddress, BackendTarget, DataPlane, Operation, ServiceSettings, Tracking,
};

use crate::kernel;
use crate::packets::{Wire, set_backend, sharing};
use crate::pinned;
use crate::place::Place;
use crate::wants::{Do, address, key, serving, settings};

/// All that is remembered, by client.
fn all(clients: &dyn Clients) -> BTreeMap<IpAddr, Remembered> {
    let mut found = BTreeMap::new();
    clients
        .read(&mut |one| {
            assert_eq!(found.insert(one.client, one.clone()), None, "seen twice: {one:?}");
            Fate::Keep
        })
        .unwrap();
    found
}

fn client(number: u8) -> IpAddr {
    [10, 9, 0, number].into()
}

fn set_service(plane: &mut XdpPlane, change: ServiceSettings) {
    plane.apply(&Operation::SetService { key: key(0), settings: change }).unwrap();
}

#[test]
fn who_came_is_found_on_the_backend_that_packets_went_to() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11, 12]);
    let wire = Wire::new(&place, &interface);
    let clients = plane.clients().unwrap();
    let told: BTreeMap<u8, BackendAddress> =
        (1..=60).map(|n| (n, clients.newcomer(&key(0), client(n)).unwrap().unwrap())).collect();
    let came = wire.everyones_backend();
    let found = all(clients.as_ref());
    assert_eq!(found.len(), came.len());
    for (number, backend) in came {
        assert_eq!(told[&number], address(backend), "what was foretold of client {number}");
        let one = &found[&client(number)];
        let expected = Remembered {
            client: client(number),
            flow: None,
            service: Some(key(0)),
            backend: Some(address(backend)),
            idle: one.idle,
            standing: Standing::Counts,
        };
        assert_eq!(*one, expected);
        assert!(one.idle < 60, "client {number} was seen just now, not {} s ago", one.idle);
    }
}

#[test]
fn a_memory_that_does_not_count_says_why() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    wire.backend_of(1);
    let clients = plane.clients().unwrap();
    let standing = || all(clients.as_ref())[&client(1)].standing;
    assert_eq!(standing(), Standing::Counts);

    let down = BackendTarget { usable: false, serving: false, ..serving(11) };
    set_backend(&mut plane, 11, down);
    assert_eq!(standing(), Standing::BackendDown);
    set_backend(&mut plane, 11, serving(11));
    assert_eq!(standing(), Standing::Counts);

    set_service(&mut plane, ServiceSettings { affinity: Affinity::Flow, ..settings() });
    assert_eq!(standing(), Standing::NotAsked, "flows are remembered now, not clients");
    set_service(&mut plane, ServiceSettings { tracking: Tracking::Off, ..settings() });
    assert_eq!(standing(), Standing::NotAsked);
    set_service(&mut plane, settings());
    assert_eq!(standing(), Standing::Counts);

    backdate(&place, Duration::from_secs(301));
    assert_eq!(standing(), Standing::TimedOut);
    assert_eq!(all(clients.as_ref())[&client(1)].idle / 100, 3);

    plane.set_table(key(0), &[]);
    plane.remove_backend(key(0), 11);
    assert_eq!(standing(), Standing::BackendRemoved);
    plane.set_backend(key(0), 12);
    assert_eq!(standing(), Standing::BackendRemoved, "another has its index now");
    plane.remove_service(key(0));
    assert_eq!(standing(), Standing::ServiceRemoved);
    assert_eq!(all(clients.as_ref())[&client(1)].service, None);
}

/// Lets everybody have been seen so much earlier.
fn backdate(place: &Place, by: Duration) {
    let mut table = pinned::track_v4(place);
    let keys: Vec<[u32; 3]> = table.keys().collect::<Result<_, _>>().unwrap();
    for key in keys {
        // The second is the upper half of the value.
        let value = table.get(&key, 0).unwrap();
        let seen = ((value >> 32) as u32).wrapping_sub(by.as_secs() as u32);
        table.insert(key, value & 0xffff_ffff | u64::from(seen) << 32, 0).unwrap();
    }
}

#[test]
fn flows_are_told_with_their_ports() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    set_service(&mut plane, ServiceSettings { affinity: Affinity::Flow, ..settings() });
    Wire::new(&place, &interface).backend_of(1);
    let clients = plane.clients().unwrap();
    let one = all(clients.as_ref())[&client(1)].clone();
    let flow = one.flow.unwrap();
    assert_eq!((flow.client, flow.service, one.standing), (12_345, 80, Standing::Counts));
    assert_eq!(clients.newcomer(&key(0), client(1)).unwrap(), None, "it depends on the flow");
}

#[test]
fn who_is_forgotten_goes_where_newcomers_go_and_nobody_else_moves() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    wire.everyones_backend();
    set_backend(&mut plane, 12, BackendTarget { path: Some(behind(&interface)), ..serving(12) });
    plane.set_table(key(0), &[12]);
    let clients = plane.clients().unwrap();
    let forget = |wanted: &dyn Fn(IpAddr) -> bool| {
        let mut fate = |one: &Remembered| if wanted(one.client) { Fate::Forget } else { Fate::Keep };
        clients.read(&mut fate).unwrap()
    };
    assert_eq!(forget(&|who| who == client(7)), 1);
    assert_eq!(forget(&|who| who == client(7)), 0);
    for number in 1..=60 {
        assert_eq!(wire.backend_of(number), if number == 7 { 12 } else { 11 }, "client {number}");
    }
    assert_eq!(forget(&|_| true), 60);
    assert_eq!(plane.clients().unwrap().read(&mut |_| panic!("still there")).unwrap(), 0);
}

#[test]
fn what_was_inserted_is_in_use_or_deleted_or_evicted_and_adoption_forgets_none_of_it() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    wire.everyones_backend();
    wire.everyones_backend();
    let counted = |plane: &mut XdpPlane| {
        let table = plane.clients().unwrap().occupancy().unwrap().v4;
        (table.inserted, table.used, table.evicted)
    };
    assert_eq!(counted(&mut plane), (60, 60, 0), "who comes again is not inserted again");
    let mut fate = |one: &Remembered| if one.client < client(11) { Fate::Forget } else { Fate::Keep };
    assert_eq!(plane.clients().unwrap().read(&mut fate).unwrap(), 10);
    assert_eq!(counted(&mut plane), (60, 50, 0), "what was deleted did not give way");

    // What the kernel takes out tells nobody.
    let mut table = pinned::track_v4(&place);
    let some: Vec<[u32; 3]> = table.keys().take(7).collect::<Result<_, _>>().unwrap();
    some.iter().for_each(|key| table.remove(key).unwrap());
    assert_eq!(counted(&mut plane), (60, 43, 7));
    drop(plane);
    let mut plane = place.open().unwrap();
    assert_eq!(counted(&mut plane), (60, 43, 7));
    assert_eq!(plane.inserted().unwrap().v4, 60);
}

fn behind(interface: &pen_ctl::dataplane::InterfaceTarget) -> pen_ctl::dataplane::BackendPath {
    let path = serving(12).path.unwrap();
    pen_ctl::dataplane::BackendPath { ifindex: interface.ifindex, ..path }
}

/// Entries of the full table.
const MILLION: u32 = 1 << 20;

#[test]
fn a_full_table_of_a_million_is_read_while_everything_else_goes_on() {
    let Some(place) = Place::enter() else { return };
    let mut plane = XdpPlane::open(&OpenOptions { tracking_clients: MILLION, ..place.options() }).unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_table(key(0), &[11]);
    let (generation, _) = pinned::backend(&place, 0);
    let written = kernel::fill(
        &kernel::open_pin(&place.pins().join("maps/track_v4")),
        (0..MILLION).map(|n| {
            let key = TrackKeyV4 { client: (0x0b00_0000 + n).to_be(), ..TrackKeyV4::default() };
            (key, Tracked { backend: 0, generation, seen: 1 })
        }),
    );
    let held = plane.clients().unwrap().occupancy().unwrap().v4.used;
    assert!(held > u64::from(written) * 9 / 10, "{held} of {written}");

    let clients = plane.clients().unwrap();
    let (half_way, go_on) = (mpsc::channel(), mpsc::channel::<()>());
    let reader = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        clients
            .read(&mut |one| {
                assert!(seen.insert(one.client), "{} twice", one.client);
                if seen.len() == MILLION as usize / 2 {
                    half_way.0.send(()).unwrap();
                    go_on.1.recv().unwrap();
                }
                Fate::Keep
            })
            .unwrap();
        seen.len() as u64
    });
    // In the midst of it, as long as it takes: all that a controller does is done.
    half_way.1.recv().unwrap();
    plane.observe().unwrap();
    plane.counters().unwrap();
    plane.clients().unwrap().occupancy().unwrap();
    plane.set_backend(key(0), 12);
    plane.set_table(key(0), &[11, 12]);
    assert!(!reader.is_finished());
    go_on.0.send(()).unwrap();
    assert_eq!(reader.join().unwrap(), held, "nothing came or went: each was seen once");

    // A reading ends when it is told to, however much there is.
    let mut seen = 0;
    let stop = |seen: &mut u32| {
        *seen += 1;
        if *seen == 10 { Fate::Stop } else { Fate::Keep }
    };
    plane.clients().unwrap().read(&mut |_| stop(&mut seen)).unwrap();
    assert_eq!(seen, 10);
    let forgotten = plane.clients().unwrap().read(&mut |_| Fate::Forget).unwrap();
    assert_eq!(forgotten, held);
}

#[test]
fn who_is_evicted_while_being_forgotten_holds_up_nobody_else() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    let mut table = pinned::track_v4(&place);
    for client in 0..1000 {
        table.insert([client, 0, 0], 0, 0).unwrap();
    }
    let (mut seen, mut evicted) = (0, 0);
    let mut visit = |one: &Remembered| {
        let IpAddr::V4(client) = one.client else { panic!("{one:?}") };
        seen += 1;
        if seen % 3 == 0 {
            table.remove(&[u32::from_ne_bytes(client.octets()), 0, 0]).unwrap();
            evicted += 1;
        }
        Fate::Forget
    };
    let forgotten = plane.clients().unwrap().read(&mut visit).unwrap();
    assert!(seen > 900 && evicted > 300, "{seen}, {evicted}");
    assert_eq!(forgotten, seen - evicted);
    assert_eq!(table.keys().count(), 0);
}
