//! `pen-ctl doctor` on balancers that are well, and on some that are broken for real.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pen_ctl::doctor::{DoctorDocument, Finding, Verdict};
use xtask::lab::address::Family;
use xtask::lab::await_that;
use xtask::lab::capture;
use xtask::lab::cluster::{Cluster, HEALTH, service_name, services, target, vips};
use xtask::lab::controller::Controller;
use xtask::lab::frame::Content;
use xtask::lab::sys::PassProgram;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// The checks, in their order.
const CHECKS: [&str; 8] = [
    "controller",
    "bpffs",
    "capabilities",
    "foreign-programs",
    "own-address",
    "who-answers",
    "backend-vip",
    "losses",
];

/// What the doctor says; its exit status must fit.
#[track_caller]
fn doctor(pen: &Controller, words: &str) -> DoctorDocument {
    let outcome = pen.cli(&format!("doctor --json {words}")).unwrap();
    let document: DoctorDocument =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
    assert_eq!(outcome.code, Some(i32::from(document.problems > 0)), "{outcome:?}");
    let mut order: Vec<&str> = document.findings.iter().map(|finding| finding.check.as_str()).collect();
    order.dedup();
    assert_eq!(order, CHECKS, "every check says something, in order");
    document
}

/// What it finds wrong: `check` on `on`, with these words in what it says and how to mend it.
#[track_caller]
fn assert_finds(document: &DoctorDocument, check: &str, on: &str, words: &[&str]) {
    let says = |finding: &Finding| {
        let text = format!("{} {}", finding.what, finding.fix.join(" "));
        words.iter().all(|word| text.contains(word))
    };
    let found = document.findings.iter().any(|finding| {
        finding.verdict == Verdict::Problem
            && finding.check == check
            && finding.on.contains(on)
            && says(finding)
    });
    assert!(found, "{check} on {on} with {words:?}: {:#?}", document.findings);
}

/// What is not well, without saying so being a problem.
fn verdicts(document: &DoctorDocument) -> Vec<(&str, Verdict)> {
    document.findings.iter().map(|finding| (finding.check.as_str(), finding.verdict)).collect()
}

/// Sets a key under `/proc/sys/net` on a backend.
fn sysctl(cluster: &Cluster, backend: &str, key: &str, value: &str) {
    cluster.lab.backend(backend).unwrap().namespace.sysctl(key, value).unwrap();
}

/// Takes a VIP from a backend.
fn without(cluster: &Cluster, backend: &str, vip: IpAddr) {
    let host = cluster.lab.backend(backend).unwrap();
    host.backend_setup(&cluster.programs.pen_ctl, cluster.lab.directory(), &format!("{vip} --undo")).unwrap();
}

#[test]
fn a_healthy_balancer_is_called_healthy_and_nobody_notices_the_questions() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    for (kind, family) in services() {
        // Health checks ask the VIPs, too: here nobody is to but doctor.
        let (service, port) = (service_name(kind, family), target(kind, family).port());
        cluster.pen().ok(&format!("service set {service} --health {HEALTH},port={port},way=direct")).unwrap();
    }
    for backend in ["b1", "b2", "b3"] {
        // As most distributions have it: answers from a VIP on lo do not suffer from it.
        sysctl(&cluster, backend, "ipv4/conf/all/rp_filter", "1");
    }
    let mut kept = cluster.connect(Family::V4, 1).unwrap();
    let answered = kept.who().unwrap();
    let balancer = Family::BOTH.map(|family| cluster.lab.balancers[0].address(family));
    let capture = capture::frames(&cluster.lab.switch, move |seen| {
        seen.frame.addresses().is_some_and(|(from, to)| {
            (balancer.contains(&from) && vips().contains(&to))
                || (vips().contains(&from) && balancer.contains(&to))
        })
    })
    .unwrap();
    let document = doctor(cluster.pen(), "");
    assert_eq!(verdicts(&document), CHECKS.map(|check| (check, Verdict::Ok)), "{:#?}", document.findings);
    assert_eq!(document.findings[6].on, "12 backends", "{:#?}", document.findings);
    let frames = capture.stop();

    // Each connection that a backend accepted was ended at once, by us and at that backend.
    let flags = |payload: &[u8]| payload.get(13).copied().unwrap_or_default();
    let tcp = |wanted: u8, received: bool| -> Vec<&str> {
        let mut hosts: Vec<&str> = frames
            .iter()
            .filter(|seen| seen.received == received)
            .filter_map(|seen| match &seen.frame.content {
                Content::Ip { protocol: 6, payload, .. } if flags(payload) == wanted => {
                    Some(seen.host.as_str())
                }
                _ => None,
            })
            .collect();
        hosts.sort_unstable();
        hosts
    };
    let accepted = tcp(0x12, false);
    assert_eq!(accepted, ["b1", "b1", "b2", "b2", "b3", "b3"], "{frames:#?}");
    assert_eq!(tcp(0x04, true), accepted, "{frames:#?}");
    // Every question went to one backend, and to nobody else.
    assert!(frames.iter().all(|seen| seen.host != "client"), "{frames:#?}");
    assert_eq!(kept.who().unwrap(), answered);
}

#[test]
fn another_balancer_is_no_problem() {
    let Some(cluster) = Cluster::for_test(XTASK, 2, 1) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    cluster.configure(1, &["b1"]).unwrap();
    let document = doctor(cluster.pen(), "web");
    assert_eq!(document.problems, 0, "{:#?}", document.findings);
    let warning = &document.findings[5];
    assert_eq!(warning.verdict, Verdict::Warning, "{warning:?}");
    assert!(warning.fix[0].contains("another balancer"), "{warning:?}");
}

#[test]
fn a_backend_that_answers_for_a_vip_is_named() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let [v4, v6] = vips();
    sysctl(&cluster, "b2", "ipv4/conf/all/arp_ignore", "0");
    // By proxy, which takes its time to answer; b3 has the VIP where it answers at once.
    sysctl(&cluster, "b1", "ipv6/conf/all/forwarding", "1");
    sysctl(&cluster, "b1", "ipv6/conf/eth0/proxy_ndp", "1");
    cluster.lab.backend("b1").unwrap().namespace.ip(&format!("-6 neigh add proxy {v6} dev eth0")).unwrap();
    cluster.lab.backend("b3").unwrap().namespace.ip(&format!("address add {v6}/64 dev eth0 nodad")).unwrap();
    let document = doctor(cluster.pen(), "");
    let at = |backend, family| cluster.address(family, backend).to_string();
    let b2 = at("b2", Family::V4);
    assert_finds(
        &document,
        "who-answers",
        &b2,
        &["ARP", &format!("on {b2}: pen-ctl backend-setup {v4} --apply")],
    );
    for backend in ["b1", "b3"] {
        let named = at(backend, Family::V6);
        let fix = format!("on {named}: pen-ctl backend-setup {v6} --apply");
        assert_finds(&document, "who-answers", &named, &["neighbor solicitations", &fix]);
    }
    assert_eq!(document.problems, 3, "{:#?}", document.findings);
    // The fix that was named mends it.
    let host = cluster.lab.backend("b2").unwrap();
    host.own_vips(&cluster.programs.pen_ctl, cluster.lab.directory(), &[v4]).unwrap();
    assert_eq!(doctor(cluster.pen(), "web").problems, 0);
}

#[test]
fn a_backend_without_the_vip_is_named() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let [v4, v6] = vips();
    without(&cluster, "b1", v4);
    without(&cluster, "b2", v6);
    // The one that forwards would send it on to somebody else.
    sysctl(&cluster, "b2", "ipv6/conf/all/forwarding", "1");
    let document = doctor(cluster.pen(), "");
    let b1 = cluster.address(Family::V4, "b1");
    for service in ["web", "dns"] {
        let on = format!("backend {b1} of service {service} ");
        let fix = format!("on {b1}: pen-ctl backend-setup {v4} --apply");
        assert_finds(&document, "backend-vip", &on, &["silent", "not on its lo", &fix]);
    }
    let b2 = cluster.address(Family::V6, "b2");
    for service in ["web6", "dns6"] {
        let on = format!("backend {b2} of service {service} ");
        let fix = format!("on {b2}: pen-ctl backend-setup {v6} --apply");
        assert_finds(&document, "backend-vip", &on, &["forwards", &fix]);
    }
    assert_eq!(document.problems, 4, "{:#?}", document.findings);
    // Only what is asked about is looked at, and who is taken out is left in peace.
    assert_eq!(doctor(cluster.pen(), "web").problems, 1);
    cluster.pen().ok(&format!("backend set web {b1} --state down")).unwrap();
    assert_eq!(doctor(cluster.pen(), "web").problems, 0);
}

#[test]
fn a_server_that_does_not_listen_on_the_vip_is_named() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    cluster.kill_server("b1");
    let document = doctor(cluster.pen(), "");
    for (service, family, how) in [
        ("web", Family::V4, "TCP RST"),
        ("web6", Family::V6, "TCP RST"),
        ("dns", Family::V4, "ICMP"),
        ("dns6", Family::V6, "ICMP"),
    ] {
        let on = format!("backend {} of service {service} ", cluster.address(family, "b1"));
        assert_finds(&document, "backend-vip", &on, &[how, "no server listens there", "on every address"]);
    }
    assert_eq!(document.problems, 4, "{:#?}", document.findings);
}

#[test]
fn someone_elses_program_is_named_with_the_way_to_detach_it() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let namespace = &cluster.lab.balancers[0].namespace;
    namespace
        .ip_batch("link add taken0 type veth peer name taken1\nlink set taken0 up\nlink set taken1 up\n")
        .unwrap();
    let _theirs = namespace.run(|| PassProgram::attach("taken0")).unwrap();
    cluster.configure(0, &["b1"]).unwrap();
    assert_eq!(doctor(cluster.pen(), "").problems, 0, "pen does not want taken0");
    let document = doctor(cluster.pen(), "--interface taken0");
    assert_finds(&document, "foreign-programs", "taken0", &["lab_pass", "ip link set dev taken0 xdp off"]);
    assert_eq!(document.problems, 1, "{:#?}", document.findings);

    // Somebody was faster than pen on an interface that it is to be attached to.
    let namespace = std::sync::Arc::clone(namespace);
    cluster.pen().ok("stop --detach").unwrap();
    let _theirs = namespace.run(|| PassProgram::attach("eth0")).unwrap();
    cluster.pen_mut().start("").unwrap();
    let document = doctor(cluster.pen(), "");
    assert_finds(&document, "foreign-programs", "eth0", &["lab_pass", "ip link set dev eth0 xdp off"]);
}

#[test]
fn without_a_controller_the_place_is_looked_at_all_the_same() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 1) else { return };
    let pen = cluster.pen();
    let well = doctor(pen, "");
    let asked = |check: &str| matches!(check, "bpffs" | "capabilities" | "foreign-programs");
    let expected = CHECKS.map(|check| if asked(check) { Verdict::Ok } else { Verdict::Skipped });
    assert_eq!(
        well.findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>(),
        expected,
        "{well:#?}"
    );
    assert!(well.findings[6].what.contains("no controller answers"), "{well:#?}");

    let plain = cluster.lab.directory().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let bpffs = plain.join("pen").display().to_string();
    let document = doctor(pen, &format!("--bpffs {bpffs}"));
    assert_finds(&document, "bpffs", &bpffs, &[&format!("mount -t bpf bpf {bpffs}"), "/etc/fstab"]);
}

#[test]
fn a_missing_capability_is_named() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 1) else { return };
    const NOBODY: u32 = 65_534;
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let program = directory.path().join("pen-ctl");
    assert!(Command::new("cp").arg(&cluster.programs.pen_ctl).arg(&program).status().unwrap().success());
    let run = |program: &Path| {
        let mut command = Command::new(program);
        command.args(["--json", "--socket", "/nonexistent/pen.sock", "--bpffs"]).arg(cluster.pen().bpffs());
        command.arg("doctor").uid(NOBODY).gid(NOBODY);
        cluster.lab.balancers[0].namespace.run(|| command.output()).unwrap()
    };
    let output = run(&program);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let document: DoctorDocument = serde_json::from_slice(&output.stdout).unwrap();
    assert_finds(
        &document,
        "capabilities",
        "this process",
        &["CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON and CAP_NET_RAW", "setcap", "AmbientCapabilities="],
    );
}

#[test]
fn a_vip_that_the_balancer_is_reached_by_is_named() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    let (pen, own) = (cluster.pen(), cluster.lab.balancers[0].address(Family::V4));
    let told = format!("{own} is this machine's own address on eth0");
    let refused = pen.cli(&format!("service add own {own}:*/tcp")).unwrap();
    assert!(refused.code == Some(1) && refused.stderr.contains(&told), "{refused:?}");
    let warned = pen.cli(&format!("service add own {own}:8080/tcp")).unwrap();
    assert!(warned.code == Some(0) && warned.stderr.contains(&format!("warning: {told}")), "{warned:?}");
    assert!(pen.status().unwrap().warnings.iter().any(|warning| warning.contains(&told)));
    let document = doctor(pen, "own");
    let found = document.findings.iter().find(|finding| finding.check == "own-address").unwrap();
    assert!(found.verdict == Verdict::Warning && found.what.contains(&told), "{found:?}");
    assert!(found.fix[1].contains(&format!("ip address del {own}/")), "{found:?}");

    // An address that comes after the service, as on a balancer that takes over for another.
    let later = "10.77.0.77";
    pen.ok(&format!("service add later {later}:*/tcp")).unwrap();
    cluster.lab.balancers[0].namespace.ip(&format!("address add {later}/32 dev eth0")).unwrap();
    await_that("the new address to be warned of", Duration::from_secs(10), || {
        let warnings = pen.status()?.warnings;
        Ok(if warnings.iter().any(|warning| warning.contains(later)) {
            Ok(())
        } else {
            Err(warnings.join("; "))
        })
    })
    .unwrap();
    assert_finds(
        &doctor(pen, "later"),
        "own-address",
        "later",
        &["ssh", &format!("del {later}/32 dev eth0")],
    );
}

#[test]
fn what_people_read_says_the_fix_under_the_finding() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    let [v4, _] = vips();
    without(&cluster, "b1", v4);
    let outcome = cluster.pen().cli("doctor web").unwrap();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.stderr, "pen-ctl: 1 problem found; what to do stands under each\n");
    let line = outcome.stdout.lines().position(|line| line.starts_with("problem  backend-vip"));
    let fix = line.and_then(|line| outcome.stdout.lines().nth(line + 1)).unwrap_or_default();
    assert!(
        fix.trim().starts_with("→ on 10.77.1.1: pen-ctl backend-setup 10.77.0.100 --apply"),
        "{outcome:?}"
    );
    let outcome = cluster.pen().cli("doctor nosuch").unwrap();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("there is no service nosuch"), "{outcome:?}");
}
