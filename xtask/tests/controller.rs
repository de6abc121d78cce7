//! The controller dies, is stopped, comes back; packets do not notice, and nothing that was said is forgotten.

use std::time::Duration;

use pen_ctl::api::document::StatusDocument;
use rustix::process::{Pid, Signal, kill_process};
use xtask::lab::address::{Family, client};
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster, Kind, ask, target};
use xtask::lab::controller::Controller;
use xtask::lab::steady::Steady;
use xtask::lab::{await_that, dns};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const CLIENTS: u8 = 24;
const TRANSFER: u64 = 8_000_000;

#[test]
fn killed_in_the_midst_of_transfers_it_loses_nothing_and_the_next_one_adopts() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    cluster.for_all_services("set", "b3", "--state drain").unwrap();
    let before = cluster.assignments(CLIENTS).unwrap();
    let told = cluster.pen().status().unwrap();
    let namespace = &cluster.lab.client.namespace;
    let steady =
        Family::BOTH.map(|family| Steady::begin(namespace, client(family, 4), target(Kind::Dns, family)));

    let mut up = cluster.connect(Family::V4, 1).unwrap();
    let mut down = cluster.connect(Family::V6, 2).unwrap();
    let controller = &mut cluster.controllers[0];
    assert_eq!(up.upload(TRANSFER, || controller.kill()).unwrap(), TRANSFER);
    assert!(controller.status().is_err(), "the controller should be dead");
    assert_eq!(down.download(TRANSFER, || {}).unwrap(), TRANSFER);
    let mut asker = cluster
        .lab
        .client
        .namespace
        .run(|| dns::Asker::open(client(Family::V4, 3), target(Kind::Dns, Family::V4), CLIENT_PATIENCE))
        .unwrap();
    let who = asker.who().unwrap();
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), before, "while no controller runs");
    cluster.pen_mut().start("").unwrap();
    for _ in 0..200 {
        assert_eq!(asker.who().unwrap(), who);
    }
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), before, "after the next controller started");
    assert_eq!(up.who().unwrap(), before[&(Kind::Web, "web", 1)]);

    // Not one question was lost, from before its death until after the next one's start.
    for counts in steady.map(|client| client.stop().unwrap()) {
        assert!(counts.sent > 0 && counts.sent == counts.answered, "{counts:?}");
        assert_eq!(counts.by.len(), 1, "{counts:?}");
    }
    assert_remembers(&told, &cluster.pen().status().unwrap());
}

/// What was asked for and seen is still known, and counters did not go back.
fn assert_remembers(before: &StatusDocument, after: &StatusDocument) {
    assert_ne!(before.controller.pid, after.controller.pid);
    assert_eq!(before.controller.seed, after.controller.seed);
    let attached = |status: &StatusDocument| {
        let all = status.interfaces.iter();
        all.map(|one| (one.name.clone(), one.mode, one.state, one.announce)).collect::<Vec<_>>()
    };
    assert_eq!(attached(before), attached(after));
    assert!(after.packets.forwarded >= before.packets.forwarded);
    assert_eq!(before.services.len(), after.services.len());
    for (before, after) in before.services.iter().zip(&after.services) {
        assert_eq!((&before.name, &before.vip), (&after.name, &after.vip));
        assert_eq!(before.backends.len(), after.backends.len());
        for (before, after) in before.backends.iter().zip(&after.backends) {
            let known = |backend: &pen_ctl::api::document::BackendDocument| {
                (backend.address, backend.state, backend.health.status, backend.serving, backend.mac)
            };
            assert_eq!(known(before), known(after));
            assert!(after.packets >= before.packets);
        }
    }
}

#[test]
fn a_change_that_was_answered_ok_survives_kills_in_the_midst_of_changes() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let held = cluster.assignments(CLIENTS).unwrap();
    let mut told = 1;
    for round in 0..6 {
        let (pen, pid) = (cluster.pen(), cluster.pen().status().unwrap().controller.pid);
        // Changes one after the other, until the controller is gone: after 0 changes, 1, 2 …
        told = std::thread::scope(|scope| {
            let changes = scope.spawn(move || {
                let refused = (told + 1..).find(|weight| {
                    let line = format!("backend set web 10.77.1.3 --weight {weight}");
                    pen.cli(&line).unwrap().code != Some(0)
                });
                refused.unwrap() - 1
            });
            await_weight(pen, told + round);
            kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
            changes.join().unwrap()
        });
        cluster.pen_mut().kill();
        cluster.pen_mut().start("").unwrap();
        let kept = weight_of_b3(&cluster.pen().status().unwrap());
        // The change under way when it died may have been kept, though nobody could be told.
        assert!(kept == told || kept == told + 1, "weight {told} was answered ok, {kept} was kept");
        told = kept;
        assert_eq!(cluster.assignments(CLIENTS).unwrap(), held);
    }
}

/// Waits until the weight of b3 is at least this, or nobody answers any more.
fn await_weight(pen: &Controller, weight: u32) {
    while pen.status().is_ok_and(|status| weight_of_b3(&status) < weight) {}
}

fn weight_of_b3(status: &StatusDocument) -> u32 {
    let web = status.services.iter().find(|service| service.name == "web");
    let backends = web.map(|web| web.backends.as_slice()).unwrap_or_default();
    backends
        .iter()
        .find(|backend| backend.address.to_string() == "10.77.1.3")
        .map_or(0, |b3| b3.weight.into())
}

#[test]
fn a_backend_that_died_while_no_controller_ran_is_found_out_by_the_next() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    cluster.pen_mut().kill();
    cluster.kill_server("b2");
    cluster.pen_mut().start("").unwrap();
    cluster.await_serving(&["b1"]).unwrap();
    for n in 1..=CLIENTS {
        assert_eq!(cluster.who(Kind::Web, Family::V4, n).unwrap(), "b1");
    }
}

#[test]
fn sigterm_and_stop_leave_forwarding_on_until_stop_detach() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let before = cluster.assignments(CLIENTS).unwrap();
    assert!(cluster.pen_mut().terminate().unwrap(), "SIGTERM is no failure");
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), before);

    cluster.pen_mut().start("").unwrap();
    cluster.pen().ok("stop").unwrap();
    assert_eq!(cluster.pen().cli("status").unwrap().code, Some(3), "no controller answers");
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), before);
    cluster.pen().ok("stop").unwrap();

    cluster.pen().ok("stop --detach").unwrap();
    assert!(try_once(&cluster).is_err(), "detached, but the VIP still answers");
    // Detached until the next run, which was not told otherwise.
    cluster.pen_mut().kill();
    cluster.pen_mut().start("").unwrap();
    await_that("the VIP to answer again", Duration::from_secs(20), || Ok(try_once(&cluster))).unwrap();
    cluster.pen().ok("stop --detach").unwrap();
    assert!(try_once(&cluster).is_err(), "a controller that stops with --detach detaches");
}

/// One request of a client that does not wait long.
fn try_once(cluster: &Cluster) -> std::io::Result<String> {
    let patience = Duration::from_millis(300);
    let (source, to) = (client(Family::V4, 1), target(Kind::Web, Family::V4));
    cluster.lab.client.namespace.run(|| ask(Kind::Web, source, to, patience))
}

#[test]
fn detach_ends_forwarding_there_and_attach_resumes_it() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let before = cluster.assignments(CLIENTS).unwrap();
    for line in ["detach eth0", "detach eth0", "detach --all"] {
        cluster.pen().ok(line).unwrap();
        assert!(try_once(&cluster).is_err(), "{line}");
    }
    cluster.pen().ok("attach eth0").unwrap();
    cluster.pen().ok("attach eth0").unwrap();
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), before);

    // Without a controller it works from the pins, and the desired state learns of it.
    cluster.pen_mut().kill();
    cluster.pen().ok("detach eth0").unwrap();
    assert!(try_once(&cluster).is_err());
    cluster.pen_mut().start("").unwrap();
    assert_eq!(cluster.pen().status().unwrap().interfaces, []);
}

#[test]
fn attach_starts_a_controller_where_none_answers_and_says_so() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 2) else { return };
    let outcome = cluster.pen().cli("attach eth0").unwrap();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("started"), "{outcome:?}");
    cluster.configure(0, &["b1", "b2"]).unwrap();
    assert!(try_once(&cluster).is_ok());
    cluster.pen().ok("stop").unwrap();
    assert_eq!(cluster.pen().cli("status").unwrap().code, Some(3));
    assert!(try_once(&cluster).is_ok());
}

#[test]
fn a_program_that_someone_else_took_away_is_put_back() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let link = std::fs::read_dir(cluster.pen().bpffs().join("links")).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(link.path()).unwrap();
    await_that("XDP to be on eth0 and its link pinned again", Duration::from_secs(20), || {
        let shown = cluster.lab.balancers[0].namespace.ip("link show eth0")?;
        Ok(if shown.contains("xdp") && link.path().exists() { Ok(()) } else { Err(shown) })
    })
    .unwrap();
    await_that("the VIP to answer", Duration::from_secs(20), || Ok(try_once(&cluster))).unwrap();
}
