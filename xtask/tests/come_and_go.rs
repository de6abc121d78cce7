//! Interfaces that are not there yet, vanish, and come back as others: attached whenever they are there.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::fs;
use std::time::Duration;

use pen_ctl::api::document::{InterfaceState, StatusDocument};
use xtask::lab::address::{Family, vip};
use xtask::lab::capture;
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster, ask, services, target};
use xtask::lab::frame::Content;
use xtask::lab::second::{self, INTERFACE, SecondLink};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const SHORT: Duration = Duration::from_millis(300);

/// A cluster whose b2 is behind `eth1`, which is wanted but not there yet. b1 serves on `eth0`.
fn cluster() -> Option<(Cluster, SecondLink)> {
    let mut cluster = Cluster::unstarted_for_test(XTASK, 1, 2)?;
    let mut second = SecondLink::build(&cluster.lab).unwrap();
    second.move_behind(&cluster.lab, &cluster.lab.backends[1]).unwrap();
    let file = cluster.lab.directory().join("pen.toml");
    fs::write(&file, format!("interfaces = [\"eth0\", \"{INTERFACE}\"]\n")).unwrap();
    cluster.pen_mut().start(&format!("-c {}", file.display())).unwrap();
    cluster.configure(0, &["b1"]).unwrap();
    for (kind, family) in services() {
        cluster.add_backend(cluster.pen(), kind, family, "b2").unwrap();
    }
    Some((cluster, second))
}

fn is(status: &StatusDocument, wanted: InterfaceState) -> bool {
    status.interfaces.iter().any(|found| found.name == INTERFACE && found.state == wanted)
}

/// `eth1` is not there: that is a warning, nothing of it is left, and b1 serves the first client alone.
fn assert_pending(cluster: &Cluster) {
    let told =
        |warning: &String| warning.contains("interface eth1: does not exist; it is attached when it appears");
    // It may have gone in the midst of being attached: then that is what is told first.
    let pending =
        |status: &StatusDocument| is(status, InterfaceState::Pending) && status.warnings.iter().any(told);
    cluster.pen().await_status("eth1 to be pending, with a warning", pending).unwrap();
    cluster.await_serving(&["b1"]).unwrap();
    for (kind, family) in services() {
        assert_eq!(cluster.who(kind, family, 1).unwrap(), "b1");
    }
    let links = fs::read_dir(cluster.pen().bpffs().join("links")).unwrap();
    let links: Vec<_> = links.map(|link| link.unwrap().file_name()).collect();
    assert_eq!(links, ["eth0"]);
}

/// `eth1` is attached, answers there, and leads to b2.
fn assert_attached(cluster: &Cluster, second: &SecondLink) {
    let attached = |status: &StatusDocument| is(status, InterfaceState::Attached);
    cluster.pen().await_status("eth1 to be attached", attached).unwrap();
    cluster.await_serving(&["b1", "b2"]).unwrap();
    cluster.for_all_services("set", "b1", "--state down").unwrap();
    cluster.await_serving(&["b2"]).unwrap();
    for (kind, family) in services() {
        assert_eq!(cluster.who(kind, family, 1).unwrap(), "b2", "{kind:?} {family:?}");
        let (source, to) = (second::client(family), target(kind, family));
        let answered = second.client.run(|| ask(kind, source, to, CLIENT_PATIENCE));
        assert_eq!(answered.unwrap(), "b2", "{kind:?} {family:?}");
    }
    cluster.for_all_services("set", "b1", "--state up").unwrap();
    assert_eq!(cluster.pen().status().unwrap().warnings, [] as [String; 0]);
}

#[test]
fn an_absent_interface_is_attached_when_it_appears_and_anew_when_it_comes_back() {
    let Some((cluster, mut second)) = cluster() else { return };
    assert_pending(&cluster);
    assert!(cluster.pen().log().contains("does not exist; it is attached when it appears"));
    let pid = cluster.pen().status().unwrap().controller.pid;
    for mac in [1, 2] {
        let capture = capture::frames(&second.client, |seen| !seen.received).unwrap();
        second.join(&cluster.lab, mac).unwrap();
        assert_attached(&cluster, &second);
        let told = |seen: &capture::Captured| {
            let from_it = seen.frame.from_mac == [2, 0x70, 0x65, 0x6e, 3, mac];
            let about =
                matches!(seen.frame.content, Content::Arp { sender, .. } if vip(Family::V4, 1) == sender);
            from_it && about && seen.frame.to_mac == [0xff; 6]
        };
        let heard = capture.stop();
        assert!(heard.iter().any(told), "the VIP was not announced there: {heard:#?}");
        second.leave(&cluster.lab).unwrap();
        assert_pending(&cluster);
    }
    assert_eq!(cluster.pen().status().unwrap().controller.pid, pid);
}

#[test]
fn an_interface_made_anew_while_no_controller_ran_is_attached_by_the_next() {
    let Some((mut cluster, mut second)) = cluster() else { return };
    second.join(&cluster.lab, 1).unwrap();
    assert_attached(&cluster, &second);
    cluster.pen_mut().kill();
    second.leave(&cluster.lab).unwrap();
    second.join(&cluster.lab, 2).unwrap();
    cluster.pen_mut().start("").unwrap();
    assert_attached(&cluster, &second);
    cluster.pen_mut().kill();
    second.leave(&cluster.lab).unwrap();
    cluster.pen_mut().start("").unwrap();
    assert_pending(&cluster);
}

#[test]
fn under_another_name_it_is_another_interface() {
    let Some((cluster, mut second)) = cluster() else { return };
    second.join(&cluster.lab, 1).unwrap();
    assert_attached(&cluster, &second);
    let balancer = &cluster.lab.balancers[0].namespace;
    let rename = |from: &str, to: &str| {
        balancer
            .ip_batch(&format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up\n"))
            .unwrap();
    };
    rename(INTERFACE, "other");
    assert_pending(&cluster);
    assert!(!balancer.ip("link show other").unwrap().contains("xdp"), "nobody asked for that name");
    rename("other", INTERFACE);
    second.configure(&cluster.lab).unwrap();
    assert_attached(&cluster, &second);
}

#[test]
fn in_another_namespace_it_is_let_go_and_taken_when_it_is_back() {
    let Some((cluster, mut second)) = cluster() else { return };
    second.join(&cluster.lab, 1).unwrap();
    assert_attached(&cluster, &second);
    let (balancer, elsewhere) = (&cluster.lab.balancers[0].namespace, &cluster.lab.client.namespace);
    balancer.ip(&format!("link set {INTERFACE} netns {}", elsewhere.name())).unwrap();
    assert_pending(&cluster);
    assert!(
        !elsewhere.ip(&format!("link show {INTERFACE}")).unwrap().contains("xdp"),
        "its frames are not ours"
    );
    elsewhere.ip(&format!("link set {INTERFACE} netns {}", balancer.name())).unwrap();
    balancer.ip(&format!("link set {INTERFACE} up")).unwrap();
    second.configure(&cluster.lab).unwrap();
    assert_attached(&cluster, &second);
}

#[test]
fn an_interface_that_is_down_serves_nobody_and_everybody_again_when_it_is_up() {
    let Some((cluster, mut second)) = cluster() else { return };
    second.join(&cluster.lab, 1).unwrap();
    assert_attached(&cluster, &second);
    let balancer = &cluster.lab.balancers[0].namespace;
    for _ in 0..3 {
        balancer.ip(&format!("link set {INTERFACE} down")).unwrap();
        cluster.await_serving(&["b1"]).unwrap();
        for (kind, family) in services() {
            assert_eq!(cluster.who(kind, family, 1).unwrap(), "b1");
        }
        balancer.ip(&format!("link set {INTERFACE} up")).unwrap();
        second.configure(&cluster.lab).unwrap();
        cluster.await_serving(&["b1", "b2"]).unwrap();
    }
    assert_attached(&cluster, &second);
    // Attached or not, who is not wanted any more is let go for good.
    second.leave(&cluster.lab).unwrap();
    cluster.pen().ok(&format!("detach {INTERFACE}")).unwrap();
    second.join(&cluster.lab, 1).unwrap();
    let (kind, family) = services().next().unwrap();
    let asked = second.client.run(|| ask(kind, second::client(family), target(kind, family), SHORT));
    assert!(asked.is_err(), "{asked:?}");
}
