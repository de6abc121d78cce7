//! Who answers whom, and who stays with whom, while backends come, go, drain and die.

use std::collections::BTreeMap;
use std::io;

use xtask::lab::address::Family;
use xtask::lab::cluster::{Cluster, Kind, services};
use xtask::lab::http::Connection;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const CLIENTS: u8 = 24;

type Assignments = BTreeMap<(Kind, &'static str, u8), String>;

/// The part of the assignments that names this backend.
fn of<'a>(all: &'a Assignments, backend: &'a str) -> impl Iterator<Item = (Kind, &'static str, u8)> + 'a {
    all.iter().filter(move |(_, name)| *name == backend).map(|(key, _)| *key)
}

/// Who answers 24 clients that come to every service for the first time, in this wave of such.
fn newcomers(cluster: &Cluster, wave: u8) -> io::Result<Vec<String>> {
    let numbers = wave * CLIENTS + 1..=(wave + 1) * CLIENTS;
    let each = services().flat_map(|service| numbers.clone().map(move |n| (service, n)));
    each.map(|((kind, family), n)| cluster.who(kind, family, n)).collect()
}

#[test]
fn each_of_24_clients_is_always_answered_by_the_same_backend() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let first = cluster.assignments(CLIENTS).unwrap();
    for backend in ["b1", "b2", "b3"] {
        assert!(of(&first, backend).next().is_some(), "{backend} got nobody: {first:?}");
    }
    for _ in 0..3 {
        assert_eq!(cluster.assignments(CLIENTS).unwrap(), first);
    }
}

/// Forty connections, from as many addresses, of both families, each with who answers it.
fn hold_forty(cluster: &Cluster) -> io::Result<Vec<(Connection, String)>> {
    let each = (1..=20).flat_map(|n| Family::BOTH.map(|family| (family, n)));
    each.map(|(family, n)| {
        let mut connection = cluster.connect(family, n)?;
        let who = connection.who()?;
        Ok((connection, who))
    })
    .collect()
}

fn assert_held(connections: &mut [(Connection, String)], when: &str) {
    for (connection, who) in connections {
        let now =
            connection.who().unwrap_or_else(|error| panic!("a connection to {who} broke {when}: {error}"));
        assert_eq!(now, *who, "{when}");
    }
}

#[test]
fn backends_come_and_go_and_not_one_of_forty_connections_breaks() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let mut connections = hold_forty(&cluster).unwrap();
    for round in 1..=2 {
        cluster.for_all_services("add", "b3", "").unwrap();
        cluster.await_serving(&["b1", "b2", "b3"]).unwrap();
        assert_held(&mut connections, &format!("when b3 was added, round {round}"));
        assert!(
            newcomers(&cluster, 2 * round - 1).unwrap().contains(&"b3".to_owned()),
            "nobody new came to b3"
        );
        cluster.for_all_services("set", "b3", "--weight 5").unwrap();
        assert_held(&mut connections, &format!("when b3 got more weight, round {round}"));
        cluster.for_all_services("remove", "b3", "").unwrap();
        cluster.await_serving(&["b1", "b2"]).unwrap();
        assert_held(&mut connections, &format!("when b3 was removed, round {round}"));
        assert!(
            !newcomers(&cluster, 2 * round).unwrap().contains(&"b3".to_owned()),
            "b3 answers though removed"
        );
    }
}

#[test]
fn a_draining_backend_keeps_its_clients_and_gets_no_new_ones() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let mut connections = hold_forty(&cluster).unwrap();
    let before = cluster.assignments(CLIENTS).unwrap();
    assert!(of(&before, "b3").next().is_some());
    cluster.for_all_services("set", "b3", "--state drain").unwrap();
    cluster.await_serving(&["b1", "b2"]).unwrap();
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), before);
    assert_held(&mut connections, "when b3 was drained");
    assert!(!newcomers(&cluster, 1).unwrap().contains(&"b3".to_owned()));
    // Down is not drain: its clients leave at once.
    cluster.for_all_services("set", "b3", "--state down").unwrap();
    let after = cluster.assignments(CLIENTS).unwrap();
    assert_eq!(of(&after, "b3").next(), None);
    for key in of(&before, "b1") {
        assert_eq!(after[&key], "b1");
    }
}

/// The clients of `dead` are answered by others, everybody else by the same as before.
fn assert_only_clients_of_moved(dead: &str, before: &Assignments, after: &Assignments) {
    for (key, was) in before {
        let now = &after[key];
        assert_eq!(now != was, was == dead, "{key:?} went from {was} to {now}");
    }
}

#[test]
fn when_a_server_is_killed_its_clients_and_only_they_move_and_stay_where_they_moved() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let before = cluster.assignments(CLIENTS).unwrap();
    assert!(of(&before, "b2").next().is_some());
    cluster.kill_server("b2");
    cluster.await_serving(&["b1", "b3"]).unwrap();
    let after = cluster.assignments(CLIENTS).unwrap();
    assert_only_clients_of_moved("b2", &before, &after);
    cluster.start_server("b2").unwrap();
    cluster.await_serving(&["b1", "b2", "b3"]).unwrap();
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), after);
    assert!(newcomers(&cluster, 1).unwrap().contains(&"b2".to_owned()), "b2 is back but gets nobody new");
}

#[test]
fn when_a_cable_is_pulled_its_clients_and_only_they_move() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let mut connections = hold_forty(&cluster).unwrap();
    let before = cluster.assignments(CLIENTS).unwrap();
    assert!(of(&before, "b2").next().is_some());
    let host = cluster.lab.backend("b2").unwrap();
    cluster.lab.unplug(host).unwrap();
    cluster.await_serving(&["b1", "b3"]).unwrap();
    assert_only_clients_of_moved("b2", &before, &cluster.assignments(CLIENTS).unwrap());
    connections.retain(|(_, who)| who != "b2");
    assert_held(&mut connections, "when b2's cable was pulled");
    cluster.lab.plug(host).unwrap();
    cluster.await_serving(&["b1", "b2", "b3"]).unwrap();
}
