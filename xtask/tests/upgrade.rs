//! Upgrade and rollback between two builds of pen under traffic: not a packet is lost, every client stays in place.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use xtask::lab::address::{Family, client};
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster, Kind, target};
use xtask::lab::controller::{Controller, PATIENCE};
use xtask::lab::http::{self, Connection};
use xtask::lab::steady::{Counts, Steady};
use xtask::lab::traffic::{Question, Traffic, failures, moved};
use xtask::lab::{await_that, other_build};

/// Bytes of each of the uploads that follow each other on one connection: those of all clients together fit into the
/// queue of a veth (256 packets), so that nothing is lost on the way to pen.
const UPLOAD: u64 = 16_000;
/// Rounds of questions that every client has answered after each change of builds.
const A_WHILE: u64 = 10;

/// Who asks: family, number, what.
type Key = (Family, u8, &'static str);

#[test]
fn upgrades_and_rollbacks_between_two_builds_lose_not_a_packet_and_move_nobody() {
    let Some(mut cluster) = Cluster::for_test(env!("CARGO_BIN_EXE_xtask"), 1, 3) else { return };
    let this = cluster.programs.pen_ctl.clone();
    let other = other_build::build(&this).unwrap();
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let own_tag = tag(&cluster);

    let (traffic, steady) = begin(&cluster);
    await_answers(&traffic);
    let before = traffic.ledger();
    let counted = cluster.pen().status().unwrap().packets;

    for (end, program) in [(End::Stop, &other), (End::Kill, &this), (End::Kill, &other), (End::Stop, &this)] {
        let what = format!("{end:?}, then {}", program.display());
        let is_other = program == &other;
        change(&mut cluster, &traffic, end, program);
        assert_eq!(version(cluster.pen()) == other_build::VERSION, is_other, "{what}");
        await_that("the program of the build that runs", PATIENCE, || {
            let tag = tag(&cluster);
            Ok(if (tag != own_tag) == is_other { Ok(()) } else { Err(tag) })
        })
        .unwrap();
        // What one build wrote the other reads and writes again.
        cluster.for_all_services("set", "b3", if is_other { "--weight 2" } else { "--weight 1" }).unwrap();
        await_answers(&traffic);
        let after = traffic.ledger();
        let failed = failures(&before, &after);
        assert!(failed.is_empty(), "{what}: {failed:#?}\n{}", cluster.pen().log());
        assert_eq!(moved(&before, &after), BTreeSet::new(), "{what}\n{}", cluster.pen().log());
    }
    let counts = cluster.pen().status().unwrap().packets;
    assert!(counts.forwarded > counted.forwarded, "counters go on");
    assert_eq!(counts.dropped, counted.dropped);
    assert_nothing_lost(&cluster, traffic, steady);
}

/// How a controller ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Kill,
}

/// Ends the controller and, after everybody was answered without one, starts one of this build.
fn change(cluster: &mut Cluster, traffic: &Traffic<Key>, end: End, program: &Path) {
    match end {
        End::Stop => cluster.pen().ok("stop").map(drop).unwrap(),
        End::Kill => cluster.pen_mut().kill(),
    }
    await_answers(traffic);
    // One that was asked to stop has ended by now; its process is still to be waited for.
    cluster.pen_mut().kill();
    cluster.pen_mut().use_program(program);
    cluster.pen_mut().start("").unwrap();
}

/// Sends everybody home: each question reached a backend, and each was answered.
fn assert_nothing_lost(cluster: &Cluster, traffic: Traffic<Key>, steady: Vec<Steady>) {
    let asked: Vec<Counts> = steady.into_iter().map(|client| client.stop().unwrap()).collect();
    let sent: u64 = asked.iter().map(|counts| counts.sent).sum();
    let requests: u64 = traffic.close().values().map(|record| record.answered).sum();
    let arrived: u64 = cluster.lab.backends.iter().map(|host| host.namespace.udp_datagrams().unwrap()).sum();
    let drops = cluster.lab.balancers[0].namespace.ip("-s -s link show eth0").unwrap();
    let seen = format!("{sent} questions sent, {arrived} arrived, {requests} requests answered");
    let _ = writeln!(io::stderr(), "    four changes of builds: {seen}");
    assert_eq!(sent, arrived, "{drops}");
    for counts in &asked {
        assert_eq!(counts.sent, counts.answered, "{counts:?} of {seen}\n{drops}");
        assert_eq!(counts.by.len(), 1, "one client, one backend: {counts:?}");
    }
}

/// Clients of both families: steady questions, and requests and uploads on kept and on new connections.
fn begin(cluster: &Cluster) -> (Traffic<Key>, Vec<Steady>) {
    let namespace = &cluster.lab.client.namespace;
    let mut traffic = Traffic::new(namespace.clone());
    for (n, family) in (1..=6).flat_map(|n| Family::BOTH.map(|family| (n, family))) {
        let (source, to) = (client(family, n), target(Kind::Web, family));
        let mut kept = None;
        let upload = move || {
            let mut connection =
                kept.take().map_or_else(|| Connection::open(source, to, CLIENT_PATIENCE), Ok)?;
            let got = connection.upload(UPLOAD, || {})?;
            let who = connection.who()?;
            kept = Some(connection);
            if got == UPLOAD { Ok(who) } else { Err(io::Error::other(format!("{got} bytes arrived"))) }
        };
        let questions: Vec<(Key, Question)> = vec![
            ((family, n, "upload"), Box::new(upload)),
            ((family, n, "new connection"), Box::new(move || http::who(source, to, CLIENT_PATIENCE))),
        ];
        traffic.begin(Duration::from_millis(10), questions);
    }
    let steady = (11..=14).flat_map(|n| Family::BOTH.map(|family| (n, family)));
    let steady =
        steady.map(|(n, family)| Steady::begin(namespace, client(family, n), target(Kind::Dns, family)));
    (traffic, steady.collect())
}

/// Waits until everybody got some more answers.
fn await_answers(traffic: &Traffic<Key>) {
    let before = traffic.ledger();
    await_that("everybody to be answered again", PATIENCE, || {
        let ledger = traffic.ledger();
        let waits = before.iter().find(|(key, record)| ledger[key].answered < record.answered + A_WHILE);
        Ok(waits.map_or(Ok(()), |(key, _)| Err(format!("{key:?}: {:?}", ledger[key]))))
    })
    .unwrap();
}

/// Tag of the program on the balancer's interface: a digest of its instructions.
fn tag(cluster: &Cluster) -> String {
    let shown = cluster.lab.balancers[0].namespace.ip("-d link show dev eth0").unwrap();
    let mut words = shown.split_whitespace().skip_while(|word| *word != "tag");
    words.nth(1).unwrap_or_else(|| panic!("no program: {shown}")).to_owned()
}

fn version(pen: &Controller) -> String {
    pen.status().unwrap().controller.version
}
