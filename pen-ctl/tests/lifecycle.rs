//! A controller's life on a real interface: started in the background, killed, replaced, stopped, detached.
//!
//! Each test has a network namespace, a BPF file system, a state directory and a socket of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pen_ctl::api::document::{InterfaceState, StatusDocument};
use pen_ctl::dataplane::xdp::{Pinned, inspect};

#[path = "lifecycle/events.rs"]
mod events;
#[path = "shared/needs.rs"]
mod needs;
#[path = "lifecycle/permissions.rs"]
mod permissions;

/// The interface that is attached to; its other end is `peer0`.
const INTERFACE: &str = "veth0";

/// A machine of its own: namespace, bpffs, directories. Ends everything it started.
struct Machine {
    namespace: String,
    dir: tempfile::TempDir,
}

/// A controller's paths: several may live on one machine.
#[derive(Clone)]
struct Pen<'a> {
    machine: &'a Machine,
    socket: PathBuf,
    state: PathBuf,
    bpffs: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Whether this machine can be made here; without that the test is skipped, or fails where nothing may be missing.
fn needs_met() -> bool {
    let ip = Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    let met = ip && rustix::process::geteuid().is_root();
    needs::met((!met).then_some("root and iproute2"))
}

fn sh(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a process is there and not merely waiting to be reaped (proc_pid_stat(5)).
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

impl Machine {
    fn new() -> Machine {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("pen-life-{}-{count}", std::process::id());
        let machine = Machine { namespace, dir: tempfile::tempdir().unwrap() };
        let (ns, bpf) = (machine.namespace.as_str(), machine.bpf());
        sh("ip", &["netns", "add", ns]);
        sh("ip", &["-n", ns, "link", "add", INTERFACE, "type", "veth", "peer", "name", "peer0"]);
        for interface in [INTERFACE, "peer0", "lo"] {
            sh("ip", &["-n", ns, "link", "set", interface, "up"]);
        }
        sh("ip", &["-n", ns, "addr", "add", "10.77.0.1/24", "dev", INTERFACE]);
        std::fs::create_dir(&bpf).unwrap();
        sh("mount", &["-t", "bpf", "none", bpf.to_str().unwrap()]);
        machine
    }

    fn bpf(&self) -> PathBuf {
        self.dir.path().join("bpf")
    }

    /// A controller with paths of its own under this name.
    fn pen(&self, name: &str) -> Pen<'_> {
        let at = |what: &str| self.dir.path().join(format!("{name}.{what}"));
        Pen { machine: self, socket: at("sock"), state: at("state"), bpffs: self.bpf().join(name) }
    }

    /// Id of the XDP program on the interface, if any: what packets meet.
    fn program(&self) -> Option<u64> {
        let output =
            Command::new("ip").args(["-n", &self.namespace, "-j", "link", "show", INTERFACE]).output();
        let links: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        links[0]["xdp"]["prog"]["id"].as_u64()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whoever still runs in the namespace was started by this test.
        let pids = Command::new("ip").args(["netns", "pids", &self.namespace]).output();
        let pids =
            pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for pid in pids.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", pid]).status();
        }
        // Lazily: a process that was just killed may still hold something there.
        let _ = Command::new("umount").arg("--lazy").arg(self.bpf()).status();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

impl Pen<'_> {
    fn command(&self, words: &[&str]) -> Command {
        // Not `ip netns exec`: pins made under it would vanish with it.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.machine.namespace))
            .arg(env!("CARGO_BIN_EXE_pen-ctl"));
        command.arg("--socket").arg(&self.socket).arg("--state-dir").arg(&self.state);
        command.arg("--bpffs").arg(&self.bpffs).args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        // To files: a controller in the background must not keep a pipe of ours open.
        let output = self.command(words).output().unwrap();
        Ended {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> Ended {
        let ended = self.run(words);
        assert_eq!(ended.status, Some(0), "{words:?}: {ended:?}; log: {}", self.log());
        ended
    }

    /// Fails with status 1 and one line that says these things.
    #[track_caller]
    fn refused(&self, words: &[&str], says: &[&str]) {
        let ended = self.run(words);
        assert_eq!(ended.status, Some(1), "{words:?}: {ended:?}");
        let last = ended.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("pen-ctl: "), "{words:?}: {ended:?}");
        for word in says {
            assert!(last.contains(word), "{word:?} is missing: {words:?}: {ended:?}");
        }
    }

    #[track_caller]
    fn status(&self) -> StatusDocument {
        serde_json::from_str(&self.ok(&["--json", "status"]).stdout).unwrap()
    }

    fn kill(&self) {
        let pid = self.status().controller.pid;
        sh("kill", &["-KILL", &pid.to_string()]);
        while runs(pid) {
            std::thread::yield_now();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.state.join("pen.log")).unwrap_or_default()
    }

    fn instance(&self) -> Pinned {
        inspect(&self.bpffs).unwrap()
    }
}

#[test]
fn attach_starts_a_controller_and_forwarding_outlives_it() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");

    let ended = pen.ok(&["attach", INTERFACE]);
    assert!(ended.stderr.contains("started a controller in the background"), "{ended:?}");
    assert!(ended.stdout.contains("attached"), "{ended:?}");
    let program = machine.program();
    assert!(program.is_some());

    pen.ok(&["service", "add", "web", "10.77.0.100:80/tcp"]);
    let ended = pen.ok(&["backend", "add", "web", "10.77.0.11"]);
    assert!(ended.stdout.contains("backend 10.77.0.11 added to web; not serving now"), "{ended:?}");
    let before = pen.status();
    assert_eq!(before.interfaces[0].state, InterfaceState::Attached);
    assert_eq!(before.services[0].backends.len(), 1);

    // Killed: packets are still met by the program, nobody answers, and the next controller goes on.
    pen.kill();
    assert_eq!(machine.program(), program);
    assert_eq!(pen.run(&["status"]).status, Some(3));
    pen.ok(&["attach", INTERFACE]);
    assert!(machine.program().is_some());
    let after = pen.status();
    assert_ne!(after.controller.pid, before.controller.pid);
    assert_eq!(after.services[0].name, "web");
    assert_eq!(after.services[0].backends[0].address, before.services[0].backends[0].address);

    // Stopped: the same, and the process is gone when the command returns.
    pen.ok(&["stop"]);
    assert!(!runs(after.controller.pid));
    assert!(machine.program().is_some());
    let log = pen.log();
    assert!(log.contains("frozen"), "{log}");
    // Who reads the log finds what was asked, by whom, and of which pen.
    for line in ["service added: {\"name\":\"web\"", "backend added to service web", "user=0", "told to end"]
    {
        assert!(log.contains(line), "{line:?} is missing: {log}");
    }
    assert!(log.contains(&format!("pen {} runs", env!("CARGO_PKG_VERSION"))), "{log}");

    // Detached without a controller, for good: the next one does not attach again.
    let ended = pen.ok(&["detach", INTERFACE]);
    assert!(ended.stdout.contains("detached from veth0"), "{ended:?}");
    assert_eq!(machine.program(), None);
    assert!(pen.ok(&["detach", INTERFACE]).stdout.contains("nothing to do"));
}

#[test]
fn what_stop_detach_does_the_next_run_undoes() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);

    pen.ok(&["stop", "--detach"]);
    assert_eq!(machine.program(), None);
    start(&pen, &[]);
    assert_eq!(pen.status().interfaces[0].state, InterfaceState::Attached);
    assert!(machine.program().is_some());

    // The same by the pins alone.
    pen.kill();
    assert!(pen.ok(&["stop", "--detach"]).stdout.contains("detached from veth0"));
    assert_eq!(machine.program(), None);
    start(&pen, &[]);
    assert!(machine.program().is_some());

    // And detached through a controller, for good.
    pen.ok(&["detach", "--all"]);
    assert_eq!(machine.program(), None);
    assert!(pen.status().interfaces.is_empty());
    pen.ok(&["stop"]);
}

#[test]
fn a_state_that_is_not_the_pins_own_changes_nothing_until_told_how() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);
    pen.ok(&["service", "add", "web", "10.77.0.100:80/tcp"]);
    pen.kill();
    let (program, pins) = (machine.program(), pen.instance());

    let other = Pen { state: machine.pen("two").state, ..pen.clone() };
    other.refused(&["run"], &["is empty", "run --adopt", "run --discard", "nothing was changed"]);
    other.refused(&["attach", INTERFACE], &["run --adopt", "run --discard"]);
    other.refused(&["run", "--adopt"], &["-c FILE"]);
    assert_eq!((machine.program(), pen.instance()), (program, pins));

    // Adopted with a file: the pins keep their id, and the file says what they forward.
    let file = machine.write(
        "pen.toml",
        "interfaces = [\"veth0\"]\n[[service]]\nname = \"www\"\nvip = \"10.77.0.100:80/tcp\"\n",
    );
    start(&other, &["--adopt", "-c", &file]);
    assert_eq!(pen.instance(), pins);
    assert_eq!(other.status().services[0].name, "www");
    assert!(machine.program().is_some());
    other.kill();
    start(&other, &[]);
    other.ok(&["stop"]);

    // Discarded: other pins, built from the first state.
    let third = Pen { state: machine.pen("three").state, ..pen.clone() };
    third.refused(&["run"], &["run --discard"]);
    start(&third, &["--discard"]);
    assert_ne!(pen.instance(), pins);
    assert!(third.status().services.is_empty());
    assert_eq!(machine.program(), None);
}

#[test]
fn a_trial_outlives_a_kill_and_a_damaged_state_is_gone_on_without_only_when_told() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);
    let file = machine.write("pen.toml", "[[service]]\nname = \"web\"\nvip = \"10.77.0.100:80/tcp\"\n");
    assert!(pen.ok(&["apply", &file, "--dry-run"]).stdout.contains("+ service web"));
    assert!(pen.status().services.is_empty());
    pen.ok(&["apply", &file, "--confirm", "1h"]);
    pen.kill();
    start(&pen, &[]);
    pen.refused(
        &["backend", "add", "web", "10.77.0.11"],
        &["on trial", "apply --confirmed", "apply --rollback"],
    );
    pen.ok(&["apply", "--rollback"]);
    assert!(pen.status().services.is_empty());
    pen.ok(&["apply", &file]);

    pen.kill();
    let program = machine.program();
    let state = pen.state.join("state.json");
    std::fs::write(&state, "{").unwrap();
    pen.refused(&["run"], &["state.json:1:1", "keeps forwarding", "run --adopt"]);
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "{");
    start(&pen, &["--adopt"]);
    assert_eq!(pen.status().services[0].name, "web");
    assert_eq!(std::fs::read_to_string(pen.state.join("state.json.damaged-1")).unwrap(), "{");
    assert!(program.is_some() && machine.program().is_some());
    pen.ok(&["stop"]);
    assert!(pen.ok(&["export"]).stdout.contains("10.77.0.100:80/tcp"), "from the stored state");
}

#[test]
fn what_cannot_be_attached_is_refused_in_one_line() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);
    pen.refused(&["attach", "nope0"], &["nope0"]);
    pen.refused(&["attach", "lo"], &["lo"]);
    pen.refused(&["attach", INTERFACE, "nope0"], &["nope0"]);

    // Another pen, with pins of its own, finds the interface taken.
    let other = machine.pen("two");
    let program = machine.program();
    other.refused(
        &["attach", INTERFACE],
        &[INTERFACE, &program.unwrap().to_string(), "pen_xdp", "--bpffs DIR detach veth0"],
    );
    assert_eq!(machine.program(), program);
    other.ok(&["stop"]);
}

#[test]
fn a_second_controller_is_refused_with_the_pid_of_the_first_and_what_it_holds() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);
    let before = pen.status();
    let pid = format!("pid {}", before.controller.pid);
    let (program, pins) = (machine.program(), pen.instance());
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();

    pen.refused(&["run"], &[&path(&pen.socket), &pid, "--socket"]);
    let other = machine.pen("two");
    let same_socket = Pen { socket: pen.socket.clone(), ..other.clone() };
    same_socket.refused(&["run"], &[&path(&pen.socket), &pid, "--socket"]);
    let same_state = Pen { state: pen.state.clone(), ..other.clone() };
    same_state.refused(&["run"], &[&path(&pen.state), &pid, "--state-dir"]);
    // Whatever it was told to do with pins that are not its own: these are being used.
    let same_pins = Pen { bpffs: pen.bpffs.clone(), ..other.clone() };
    for words in [&["run"][..], &["run", "--adopt"], &["run", "--discard"]] {
        same_pins.refused(words, &[&path(&pen.bpffs), &pid, "--bpffs"]);
    }

    assert_eq!((machine.program(), pen.instance()), (program, pins));
    assert_eq!(pen.status().controller.pid, before.controller.pid);
    assert!(pen.status().warnings.is_empty(), "{:?}", pen.status().warnings);
}

#[test]
fn a_missing_bpf_file_system_is_named_with_the_command_that_mounts_it() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = Pen { bpffs: machine.dir.path().join("no-bpf/pen"), ..machine.pen("one") };
    pen.refused(&["run"], &["no BPF file system", "mount -t bpf"]);
    pen.refused(&["attach", INTERFACE], &["no BPF file system", "mount -t bpf"]);
    assert_eq!(machine.program(), None);
}

#[test]
fn systemd_hears_when_packets_would_flow_and_sigterm_leaves_them_flowing() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    let file = machine.write("pen.toml", "interfaces = [\"veth0\"]\n");
    let notified = machine.dir.path().join("notify");
    let systemd = UnixDatagram::bind(&notified).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut message = [0; 256];
        loop {
            match systemd.recv(&mut message) {
                Ok(length) => return String::from_utf8_lossy(&message[..length]).trim().to_owned(),
                // A receive with a time-out is interrupted when the machine stops the process for a moment.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no notification: {error}"),
            }
        }
    };
    let mut child = pen
        .command(&["run", "-c", &file])
        .env("NOTIFY_SOCKET", &notified)
        .env("WATCHDOG_USEC", "100000")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(hear(), "READY=1");
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    let program = machine.program();
    assert!(program.is_some(), "ready, but nothing is attached");

    sh("kill", &["-TERM", &child.id().to_string()]);
    let last = std::iter::repeat_with(hear).find(|message| message != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(log.contains("health frozen"), "{log}");
    assert_eq!(machine.program(), program);
    assert!(!pen.socket.exists());
}

#[test]
fn a_file_is_applied_when_it_differs_and_on_sighup_and_else_the_state_stands() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    let service = |name: &str| format!("[[service]]\nname = \"{name}\"\nvip = \"10.77.0.100:80/tcp\"\n");
    let file = machine.write("pen.toml", &service("first"));
    let names = || pen.status().services.iter().map(|service| service.name.clone()).collect::<Vec<_>>();
    start(&pen, &["-c", &file]);
    pen.ok(&["service", "add", "more", "10.77.0.101:80/tcp"]);
    pen.ok(&["stop"]);

    // Unchanged: what was done at run time stands.
    start(&pen, &["-c", &file]);
    assert_eq!(names(), ["first", "more"]);
    assert!(!pen.status().controller.file_differs);

    // Changed under a running controller: nothing happens before SIGHUP, and a wrong one changes nothing then.
    machine.write("pen.toml", "[[service]]\nnmae = 1\n");
    let pid = pen.status().controller.pid.to_string();
    sh("kill", &["-HUP", &pid]);
    while !pen.log().contains("nmae") {
        std::thread::yield_now();
    }
    machine.write("pen.toml", &service("second"));
    assert!(pen.status().controller.file_differs);
    assert_eq!(names(), ["first", "more"]);
    sh("kill", &["-HUP", &pid]);
    while names() != ["second"] {
        std::thread::yield_now();
    }
    pen.ok(&["service", "add", "more", "10.77.0.101:80/tcp"]);
    pen.ok(&["stop"]);

    // Wrong at the start: what is stored forwards, and that is said. Without a stored state it is refused.
    machine.write("pen.toml", "[[service]]\nnmae = 1\n");
    start(&pen, &["-c", &file]);
    assert_eq!(names(), ["second", "more"]);
    assert!(
        pen.status().warnings.iter().any(|warning| warning.contains("nmae")),
        "{:?}",
        pen.status().warnings
    );
    pen.ok(&["stop"]);
    let refused = machine.pen("empty").run(&["run", "-c", &file]);
    assert!(refused.status == Some(1) && refused.stderr.contains("nmae"), "{refused:?}");

    // Changed meanwhile: applied at the start.
    machine.write("pen.toml", &service("third"));
    start(&pen, &["-c", &file]);
    assert_eq!(names(), ["third"]);
    pen.ok(&["stop"]);
}

#[test]
fn the_doctor_misses_a_controller_whose_packets_flow_and_names_what_is_damaged() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);
    assert!(pen.ok(&["doctor"]).stdout.contains("the controller answers"));
    pen.kill();
    let told = |words: &[&str]| {
        let ended = pen.run(&["doctor"]);
        assert_eq!(ended.status, Some(1), "{ended:?}");
        for word in words {
            assert!(ended.stdout.contains(word), "{word:?} is missing: {ended:?}");
        }
    };
    told(&[
        "problem  controller",
        "packets are still forwarded",
        "nobody checks",
        "systemctl start pen",
        "pen-ctl run",
    ]);
    std::fs::write(pen.state.join("state.json"), "{").unwrap();
    told(&["state.json:1:1", "run --adopt"]);
}

#[test]
fn an_http_address_that_the_machine_lost_keeps_no_controller_from_starting() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    let address = |verb: &str| {
        let words = ["address", verb, "10.78.0.1/24", "dev", INTERFACE];
        sh("ip", &[&["-n", &machine.namespace], &words[..]].concat());
    };
    let http = || pen.status().controller.http;
    let file = machine.write("pen.toml", "http = \"10.78.0.1:9080\"\n");
    address("add");
    start(&pen, &["-c", &file]);
    let opened = http();
    assert_eq!(opened.unwrap().to_string(), "10.78.0.1:9080");
    pen.kill();
    address("del");
    pen.refused(&["run", "--http", "10.78.0.1:9080"], &["10.78.0.1:9080", "does not have that address"]);

    start(&pen, &["-c", &file]);
    assert_eq!(http(), None);
    while !pen.status().warnings.iter().any(|warning| warning.contains("10.78.0.1:9080")) {
        std::thread::yield_now();
    }
    address("add");
    while http() != opened {
        std::thread::yield_now();
    }
}

/// Attached, with a controller in the background.
#[track_caller]
fn machine_up(pen: &Pen<'_>) {
    pen.ok(&["attach", INTERFACE]);
}

/// Starts `run` with further words and waits until it answers; the machine ends it.
#[track_caller]
#[allow(clippy::zombie_processes, reason = "the machine ends whoever runs in its namespace")]
fn start(pen: &Pen<'_>, words: &[&str]) {
    let log = std::fs::File::options().create(true).append(true).open(pen.state.join("pen.log"));
    let log = log.unwrap_or_else(|_| {
        std::fs::create_dir_all(&pen.state).unwrap();
        std::fs::File::create(pen.state.join("pen.log")).unwrap()
    });
    let mut command = pen.command(&[&["run"], words].concat());
    let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    while pen.run(&["status"]).status != Some(0) {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{words:?}: {status}: {}", pen.log());
        }
    }
}
