//! Clients as an administrator sees them; and a backend that is removed after a drain, under traffic: nobody notices
//! but whoever is still on it at the deadline.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pen_ctl::api::document::{BackendDocument, StatusDocument};
use rustix::process::{Pid, Signal, kill_process};
use xtask::lab::address::{Family, client};
use xtask::lab::await_that;
use xtask::lab::cluster::{Cluster, Kind};
use xtask::lab::controller::PATIENCE;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const CLIENTS: u8 = 24;
/// Own address of b3.
const B3: &str = "10.77.1.3";

/// Who answers each client of the web service.
fn assignments(cluster: &Cluster) -> BTreeMap<u8, String> {
    (1..=CLIENTS).map(|n| (n, cluster.who(Kind::Web, Family::V4, n).unwrap())).collect()
}

fn b3(status: &StatusDocument) -> Option<&BackendDocument> {
    let web = status.services.iter().find(|service| service.name == "web")?;
    web.backends.iter().find(|backend| backend.address.to_string() == B3)
}

/// `backend remove web … --drain TIME`, under way; its first line of progress was read.
fn drain(cluster: &Cluster, time: &str) -> (Child, BufReader<ChildStderr>, String) {
    let mut command = cluster.pen().command(["backend", "remove", "web", B3, "--drain", time]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    (child, lines, first)
}

fn rest(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn clients_are_listed_shown_and_forgotten() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let before = assignments(&cluster);
    let listed = cluster.pen().ok("client list web --limit 10").unwrap();
    assert!(listed.ends_with(&format!("\n10 of {CLIENTS} clients shown\n")), "{listed}");
    let first = client(Family::V4, 1);
    let address = cluster.address(Family::V4, &before[&1]).to_string();
    let shown = cluster.pen().ok(&format!("client show {first}")).unwrap();
    let of_web: Vec<&str> =
        shown.lines().find(|line| line.starts_with("web ")).unwrap().split_whitespace().collect();
    assert_eq!(of_web[2..], [address.as_str(), "remembered"], "{shown}");

    assert_eq!(cluster.pen().ok(&format!("client forget {first}")).unwrap(), "1 client forgotten\n");
    let shown = cluster.pen().ok(&format!("client show {first}")).unwrap();
    assert!(shown.contains("by its slot") && shown.contains("nothing is remembered"), "{shown}");
    assert_eq!(
        assignments(&cluster),
        before,
        "nothing changed since it came: its slot is still that backend's"
    );
}

#[test]
fn it_is_removed_when_its_last_client_has_gone_and_no_request_fails() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    cluster.pen().ok("service set web --tracking-timeout 8s").unwrap();
    let before = assignments(&cluster);
    let drained: Vec<u8> = before.iter().filter(|(_, name)| *name == "b3").map(|(n, _)| *n).collect();
    assert!(!drained.is_empty(), "{before:?}");

    let (on_b3_go, all_go) = (AtomicBool::new(false), AtomicBool::new(false));
    let rounds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Everybody asks again and again, over new connections, those on b3 until they are told to go.
        let live = scope.spawn(|| {
            while !all_go.load(Ordering::SeqCst) {
                let here =
                    before.iter().filter(|(_, name)| *name != "b3" || !on_b3_go.load(Ordering::SeqCst));
                for (n, name) in here {
                    assert_eq!(cluster.who(Kind::Web, Family::V4, *n).unwrap(), *name, "client {n} moved");
                }
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (mut child, progress, first) = drain(&cluster, "10m");
        assert!(first.contains(&format!("draining {B3} of web: ")), "{first}");
        let counted = cluster.pen().await_status("everybody on b3 to be counted", |status| {
            let drain = b3(status).and_then(|b3| b3.drain.as_ref());
            drain.and_then(|drain| drain.clients_left) == Some(drained.len() as u64)
        });
        let counted = counted.unwrap();
        let drain = b3(&counted).unwrap().drain.as_ref().unwrap();
        assert!((1..600).contains(&drain.seconds_left), "{drain:?}");
        let shown = cluster.pen().ok("status").unwrap();
        assert!(shown.contains("no: draining; removed within"), "{shown}");
        let listed = cluster.pen().ok(&format!("client list web --backend {B3} --limit 1")).unwrap();
        assert!(listed.contains(&format!("1 of {} clients shown", drained.len())), "{listed}");

        let seen = rounds.load(Ordering::SeqCst);
        await_that("the clients to go on meanwhile", PATIENCE, || {
            let on = rounds.load(Ordering::SeqCst) > seen + 5 || live.is_finished();
            Ok(if on { Ok(()) } else { Err("they wait") })
        })
        .unwrap();
        assert!(child.try_wait().unwrap().is_none(), "somebody is on it, but it does not wait");
        on_b3_go.store(true, Ordering::SeqCst);
        let ended = child.wait().unwrap();
        let (said, told) = (rest(child.stdout.take().unwrap()), rest(progress));
        assert!(
            ended.success() && said.starts_with(&format!("backend {B3} removed from web")),
            "{said}{told}"
        );
        all_go.store(true, Ordering::SeqCst);
        live.join().unwrap();
    });
    assert!(b3(&cluster.pen().status().unwrap()).is_none());
    for (n, name) in assignments(&cluster) {
        assert_ne!(name, "b3");
        assert!(drained.contains(&n) || name == before[&n], "client {n} moved, too");
    }
}

#[test]
fn interrupted_it_goes_on_and_its_deadline_outlives_the_controller() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let before = assignments(&cluster);

    let (mut child, progress, _) = drain(&cluster, "10m");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let told = rest(progress);
    assert!(told.contains(&format!("`pen-ctl backend set web {B3} --state up` takes it back")), "{told}");
    assert!(b3(&cluster.pen().status().unwrap()).unwrap().drain.is_some(), "it goes on");
    cluster.pen().ok(&format!("backend set web {B3} --state up")).unwrap();
    assert!(b3(&cluster.pen().status().unwrap()).unwrap().drain.is_none(), "taken back");
    assert_eq!(assignments(&cluster), before);

    cluster.pen().ok(&format!("backend remove web {B3} --drain 5s --no-wait")).unwrap();
    cluster.pen_mut().kill();
    assert_eq!(assignments(&cluster), before, "while no controller runs");
    cluster.pen_mut().start("").unwrap();
    let gone = |status: &StatusDocument| b3(status).is_none();
    await_that("the deadline to be honoured", PATIENCE + Duration::from_secs(5), || {
        Ok(if gone(&cluster.pen().status()?) { Ok(()) } else { Err("it is still there") })
    })
    .unwrap();
    for (n, name) in assignments(&cluster) {
        assert!(name != "b3" && (before[&n] == "b3" || name == before[&n]), "client {n} is on {name}");
    }
}
