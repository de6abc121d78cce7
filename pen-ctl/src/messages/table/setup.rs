//! `backend-setup` and `doctor`. What depends on the machine is copied.

use super::super::stage::Stage;
use super::super::{Row, ToDo, copied};

pub(super) fn rows() -> Vec<Row> {
    let stage = Stage::empty();
    let mut rows = vec![
        stage.typed(
            "backend-setup 127.0.0.1",
            "is a loopback address",
            "VIP 127.0.0.1",
            "use an address that clients can reach",
        ),
        stage.typed(
            "backend-setup 169.254.0.1",
            "is a link-local address",
            "VIP 169.254.0.1",
            "use an address that clients can reach",
        ),
    ];
    rows.extend(places());
    rows.extend(records());
    rows.extend(doctor());
    rows
}

fn places() -> Vec<Row> {
    vec![
        copied(
            "VIP 10.0.0.100 is on eth0 of this machine, which tells the link that it is here; take it away first: ip address del 10.0.0.100/24 dev eth0",
            "tells the link that it is here",
            "VIP 10.0.0.100 is on eth0",
            "ip address del 10.0.0.100/24 dev eth0",
        ),
        copied(
            "VIP 10.0.0.100 is on dummy0 of this machine, not on lo; use --interface dummy0, or take it away first: ip address del 10.0.0.100/32 dev dummy0",
            "not on lo",
            "VIP 10.0.0.100 is on dummy0",
            "use --interface dummy0",
        ),
        copied(
            "lo has 10.0.0.100/24, which makes that whole network local; take it away first: ip address del 10.0.0.100/24 dev lo",
            "makes that whole network local",
            "lo has 10.0.0.100/24",
            "ip address del 10.0.0.100/24 dev lo",
        ),
        copied(
            "there is no interface dummy0; use lo, or make one: ip link add dummy0 type dummy",
            "there is no interface",
            "dummy0",
            "ip link add dummy0 type dummy",
        ),
        copied(
            "interface eth0 answers ARP and neighbor solicitations for its addresses; use lo or a dummy interface",
            "answers ARP",
            "interface eth0",
            "use lo or a dummy interface",
        ),
        copied(
            "interface dummy0 is down: its addresses are nobody's; ip link set dummy0 up",
            "is down",
            "interface dummy0",
            "ip link set dummy0 up",
        ),
        copied(
            "IPv6 is turned off on lo; turn it on: sysctl -w net.ipv6.conf.lo.disable_ipv6=0",
            "IPv6 is turned off",
            "on lo",
            "sysctl -w net.ipv6.conf.lo.disable_ipv6=0",
        ),
        copied(
            "changing addresses and settings takes CAP_NET_ADMIN, which this process has not; become root",
            "takes CAP_NET_ADMIN",
            "addresses and settings",
            "become root",
        ),
        copied(
            "look at the interfaces: Operation not permitted (os error 1); become root (it takes CAP_NET_ADMIN)",
            "look at the interfaces",
            "interfaces",
            "become root",
        ),
        copied(
            "look at addresses and settings: Operation not permitted (os error 1); become root (it takes CAP_NET_ADMIN)",
            "look at addresses and settings",
            "addresses and settings",
            "become root",
        ),
        copied(
            "add 10.0.0.100/32 to lo: Operation not permitted (os error 1); become root (it takes CAP_NET_ADMIN)",
            "Operation not permitted",
            "add 10.0.0.100/32 to lo",
            "become root",
        ),
        copied(
            "remove 10.0.0.100/32 from lo: Operation not permitted (os error 1); become root (it takes CAP_NET_ADMIN)",
            "Operation not permitted",
            "remove 10.0.0.100/32 from lo",
            "become root",
        ),
        copied(
            "set net.ipv4.conf.all.arp_ignore to 1: Read-only file system (os error 30); the settings are read-only here, as in many containers: do it on the host, in this network namespace",
            "Read-only file system",
            "set net.ipv4.conf.all.arp_ignore to 1",
            "do it on the host, in this network namespace",
        ),
        copied(
            "set net.ipv4.conf.all.arp_ignore back to 0: Operation not permitted (os error 1); become root (it takes CAP_NET_ADMIN)",
            "Operation not permitted",
            "set net.ipv4.conf.all.arp_ignore back to 0",
            "become root",
        ),
    ]
}

fn records() -> Vec<Row> {
    let file = "/var/lib/pen/backend-setup.json";
    vec![
        copied(
            "lock /var/lib/pen: Operation not permitted (os error 1); become root (it takes CAP_NET_ADMIN)",
            "lock ",
            "/var/lib/pen",
            "become root",
        ),
        copied(
            "read /var/lib/pen/backend-setup.json: Permission denied (os error 13); become root, or use another --state-dir",
            "Permission denied",
            file,
            "become root, or use another --state-dir",
        ),
        copied(
            "read /var/lib/pen/backend-setup.json: it has format 2, and this pen-ctl knows 1; use the pen-ctl that wrote it, or move it away",
            "it has format 2",
            file,
            "use the pen-ctl that wrote it",
        ),
        copied(
            "read /var/lib/pen/backend-setup.json: expected value at line 1 column 1; move it away; what it tells of is then left as it is",
            "expected value at line 1",
            file,
            "move it away",
        ),
        copied(
            "write /var/lib/pen/backend-setup.json: No space left on device (os error 28); free space or mend the disk, or use another --state-dir",
            "No space left on device",
            file,
            "free space or mend the disk",
        ),
    ]
}

fn doctor() -> Vec<Row> {
    let own_words = || ToDo::Nothing("the kernel says what it refused");
    vec![
        copied(
            "there is no service web; `pen-ctl service list` shows those there are",
            "there is no service",
            "web",
            "`pen-ctl service list` shows those there are",
        ),
        copied(
            "look at the interfaces: Too many open files (os error 24)",
            "Too many open files",
            "the interfaces",
            own_words(),
        ),
        copied(
            "2 problems found; what to do stands under each",
            "problems found",
            "2 problems",
            "what to do stands under each",
        ),
        copied(
            "doctor looks at what XDP needs, which this system has not; run it on the balancer",
            "which this system has not",
            "what XDP needs",
            "run it on the balancer",
        ),
        copied(
            "backend-setup --apply and --undo are not supported on this system; leave them out, and type what it prints",
            "are not supported on this system",
            "--apply and --undo",
            "leave them out, and type what it prints",
        ),
        copied(
            "the data plane xdp needs Linux; use --dataplane proxy here",
            "needs Linux",
            "the data plane xdp",
            "use --dataplane proxy here",
        ),
    ]
}
