//! Wrong input and wrong places: one clear line, the right exit status, and nothing changed.

use std::fs;
use std::os::unix::process::CommandExt;

use xtask::lab::cluster::Cluster;
use xtask::lab::controller::{Controller, Outcome};
use xtask::lab::sys::PassProgram;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// What pen was asked for: all that a refused command must leave as it is.
fn desired(pen: &Controller) -> String {
    let status = match pen.status() {
        Ok(status) => status,
        Err(error) => panic!("{error}"),
    };
    let services = status.services.iter().map(|service| {
        let backends = service.backends.iter().map(|backend| {
            format!("{} {} {:?} {:?}", backend.address, backend.weight, backend.state, backend.mac)
        });
        format!("{} {:?} {:?}", service.name, service.vip, backends.collect::<Vec<_>>())
    });
    format!("{:?} {:?}", status.interfaces, services.collect::<Vec<_>>())
}

/// Refused with this exit status and one line on stderr that holds all these words.
fn assert_refused(outcome: &Outcome, code: i32, words: &[&str], what: &str) {
    assert_eq!(outcome.code, Some(code), "{what}: {outcome:?}");
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| !line.is_empty()).collect();
    // Wrong usage may show the usage as well.
    assert!(if code == 2 { !lines.is_empty() } else { lines.len() == 1 }, "{what}: {}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{what}: `{word}` is not in: {}", outcome.stderr);
    }
    assert_eq!(outcome.stdout, "", "{what}");
}

#[test]
fn wrong_commands_are_refused_and_change_nothing() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    let pen = cluster.pen();
    pen.ok("attach eth0").unwrap();
    pen.ok("service add web 10.77.0.100:80/tcp").unwrap();
    pen.ok("backend add web 10.77.1.1").unwrap();
    pen.await_serving("web", &cluster.addresses(xtask::lab::address::Family::V4, &["b1"])).unwrap();
    let before = desired(pen);
    #[rustfmt::skip]
    let table: &[(&str, i32, &[&str])] = &[
        ("backend add mail 10.77.1.1",                    1, &["mail"]),
        ("backend remove mail 10.77.1.1",                 1, &["mail"]),
        ("service set mail --affinity flow",              1, &["mail"]),
        ("service show mail",                             1, &["mail"]),
        ("service remove mail",                           1, &["mail"]),
        ("backend set web 10.77.1.9 --weight 2",          1, &["10.77.1.9"]),
        ("backend remove web 10.77.1.9",                  1, &["10.77.1.9"]),
        ("service add web 10.77.0.101:80/tcp",            1, &["web"]),
        ("service add web2 10.77.0.100:80/tcp",           1, &["10.77.0.100:80/tcp"]),
        ("backend add web 10.77.1.1",                     1, &["10.77.1.1"]),
        ("backend add web fd00:77::1:1",                  1, &["fd00:77::1:1", "IPv4"]),
        ("backend add web 10.77.0.100",                   1, &["10.77.0.100", "VIP"]),
        ("backend add web 10.77.1.2:8080",                1, &["10.77.1.2", "port"]),
        ("backend add web 10.77.1.2 --weight 0",          1, &["weight", "1000"]),
        ("backend add web 10.77.1.2 --weight 1001",       1, &["weight", "1000"]),
        ("backend add web 10.77.1.2 --weight -1",         1, &["10.77.1.2", "weight -1", "1000"]),
        ("service add w [fe80::1]:80/tcp",                1, &["fe80::1", "link-local"]),
        ("service set web --affinity bogus",              1, &["affinity", "bogus"]),
        ("backend set web 10.77.1.1 --weight 1001",       1, &["weight", "1000"]),
        ("backend add web 10.77.1.2 --state away",        1, &["away", "drain"]),
        ("backend add web 10.77.1.2 --mac 02:00",         1, &["02:00"]),
        ("service add we/b 10.77.0.102:80/tcp",           1, &["we/b"]),
        ("service add wéb 10.77.0.102:80/tcp",            1, &["wéb"]),
        ("service add w 10.77.0.102:80/sctp",             1, &["sctp"]),
        ("service add w 10.77.0.102:70000/tcp",           1, &["70000"]),
        ("service add w 10.77.0.102",                     1, &["10.77.0.102"]),
        ("service add w 10.77.0.102:80/tcp --scheduler least-connections", 1, &["least-connections", "--dataplane proxy"]),
        ("service add w 10.77.0.102:80/tcp --health ping", 1, &["unknown health check `ping`"]),
        ("attach nosuch0",                                1, &["nosuch0"]),
        ("attach lo",                                     1, &["lo", "Ethernet"]),
        ("frobnicate",                                    2, &["frobnicate"]),
        ("backend add web",                               2, &["ADDR"]),
        ("backend add web 10.77.1.2 --weight heavy",      2, &["heavy"]),
        ("service set web",                               2, &["nothing to change"]),
        ("attach",                                        2, &["IFACE"]),
    ];
    for (line, code, words) in table {
        let outcome = pen.cli(line).unwrap();
        assert_refused(&outcome, *code, words, line);
        assert_eq!(desired(pen), before, "{line}");
    }
    let outcome = pen.cli_words(&["service", "add", "a b", "10.77.0.102:80/tcp"]).unwrap();
    assert_refused(&outcome, 1, &["a b"], "a name with a space");
    assert_eq!(desired(pen), before);
}

#[test]
fn a_backend_without_a_known_mac_is_accepted_and_shown_with_the_reason() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let pen = cluster.pen();
    pen.ok("attach eth0").unwrap();
    pen.ok("service add web 10.77.0.100:80/tcp --health none").unwrap();
    pen.ok("backend add web 10.77.1.77").unwrap();
    pen.await_status("the reason to be shown", |status| {
        let backend = &status.services[0].backends[0];
        !backend.serving && backend.reason.as_ref().is_some_and(|reason| reason.contains("ARP"))
    })
    .unwrap();
}

#[test]
fn an_interface_with_someone_elses_program_is_refused_and_left_alone() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let namespace = &cluster.lab.balancers[0].namespace;
    namespace
        .ip_batch("link add taken0 type veth peer name taken1\nlink set taken0 up\nlink set taken1 up\n")
        .unwrap();
    let _theirs = namespace.run(|| PassProgram::attach("taken0")).unwrap();
    let theirs = program_on(&namespace.ip("-d link show taken0").unwrap()).unwrap();
    for line in ["attach taken0", "attach taken0 --mode generic", "attach taken0 --mode native"] {
        let outcome = cluster.pen().cli(line).unwrap();
        assert_refused(&outcome, 1, &["taken0", "lab_pass", &theirs], line);
    }
    assert_eq!(program_on(&namespace.ip("-d link show taken0").unwrap()), Some(theirs));
    assert_eq!(cluster.pen().status().unwrap().interfaces, []);
}

/// The id in `prog/xdp id 17 name …`.
fn program_on(shown: &str) -> Option<String> {
    Some(shown.split_once("prog/xdp id ")?.1.split_whitespace().next()?.to_owned())
}

#[test]
fn a_wrong_file_is_refused_with_line_and_column() {
    let Some(mut cluster) = Cluster::unstarted_for_test(XTASK, 1, 1) else { return };
    let file = cluster.lab.directory().join("pen.toml");
    let path = file.display().to_string();
    #[rustfmt::skip]
    let table: &[(&str, &[&str])] = &[
        ("interfaces = [\"eth0\"\n",                                               &["pen.toml"]),
        ("interfaces = [\"eth0\"]\ncolour = \"red\"\n",                            &["colour", "pen.toml:2:1"]),
        ("[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\nbackends = []\n", &["backends", "pen.toml:4:1"]),
        ("[[service]]\nname = \"web\"\nvip = \"10.0.0.100/tcp\"\n",                &["10.0.0.100/tcp", "pen.toml:3:"]),
        ("[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\nscheduler = \"random\"\n",            &["unknown scheduler", "pen.toml:4:"]),
    ];
    for (text, words) in table {
        fs::write(&file, text).unwrap();
        assert_refused(&cluster.pen().cli(&format!("check {path}")).unwrap(), 1, words, text);
        assert_refused(&cluster.pen().cli(&format!("run -c {path}")).unwrap(), 1, words, text);
    }
    assert!(!cluster.pen().bpffs().exists(), "nothing was pinned");
    fs::write(&file, "[[service]]\nname = \"web\"\nvip = \"10.77.0.100:80/tcp\"\n").unwrap();
    cluster.pen_mut().start(&format!("-c {path}")).unwrap();
}

#[test]
fn run_says_what_is_wrong_with_the_place_it_should_run_in() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 1) else { return };
    let pen = cluster.pen();
    let directory = cluster.lab.directory();

    let plain = directory.join("plain");
    fs::create_dir(&plain).unwrap();
    let bpffs = format!("--bpffs {}", plain.join("pen").display());
    assert_refused(&pen.cli(&format!("run {bpffs}")).unwrap(), 1, &["bpf"], "no bpffs");

    let file = directory.join("a-file");
    fs::write(&file, "not a directory").unwrap();
    let outcome = pen.cli(&format!("run --state-dir {}", file.display())).unwrap();
    assert_refused(&outcome, 1, &["a-file"], "the state directory is a file");

    let corrupt = directory.join("corrupt");
    fs::create_dir(&corrupt).unwrap();
    fs::write(corrupt.join("state.json"), "{\"version\":1,").unwrap();
    let outcome = pen.cli(&format!("run --state-dir {}", corrupt.display())).unwrap();
    assert_refused(&outcome, 1, &["corrupt"], "the state is torn");
}

#[test]
fn run_without_privileges_says_which_are_missing() {
    let Some(cluster) = Cluster::unstarted_for_test(XTASK, 1, 1) else { return };
    let directory = tempfile::tempdir().unwrap();
    const NOBODY: u32 = 65_534;
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let program = directory.path().join("pen-ctl");
    fs::copy(&cluster.programs.pen_ctl, &program).unwrap();
    let output = std::process::Command::new(&program)
        .arg("--socket")
        .arg(directory.path().join("pen.sock"))
        .arg("--state-dir")
        .arg(directory.path().join("state"))
        .arg("--bpffs")
        .arg(cluster.pen().bpffs())
        .args(["run", "--dataplane", "xdp"])
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("CAP_BPF") && stderr.contains("CAP_NET_ADMIN"), "{stderr}");
}
