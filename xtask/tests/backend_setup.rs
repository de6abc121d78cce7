//! `pen-ctl backend-setup` on a real backend: owns the VIP, says nothing about it, and gives everything back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use pen_ctl::backend_setup::{Outcome, SetupDocument};
use xtask::lab::address::Family;
use xtask::lab::cluster::{Cluster, vips};
use xtask::lab::{Host, await_that};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const PATIENCE: Duration = Duration::from_secs(10);

/// A backend that was not set up, and a client to ask from.
struct Bed {
    cluster: Cluster,
}

impl Bed {
    /// The cluster sets its backends up: undone first, so that nothing is left of that.
    fn new() -> Option<Bed> {
        let bed = Bed { cluster: Cluster::unstarted_for_test(XTASK, 1, 1)? };
        bed.setup("--undo").unwrap();
        Some(bed)
    }

    fn backend(&self) -> &Host {
        &self.cluster.lab.backends[0]
    }

    fn pen_ctl(&self) -> &PathBuf {
        &self.cluster.programs.pen_ctl
    }

    fn setup(&self, words: &str) -> xtask::lab::Result<String> {
        self.backend().backend_setup(self.pen_ctl(), self.cluster.lab.directory(), words)
    }

    fn document(&self, words: &str) -> SetupDocument {
        serde_json::from_str(&self.setup(&format!("{words} --json")).unwrap()).unwrap()
    }

    /// Everything that a set-up may change: addresses and the settings of ARP.
    fn state(&self) -> (String, String) {
        let addresses = self.backend().namespace.ip("-br address").unwrap();
        let files = "cd /proc/sys/net/ipv4/conf && grep . */arp_ignore */arp_announce";
        (addresses, self.shell(files))
    }

    /// Has a shell on the backend do this.
    fn shell(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]).stdin(Stdio::null());
        let output = self.backend().namespace.run(|| command.output()).unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The MAC that answers ARP or neighbor solicitation for an address, if any does.
    fn who_answers(&self, address: IpAddr) -> Option<String> {
        let client = &self.cluster.lab.client.namespace;
        let _ = client.ip("neigh flush dev eth0");
        client.run(|| {
            let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            UdpSocket::bind((any, 0)).unwrap().send_to(b"", (address, 9)).unwrap();
        });
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        await_that("an answer, or none", PATIENCE, || {
            let line = client.ip(&format!("{family} neigh show {address} dev eth0"))?;
            Ok(match line.split_once("lladdr ") {
                Some((_, mac)) => Ok(mac.split_whitespace().next().map(str::to_owned)),
                None if line.contains("FAILED") => Ok(None),
                None => Err(line),
            })
        })
        .unwrap()
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.backend().namespace.run(|| UdpSocket::bind((address, 4242)).is_ok())
    }
}

#[test]
fn a_backend_owns_the_vips_in_silence_and_gives_everything_back() {
    let Some(bed) = Bed::new() else { return };
    let [v4, v6] = vips();
    let before = bed.state();
    // The worst case: it forwards, answers for others, and eth0 has a setting that beats the usual one.
    bed.shell("cd /proc/sys/net; echo 1 > ipv6/conf/all/forwarding; echo 1 > ipv6/conf/eth0/proxy_ndp");
    bed.shell("echo 3 > /proc/sys/net/ipv4/conf/eth0/arp_ignore");
    let odd = bed.state();

    let first = bed.document(&format!("{v4} {v6} --apply"));
    assert!(first.changed, "{first:?}");
    assert!(bed.owns(v4) && bed.owns(v6));
    for vip in [v4, v6] {
        assert_eq!(bed.who_answers(vip), None, "{vip}");
    }
    // Its own addresses are answered for all the same.
    for family in Family::BOTH {
        assert!(bed.who_answers(bed.backend().address(family)).is_some(), "{family:?}");
    }

    let applied = bed.state();
    let second = bed.document(&format!("{v4} {v6} --apply"));
    assert!(
        !second.changed && second.steps.iter().all(|step| step.outcome == Outcome::Already),
        "{second:?}"
    );
    assert_eq!(bed.state(), applied);

    let undone = bed.document("--undo");
    assert!(undone.changed, "{undone:?}");
    assert_eq!(bed.state(), odd);
    bed.shell("echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_ignore");
    assert_eq!(bed.state(), before);
    assert!(bed.setup("--undo").unwrap().contains("nothing to undo"));
}

#[test]
fn what_is_printed_does_the_same_when_typed() {
    let Some(bed) = Bed::new() else { return };
    let [v4, v6] = vips();
    bed.setup(&format!("{v4} {v6} --apply")).unwrap();
    let applied = bed.state();
    bed.setup("--undo").unwrap();
    let script = bed.setup(&format!("{v4} {v6}")).unwrap();
    bed.shell(&script);
    assert_eq!(bed.state(), applied);
    // Typed by hand is nothing that --undo may take back.
    let undone = bed.document(&format!("{v4} --undo"));
    assert!(!undone.changed && undone.steps.iter().all(|step| step.outcome == Outcome::Left), "{undone:?}");
    assert_eq!(bed.state(), applied);
}

#[test]
fn what_is_not_set_up_is_answered_for() {
    let Some(bed) = Bed::new() else { return };
    let [v4, _] = vips();
    bed.backend().namespace.ip(&format!("address add {v4}/32 dev lo")).unwrap();
    // The reason for all this: without the settings Linux answers for every address it has.
    assert!(bed.who_answers(v4).is_some());
    bed.setup(&format!("{v4} --apply")).unwrap();
    assert_eq!(bed.who_answers(v4), None);
}

#[test]
fn places_where_a_vip_cannot_be_are_refused_and_nothing_changes() {
    let Some(bed) = Bed::new() else { return };
    let own = bed.backend().address(Family::V4);
    let before = bed.state();
    for (words, says) in [
        (format!("{own} --apply"), format!("ip address del {own}/16 dev eth0")),
        (own.to_string(), format!("ip address del {own}/16 dev eth0")),
        ("10.77.0.100 --apply --interface eth0".to_owned(), "use lo".to_owned()),
        ("10.77.0.100 --apply --interface nosuch0".to_owned(), "no interface nosuch0".to_owned()),
        ("10.77.0.100 224.0.0.1 --apply".to_owned(), "224.0.0.1 is a multicast address".to_owned()),
    ] {
        let error = bed.setup(&words).unwrap_err().to_string();
        assert!(error.contains(&says), "{words}: {error}");
        assert_eq!(bed.state(), before, "{words}");
    }
    bed.shell("echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
    let error = bed.setup("fd00:77::64 10.77.0.100 --apply").unwrap_err().to_string();
    assert!(error.contains("sysctl -w net.ipv6.conf.lo.disable_ipv6=0"), "{error}");
}

#[test]
fn without_privileges_it_says_so_before_anything_is_done() {
    let Some(bed) = Bed::new() else { return };
    const NOBODY: u32 = 65_534;
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let program = directory.path().join("pen-ctl");
    assert!(Command::new("cp").arg(bed.pen_ctl()).arg(&program).status().unwrap().success());
    let before = bed.state();
    for words in [&["10.77.0.100", "--apply"][..], &["--undo"]] {
        let mut command = Command::new(&program);
        command.arg("--state-dir").arg(directory.path().join("state")).arg("backend-setup").args(words);
        command.uid(NOBODY).gid(NOBODY);
        let output = bed.backend().namespace.run(|| command.output()).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("CAP_NET_ADMIN") && stderr.contains("become root"), "{stderr}");
    }
    assert_eq!(bed.state(), before);
}
