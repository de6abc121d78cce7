//! What keeps XDP from being opened, and interfaces from being attached.

use super::super::{Row, copied, refused, row};
use crate::dataplane::xdp::{self, OpenError};

pub(super) fn rows() -> Vec<Row> {
    [opening(), attaching()].into_iter().flatten().collect()
}

fn opening() -> Vec<Row> {
    let dir = || "/sys/fs/bpf/pen".into();
    let home = tempfile::tempdir().unwrap();
    let privileges = OpenError::NoPrivilege { missing: vec!["CAP_BPF", "CAP_NET_ADMIN"] };
    let mismatch = OpenError::MapMismatch {
        path: "/sys/fs/bpf/pen/maps/directory".into(),
        difference: "holds 12 entries instead of 16".into(),
    };
    let on = "/sys/fs/bpf/pen";
    vec![
        refused(
            xdp::check_bpffs(home.path()),
            "no BPF file system",
            home.path().display().to_string(),
            "mount one: mount -t bpf bpf",
        ),
        copied(
            "set service /run/app.sock: a Unix socket gets no packets; use an IP address without a port, or run the proxy (`run --dataplane proxy`)",
            "a Unix socket gets no packets",
            "/run/app.sock",
            "run the proxy",
        ),
        copied(
            "set backend 10.0.0.11:80: packets can only be forwarded to an IP address, on the port they came to; use an IP address without a port, or run the proxy (`run --dataplane proxy`)",
            "on the port they came to",
            "10.0.0.11:80",
            "run the proxy",
        ),
        row(privileges, "not privileged enough for XDP", "CAP_BPF and CAP_NET_ADMIN missing", "run as root"),
        row(
            OpenError::InUse { dir: dir(), pid: Some(7) },
            "are in use by another controller (pid 7)",
            on,
            "stop that one, or use another --bpffs directory",
        ),
        row(
            OpenError::ForeignInstance { dir: dir(), pins: [1; 16], state: [2; 16] },
            "belong to another instance",
            on,
            "run with --adopt to take them over",
        ),
        row(
            OpenError::OtherAbi { dir: dir(), found: 9 },
            "have map ABI 9",
            on,
            "run the pen-ctl that made them",
        ),
        row(
            OpenError::Unidentified { dir: dir() },
            "without a valid instance record",
            on,
            "run with --discard to remove them",
        ),
        row(
            mismatch,
            "holds 12 entries instead of 16",
            "the pinned map /sys/fs/bpf/pen/maps/directory",
            "run with --discard to remove the pins",
        ),
    ]
}

/// It takes drivers and programs of others: `tests/xdp/refusals.rs` brings these about in the kernel.
fn attaching() -> Vec<Row> {
    let on = "attach XDP to eth0";
    vec![
        copied(
            "attach XDP to eth0: there is no such interface; `ip link` lists those there are",
            "there is no such interface",
            on,
            "`ip link` lists those there are",
        ),
        copied(
            "attach XDP to eth0: another XDP program is already there; detach it with the tool that put it there: `ip -d link show eth0` tells its number",
            "another XDP program is already there",
            on,
            "detach it with the tool that put it there",
        ),
        copied(
            "attach XDP to eth0: its driver has no XDP; `--mode generic` works everywhere, but slower",
            "its driver has no XDP",
            on,
            "`--mode generic` works everywhere",
        ),
        copied(
            "attach XDP to eth0: its driver refused (Invalid argument (os error 22)); a large MTU or merged queues may be why (`ip link show eth0`); or use `--mode generic`",
            "its driver refused",
            on,
            "or use `--mode generic`",
        ),
        copied(
            "attach XDP to eth0: the kernel refused: No space left on device (os error 28); `pen-ctl doctor` looks for what is missing",
            "the kernel refused",
            on,
            "`pen-ctl doctor`",
        ),
        copied(
            "attach XDP to eth0: program 17 (xdp_firewall) is already there and is not replaced; detach it with the tool that put it there, or with `ip link set dev eth0 xdp off` (`xdpgeneric off` where `ip link` shows xdpgeneric)",
            "is already there and is not replaced",
            on,
            "detach it with the tool that put it there",
        ),
        copied(
            "attach XDP to eth0: program 17 (pen) is already there and is not replaced; another pen put it there: `pen-ctl --bpffs DIR detach eth0` with the directory of its pins detaches it",
            "is already there and is not replaced",
            on,
            "`pen-ctl --bpffs DIR detach eth0`",
        ),
        copied(
            "add service 10.0.0.100:80/tcp: there are 4096 services already; remove one first",
            "there are 4096 services already",
            "10.0.0.100:80/tcp",
            "remove one first",
        ),
        copied(
            "rx-vlan-offload of eth0 stays off: Operation not supported (os error 95); it was on before pen came: `ethtool -K eth0 rxvlan on`",
            "stays off: Operation not supported",
            "rx-vlan-offload of eth0",
            "`ethtool -K eth0 rxvlan on`",
        ),
    ]
}
