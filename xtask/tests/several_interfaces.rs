//! A balancer with two interfaces: services answer on both, and a packet may leave by the other one.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use xtask::lab::address::{Family, client};
use xtask::lab::capture;
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster, Kind, ask, services, target};
use xtask::lab::second::{self, INTERFACE, PORT, SecondLink};
use xtask::lab::sys::set_receive_offload;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const TRANSFER: u64 = 4_000_000;
const SHORT: Duration = Duration::from_millis(300);

/// A cluster with pen running whose b2 is behind the balancer's second interface.
fn cluster() -> Option<(Cluster, SecondLink)> {
    let cluster = Cluster::for_test(XTASK, 1, 2)?;
    let mut second = SecondLink::build(&cluster.lab).unwrap();
    second.move_behind(&cluster.lab, &cluster.lab.backends[1]).unwrap();
    Some((cluster, second))
}

/// Asks as the client of the second link.
fn who_from_second(second: &SecondLink, kind: Kind, family: Family) -> io::Result<String> {
    second.client.run(|| ask(kind, second::client(family), target(kind, family), CLIENT_PATIENCE))
}

/// Asks the web service over IPv4 without much patience.
fn try_once(cluster: &Cluster) -> io::Result<String> {
    let (source, to): (IpAddr, _) = (client(Family::V4, 1), target(Kind::Web, Family::V4));
    cluster.lab.client.namespace.run(|| ask(Kind::Web, source, to, SHORT))
}

#[test]
fn a_backend_behind_the_other_interface_gets_whole_transfers_from_either_side() {
    let Some((cluster, mut second)) = cluster() else { return };
    second.join(&cluster.lab, 1).unwrap();
    cluster.pen().ok(&format!("attach {INTERFACE}")).unwrap();
    cluster.configure(0, &["b1", "b2"]).unwrap();
    assert_eq!(cluster.pen().status().unwrap().warnings, [] as [String; 0]);
    let b2 = cluster.lab.backends[1].mac;
    let capture = capture::frames(&cluster.lab.switch, |seen| seen.host == PORT && !seen.received).unwrap();
    for (kind, family) in services() {
        let answers: Vec<_> = (1..=16).map(|n| cluster.who(kind, family, n).unwrap()).collect();
        for name in ["b1", "b2"] {
            assert!(answers.iter().any(|answer| answer == name), "{kind:?} {family:?}: {answers:?}");
        }
    }
    for family in Family::BOTH {
        let n = (1..=16).find(|&n| cluster.who(Kind::Web, family, n).unwrap() == "b2").unwrap();
        let mut connection = cluster.connect(family, n).unwrap();
        assert_eq!(connection.upload(TRANSFER, || {}).unwrap(), TRANSFER);
        assert_eq!(connection.download(TRANSFER, || {}).unwrap(), TRANSFER);
    }
    let vips = services().map(|(kind, family)| target(kind, family).ip()).collect::<Vec<_>>();
    let sent = capture.stop();
    let forwarded = sent.iter().filter(|seen| vips.iter().any(|vip| seen.frame.is_to(*vip)));
    let macs = forwarded.map(|seen| (seen.frame.to_mac, seen.frame.from_mac)).collect::<BTreeSet<_>>();
    assert_eq!(macs.into_iter().collect::<Vec<_>>(), [(b2, [2, 0x70, 0x65, 0x6e, 3, 1])], "from eth1 to b2");

    // The same the other way round.
    cluster.for_all_services("set", "b2", "--state drain").unwrap();
    cluster.await_serving(&["b1"]).unwrap();
    for (kind, family) in services() {
        assert_eq!(who_from_second(&second, kind, family).unwrap(), "b1", "{kind:?} {family:?}");
    }
}

#[test]
fn detaching_one_interface_leaves_the_other() {
    let Some((cluster, mut second)) = cluster() else { return };
    second.join(&cluster.lab, 1).unwrap();
    let pen = cluster.pen();
    pen.ok(&format!("attach {INTERFACE}")).unwrap();
    cluster.configure(0, &["b1"]).unwrap();
    for (kind, family) in services() {
        assert_eq!(cluster.who(kind, family, 1).unwrap(), "b1");
        assert_eq!(who_from_second(&second, kind, family).unwrap(), "b1");
    }
    pen.ok(&format!("detach {INTERFACE}")).unwrap();
    for (kind, family) in services() {
        assert_eq!(cluster.who(kind, family, 1).unwrap(), "b1");
        let to = target(kind, family);
        assert!(second.client.run(|| ask(kind, second::client(family), to, SHORT)).is_err());
    }
}

#[test]
fn a_driver_that_takes_no_frames_from_other_interfaces_is_a_warning_that_says_what_to_do() {
    let Some((cluster, mut second)) = cluster() else { return };
    // A veth takes them only while its other end has a program or GRO.
    second.join_without_program(&cluster.lab, 1).unwrap();
    let pen = cluster.pen();
    pen.ok(&format!("attach {INTERFACE}")).unwrap();
    cluster.configure(0, &["b2"]).unwrap();
    let status = pen.status().unwrap();
    let told =
        |warning: &&String| warning.contains("interface eth1: packets from eth0") && warning.contains("GRO");
    let warning = status.warnings.iter().find(told);
    let warning = warning.unwrap_or_else(|| panic!("{:?}", status.warnings)).clone();
    assert!(pen.log().contains("packets from eth0 to backends behind it are lost"), "{}", pen.log());
    assert!(try_once(&cluster).is_err(), "{warning}, but b2 answers");

    // What it says to do helps: GRO there, or generic mode where packets come in.
    cluster.lab.switch.run(|| set_receive_offload(PORT, true)).unwrap();
    pen.await_status("the warning to end", |status| status.warnings.is_empty()).unwrap();
    assert_eq!(try_once(&cluster).unwrap(), "b2");
    cluster.lab.switch.run(|| set_receive_offload(PORT, false)).unwrap();
    pen.await_status("the warning to come back", |status| status.warnings.contains(&warning)).unwrap();
    pen.ok("attach eth0 --mode generic").unwrap();
    assert_eq!(pen.status().unwrap().warnings, [] as [String; 0]);
    for (kind, family) in services() {
        assert_eq!(cluster.who(kind, family, 3).unwrap(), "b2");
    }
}

#[test]
fn modes_may_differ_between_interfaces() {
    let Some((cluster, mut second)) = cluster() else { return };
    second.join(&cluster.lab, 1).unwrap();
    let pen = cluster.pen();
    pen.ok(&format!("attach {INTERFACE}")).unwrap();
    cluster.configure(0, &["b1", "b2"]).unwrap();
    for (first, other) in
        [("native", "generic"), ("generic", "native"), ("generic", "generic"), ("native", "native")]
    {
        pen.ok(&format!("attach eth0 --mode {first}")).unwrap();
        pen.ok(&format!("attach {INTERFACE} --mode {other}")).unwrap();
        for (out, back) in [("b2", "b1"), ("b1", "b2")] {
            cluster.for_all_services("set", out, "--state up").unwrap();
            cluster.for_all_services("set", back, "--state down").unwrap();
            cluster.await_serving(&[out]).unwrap();
            for (kind, family) in services() {
                let from_first = cluster.who(kind, family, 1);
                assert_eq!(from_first.unwrap(), out, "{first} {other} {kind:?} {family:?}");
                let from_second = who_from_second(&second, kind, family);
                assert_eq!(from_second.unwrap(), out, "{first} {other} {kind:?} {family:?}");
            }
        }
    }
}

#[test]
fn where_the_driver_has_no_xdp_generic_mode_serves_with_a_warning_unless_it_was_asked_for() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    let balancer = &cluster.lab.balancers[0];
    // A macvlan has no native XDP; it takes the place of eth0 on the link.
    balancer.namespace.ip("link add link eth0 name mv0 type macvlan mode bridge").unwrap();
    balancer.namespace.ip("link set mv0 up").unwrap();
    balancer.namespace.ip("addr flush dev eth0 scope global").unwrap();
    for (family, length) in [(Family::V4, "16"), (Family::V6, "64 nodad")] {
        let address = balancer.address(family);
        balancer.namespace.ip(&format!("addr add dev mv0 {address}/{length}")).unwrap();
    }
    let pen = cluster.pen();
    let refused = pen.cli("attach mv0 --mode native").unwrap();
    assert!(refused.code == Some(1) && refused.stderr.contains("--mode generic"), "{refused:?}");
    pen.ok("attach mv0").unwrap();
    let status = pen.status().unwrap();
    assert!(
        matches!(&status.warnings[..], [one] if one.contains("interface mv0") && one.contains("generic mode"))
    );
    assert!(pen.log().contains("generic mode") && pen.log().contains("mv0"), "{}", pen.log());
    cluster.configure_services(0, &["b1", "b2"]).unwrap();
    for (kind, family) in services() {
        assert!(["b1", "b2"].contains(&cluster.who(kind, family, 1).unwrap().as_str()));
    }
    pen.ok("attach mv0 --mode generic").unwrap();
    assert_eq!(pen.status().unwrap().warnings, [] as [String; 0]);
}
