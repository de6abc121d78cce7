//! Tracking `transitions`: connections outlive changes of their slots' owners, though only those are remembered.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pen_ctl::api::document::StatusDocument;
use pen_ctl::api::document::clients::ClientList;
use xtask::lab::address::Family;
use xtask::lab::cluster::{Cluster, Kind};
use xtask::lab::http::Connection;
use xtask::lab::other_build;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// Connections of each family, each of a client of its own.
const CLIENTS: u8 = 30;
/// How long a window stays open: longer than any connection here is silent.
const TRANSITION: Duration = Duration::from_secs(10);

/// A cluster of web services that remember only what is changing, with these backends, whom nothing changes between.
fn cluster(backends: &[&str]) -> Option<Cluster> {
    let cluster = Cluster::for_test(XTASK, 1, 3)?;
    cluster.configure(0, &[]).unwrap();
    let settings = format!("--tracking transitions --transition {}s", TRANSITION.as_secs());
    for service in ["web", "web6"] {
        cluster.pen().ok(&format!("service set {service} {settings}")).unwrap();
    }
    for backend in backends {
        cluster.for_all_services("add", backend, "").unwrap();
    }
    cluster.await_serving(backends).unwrap();
    await_unmarked(&cluster);
    Some(cluster)
}

fn await_unmarked(cluster: &Cluster) {
    let over = |status: &StatusDocument| in_transition(status) == 0;
    cluster.pen().await_status("all slots to be done with changing", over).unwrap();
}

struct Held(Vec<(Connection, String)>);

impl Held {
    /// A connection of each of these clients, of both families, with who answers it.
    fn open(cluster: &Cluster, numbers: impl Iterator<Item = u8> + Clone) -> Held {
        let each = Family::BOTH.into_iter().flat_map(|family| numbers.clone().map(move |n| (family, n)));
        Held(
            each.map(|(family, n)| {
                let mut connection = cluster.connect(family, n).unwrap();
                let who = connection.who().unwrap();
                (connection, who)
            })
            .collect(),
        )
    }

    /// None broke, and each is answered by the same backend.
    fn assert_held(&mut self, when: &str) {
        for (connection, who) in &mut self.0 {
            let now = connection.who().unwrap_or_else(|error| panic!("one to {who} broke {when}: {error}"));
            assert_eq!(now, *who, "{when}");
        }
    }

    fn backends(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(_, who)| who.as_str()).collect()
    }
}

fn in_transition(status: &StatusDocument) -> u32 {
    let web = status.services.iter().filter(|service| service.name.starts_with("web"));
    web.map(|service| service.slots_in_transition).sum()
}

fn tracked(cluster: &Cluster) -> u64 {
    let listed = cluster.pen().ok("--json client list web").unwrap();
    let listed: ClientList = serde_json::from_str(&listed).unwrap();
    listed.total
}

#[test]
fn connections_outlive_drains_weights_newcomers_and_the_controller_of_whichever_build() {
    let Some(mut cluster) = cluster(&["b1", "b2"]) else { return };
    let this = cluster.programs.pen_ctl.clone();
    // Takes longer than anybody may be silent once something changes.
    let other = other_build::build(&this).unwrap();
    let mut old = Held::open(&cluster, 1..=CLIENTS);
    assert_eq!(old.backends(), BTreeSet::from(["b1", "b2"]));
    assert_eq!(tracked(&cluster), 0, "nothing changes owner: nobody is remembered");

    cluster.for_all_services("set", "b1", "--state drain").unwrap();
    cluster.await_serving(&["b2"]).unwrap();
    old.assert_held("when b1 was drained");
    let mut new = Held::open(&cluster, CLIENTS + 1..=2 * CLIENTS);
    assert_eq!(new.backends(), BTreeSet::from(["b2"]));
    assert!(in_transition(&cluster.pen().status().unwrap()) > 0);
    assert!(tracked(&cluster) > 0);

    for program in [&this, &other, &this] {
        cluster.pen_mut().kill();
        for held in [&mut old, &mut new] {
            held.assert_held("when the controller was dead");
        }
        cluster.pen_mut().use_program(program);
        cluster.pen_mut().start("").unwrap();
        for held in [&mut old, &mut new] {
            held.assert_held(&format!("when {} took over", program.display()));
        }
        assert!(in_transition(&cluster.pen().status().unwrap()) > 0, "windows are as they were");
    }

    cluster.for_all_services("add", "b3", "").unwrap();
    cluster.await_serving(&["b2", "b3"]).unwrap();
    cluster.for_all_services("set", "b3", "--weight 7").unwrap();
    cluster.for_all_services("set", "b1", "--state up").unwrap();
    cluster.await_serving(&["b1", "b2", "b3"]).unwrap();
    for held in [&mut old, &mut new] {
        held.assert_held("when b3 came, got more weight, and b1 was back");
    }

    // Until the windows are over connections must not fall silent for as long as that.
    let end = Instant::now() + TRANSITION * 2;
    while Instant::now() < end {
        for held in [&mut old, &mut new] {
            held.assert_held("while the windows closed");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    for held in [&mut old, &mut new] {
        held.assert_held("when the windows were over");
    }
    drop((old, new));
    await_unmarked(&cluster);
    assert_eq!(tracked(&cluster), 0, "what is not asked any more is forgotten");
}

#[test]
fn when_a_backend_dies_its_connections_break_and_no_others_and_newcomers_are_served() {
    let Some(mut cluster) = cluster(&["b1", "b2", "b3"]) else { return };
    let mut held = Held::open(&cluster, 1..=CLIENTS);
    assert_eq!(held.backends(), BTreeSet::from(["b1", "b2", "b3"]));
    cluster.kill_server("b2");
    cluster.await_serving(&["b1", "b3"]).unwrap();
    held.0.retain(|(_, who)| who != "b2");
    held.assert_held("when b2 was killed");
    let new = Held::open(&cluster, CLIENTS + 1..=2 * CLIENTS);
    assert_eq!(new.backends(), BTreeSet::from(["b1", "b3"]));
    cluster.start_server("b2").unwrap();
    cluster.await_serving(&["b1", "b2", "b3"]).unwrap();
    held.assert_held("when b2 was back");
    for n in 1..=CLIENTS {
        cluster.who(Kind::Web, Family::V4, n).unwrap();
    }
}

#[test]
fn a_drain_waits_for_connections_that_have_not_shown_themselves_yet() {
    let Some(cluster) = cluster(&["b1", "b2"]) else { return };
    let mut held = Held::open(&cluster, 1..=CLIENTS);
    cluster.for_all_services("remove", "b1", "--drain 1h --no-wait").unwrap();
    cluster.await_serving(&["b2"]).unwrap();
    std::thread::sleep(TRANSITION / 2);
    held.assert_held("in the midst of the drain of b1");
    std::thread::sleep(TRANSITION / 2);
    held.assert_held("at the end of the window");
    drop(held);
    let gone = |status: &StatusDocument| {
        let mut web = status.services.iter().filter(|service| service.name.starts_with("web"));
        web.all(|service| service.backends.len() == 1)
    };
    cluster.pen().await_status("b1 to be removed", gone).unwrap();
}
