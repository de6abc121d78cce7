//! Starting and ending a controller.

use std::io;

use super::super::{Row, ToDo, copied, row};
use crate::cli::error::CliError;
use crate::launch::StartError;
use crate::machine::MachineError;

pub(super) fn rows() -> Vec<Row> {
    [starts(), pins_of_others(), ends(), system()].into_iter().flatten().collect()
}

fn starts() -> Vec<Row> {
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let ended =
        StartError::Ended { why: "no BPF file system at /x".into(), log: Some("/var/log/pen.log".into()) };
    let silent =
        StartError::Silent { socket: "/run/pen/pen.sock".into(), look_at: "/var/log/pen.log".into() };
    vec![
        copied(
            "the proxy cannot run while XDP is attached with the pins of this state: packets would flow past it; `pen-ctl stop --detach` ends that first",
            "packets would flow past it",
            "the proxy",
            "`pen-ctl stop --detach`",
        ),
        copied(
            "this state last ran as xdp, and XDP cannot be here now: XDP needs Linux; mend that, or run the proxy with `pen-ctl run --dataplane proxy`",
            "XDP cannot be here now",
            "this state",
            "`pen-ctl run --dataplane proxy`",
        ),
        row(StartError::NoXdp, "XDP needs Linux", "a controller", "run `pen-ctl run --dataplane proxy`"),
        row(
            StartError::Spawn(denied()),
            "start a controller: permission denied",
            "a controller",
            "run as root, or use another --state-dir",
        ),
        row(ended, "no BPF file system", "/x", "(log: /var/log/pen.log)"),
        row(
            StartError::Unit("no reason given".into()),
            "failed: no reason given",
            "systemctl start pen.service",
            "look at journalctl -u pen.service",
        ),
        row(silent, "was started but does not answer", "/run/pen/pen.sock", "look at /var/log/pen.log"),
        row(
            MachineError::Netlink(denied()),
            "open an rtnetlink socket: permission denied",
            "rtnetlink",
            "allow pen AF_NETLINK",
        ),
        row(
            MachineError::Interfaces(denied()),
            "look at the interfaces: permission denied",
            "interfaces",
            "allow pen AF_NETLINK",
        ),
    ]
}

/// What `run/instance.rs` decides, and tests there.
fn pins_of_others() -> Vec<Row> {
    let pins = "/sys/fs/bpf/pen";
    vec![
        copied(
            "the state in /var/lib/pen is empty: to adopt the pins in /sys/fs/bpf/pen with it would stop forwarding; give the configuration with -c FILE, or the right --state-dir",
            "would stop forwarding",
            pins,
            "give the configuration with -c FILE",
        ),
        copied(
            "packets are forwarded by the pins in /sys/fs/bpf/pen, but the state in /var/lib/pen is empty; nothing was changed: pen-ctl run --adopt takes the pins over with this state (or -c FILE), pen-ctl run --discard removes them and starts anew (both in the foreground), --state-dir names another state",
            "the state in /var/lib/pen is empty",
            pins,
            "pen-ctl run --adopt takes the pins over",
        ),
        copied(
            "nothing is attached, but the pins in /sys/fs/bpf/pen remember another state's clients, and the state in /var/lib/pen belongs to other pins; nothing was changed: pen-ctl run --adopt takes the pins over with this state (or -c FILE), pen-ctl run --discard removes them and starts anew (both in the foreground), --state-dir names another state",
            "belongs to other pins",
            pins,
            "pen-ctl run --discard removes them",
        ),
        copied(
            "the pins in /sys/fs/bpf/pen were made by a pen with map ABI 9, this one has 5; nothing was changed: run that pen, or pen-ctl run --discard to remove them and build anew (clients are forgotten)",
            "map ABI 9",
            pins,
            "run that pen, or pen-ctl run --discard",
        ),
        copied(
            "there are XDP links in /sys/fs/bpf/pen that do not say whose they are; nothing was changed: pen-ctl run --discard removes them and builds anew, --bpffs names another place",
            "do not say whose they are",
            pins,
            "pen-ctl run --discard removes them",
        ),
    ]
}

fn ends() -> Vec<Row> {
    let going = "backend 10.0.0.11 of web goes on draining and is removed within 10m; `pen-ctl backend set web 10.0.0.11 --state up` takes it back";
    let full = "state file /var/lib/pen/state.json cannot be written: No space left on device (os error 28); nothing was changed: free space or mend the disk, then try again";
    let again = |done: &str, what| {
        let message = format!("{done}, but the next controller attaches again: {full}");
        copied(&message, what, "/var/lib/pen/state.json", "free space or mend the disk")
    };
    vec![
        again("nothing was attached", "the next controller attaches again"),
        again("detached from eth0 by the pins", "detached from eth0 by the pins"),
        row(
            CliError::Interrupted(going.to_owned()),
            "goes on draining",
            "backend 10.0.0.11 of web",
            "`pen-ctl backend set web 10.0.0.11 --state up` takes it back",
        ),
        copied(
            "backend 10.0.0.11 of web stays: somebody gave it another state; `pen-ctl events --service web` shows who",
            "somebody gave it another state",
            "backend 10.0.0.11 of web",
            "`pen-ctl events --service web` shows who",
        ),
        copied(
            "the controller is an older version that does not know drains; upgrade it first",
            "does not know drains",
            "the controller",
            "upgrade it first",
        ),
        copied(
            "the controller was told to stop and still runs after 20 s; look at its log",
            "still runs after 20 s",
            "the controller",
            "look at its log",
        ),
        copied(
            "standard input cannot be read: stream did not contain valid UTF-8; pipe a configuration (TOML) into it",
            "cannot be read",
            "standard input",
            "pipe a configuration (TOML) into it",
        ),
    ]
}

/// What a machine out of memory or descriptors says.
fn system() -> Vec<Row> {
    let out = |message: &str, what: &'static str| {
        copied(message, what, "Too many open files", ToDo::Nothing("the kernel says what it is out of"))
    };
    vec![
        copied(
            "look at the interfaces: the kernel does not answer on rtnetlink",
            "does not answer",
            "rtnetlink",
            ToDo::Nothing("the kernel is stuck"),
        ),
        copied(
            "look at the interfaces: the rtnetlink socket broke down",
            "broke down",
            "the rtnetlink socket",
            ToDo::Nothing("the next try opens another"),
        ),
        out("start: Too many open files (os error 24)", "start: "),
        out("start the runtime: Too many open files (os error 24)", "start the runtime"),
        out("listen for signals: Too many open files (os error 24)", "listen for signals"),
        out(
            "wait for the controller to end: Too many open files (os error 24)",
            "wait for the controller to end",
        ),
    ]
}
