//! The one-liner: what is typed, and what a proxy needs.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::super::{Row, copied, refused, row};
use crate::dataplane::proxy::StartError;
use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::handover::HandoverError;
use crate::dataplane::proxy::listener::{listen, listen_udp};
use crate::dataplane::proxy::preface::{self, PrefaceError};

pub(super) fn rows() -> Vec<Row> {
    [typed(), flags(), rules(), starts(), plane(), prefaces(), handovers(), ends()]
        .into_iter()
        .flatten()
        .collect()
}

/// What `cli/proxy.rs` refuses.
fn flags() -> Vec<Row> {
    vec![
        copied(
            "invalid value '0s' for '--connect-timeout <TIME>': that is out of range; use 1ms to 10m",
            "out of range",
            "'0s' for '--connect-timeout <TIME>'",
            "use 1ms to 10m",
        ),
        copied(
            "invalid value '2years' for '--idle-timeout <TIME>': that is too long; use at most 1year, or 0 for never",
            "too long",
            "'2years' for '--idle-timeout <TIME>'",
            "use at most 1year",
        ),
        copied(
            "invalid value '9999' for '--workers <N>': use 1 to 8: at most 4 for each processor",
            "invalid value",
            "'9999' for '--workers <N>'",
            "use 1 to 8",
        ),
        copied(
            "invalid value '0' for '--max-connections <N>': use 1 to 4294967295, or leave it out for no limit",
            "invalid value",
            "'0' for '--max-connections <N>'",
            "use 1 to 4294967295",
        ),
        copied(
            "--proxy-protocol v1 is for TCP only; use v2",
            "for TCP only",
            "--proxy-protocol v1",
            "use v2",
        ),
        copied(
            "--transparent: operation not permitted; it takes Linux, FreeBSD or OpenBSD, and root or CAP_NET_ADMIN",
            "not permitted",
            "--transparent",
            "it takes Linux",
        ),
    ]
}

/// What `cli/proxy/rules.rs` refuses, and tests there.
fn rules() -> Vec<Row> {
    vec![
        copied(
            "listen on 224.0.0.1:80: that is a multicast address; use an address that this machine has",
            "a multicast address",
            "224.0.0.1:80",
            "use an address that this machine has",
        ),
        copied(
            "backend 0.0.0.0:80 is the unspecified address; use the address of a server",
            "is the unspecified address",
            "0.0.0.0:80",
            "use the address of a server",
        ),
        copied(
            "backend 10.0.0.11:80 is there twice; name it once, or give one of them another port",
            "is there twice",
            "backend 10.0.0.11:80",
            "name it once",
        ),
        copied(
            "--transparent: clients of /run/a.sock have no IP address; leave --transparent out",
            "have no IP address",
            "clients of /run/a.sock",
            "leave --transparent out",
        ),
        copied(
            "backend /run/a.sock: a Unix socket cannot see the client's address; leave --transparent out, or use --proxy-protocol",
            "cannot see the client's address",
            "/run/a.sock",
            "leave --transparent out",
        ),
        copied(
            "backend 10.0.0.11:80 is IPv4 and clients are IPv6, so it cannot see their addresses; use an IPv6 address, or leave --transparent out",
            "it cannot see their addresses",
            "10.0.0.11:80",
            "use an IPv6 address",
        ),
    ]
}

/// What the plane refuses: validation is before it.
fn plane() -> Vec<Row> {
    vec![
        copied(
            "attach to eth0: the proxy attaches to no interface; leave `interfaces` out, or run with --dataplane xdp",
            "attaches to no interface",
            "eth0",
            "leave `interfaces` out",
        ),
        copied(
            "change 127.0.0.1:80/tcp: it is not open; see why in the log: it is tried again",
            "it is not open",
            "127.0.0.1:80/tcp",
            "see why in the log",
        ),
    ]
}

fn handovers() -> Vec<Row> {
    let nobody = || io::Error::from_raw_os_error(libc::ENOENT);
    let there = "from the controller that runs";
    vec![
        row(
            HandoverError::Nobody { path: "/run/pen/pen.sock.handover".into(), source: nobody() },
            "nobody to take over from",
            "/run/pen/pen.sock.handover",
            "start without --take-over",
        ),
        row(HandoverError::Broken(nobody()), "No such file", there, "then try again"),
        row(HandoverError::Format { theirs: 2 }, "it knows form 2", there, "stop it"),
        copied(
            "a proxy still serves clients here, and waits for a successor on /run/pen/pen.sock.handover; take its place \
             with `pen-ctl run --take-over`, or give this one another --socket",
            "a proxy still serves clients",
            "/run/pen/pen.sock.handover",
            "take its place",
        ),
        copied(
            "--take-over is for the proxy: under XDP, stop the controller and start it; packets keep flowing",
            "is for the proxy",
            "--take-over",
            "stop the controller and start it",
        ),
    ]
}

/// What `cli/proxy/address.rs` refuses, and tests there; clap puts the value before it.
fn typed() -> Vec<Row> {
    vec![
        copied(
            "invalid value 'x' for '<LISTEN>': write a port (80), an address with a port (127.0.0.1:80, [::1]:80) or the path of a Unix socket (/run/app.sock)",
            "invalid value",
            "'x' for '<LISTEN>'",
            "write a port (80)",
        ),
        copied(
            "invalid value 'www1:x' for '<BACKEND>...': write HOST, HOST:PORT or HOST:PORT:MAX (an IPv6 address in brackets), or the path of a Unix socket",
            "invalid value",
            "'www1:x' for '<BACKEND>...'",
            "write HOST, HOST:PORT",
        ),
        copied(
            "invalid value 'http://www1:80' for '<BACKEND>...': only the path of a Unix socket has a `/`, and begins with `/` or `./`; write www1:80",
            "has a `/`",
            "'http://www1:80' for '<BACKEND>...'",
            "write www1:80",
        ),
        copied(
            "invalid value '/run/' for '<BACKEND>...': a directory is no socket; write the path of a Unix socket (/run/app.sock)",
            "a directory is no socket",
            "'/run/' for '<BACKEND>...'",
            "write the path of a Unix socket",
        ),
        copied("backend www1: no port; write www1:PORT", "no port", "www1", "write www1:PORT"),
        copied(
            "backend www1: the name has no address; write an address",
            "the name has no address",
            "www1",
            "write an address",
        ),
        copied(
            "backend www1: failed to lookup address information; write an address, or see that the name is known",
            "failed to lookup",
            "www1",
            "write an address",
        ),
    ]
}

fn starts() -> Vec<Row> {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Endpoint::Inet(holder.local_addr().unwrap());
    let path = Endpoint::Unix("/run/app.sock".into());
    let descriptors = io::Error::from_raw_os_error(libc::EMFILE);
    let home = tempfile::tempdir().unwrap();
    let [live, file, missing] = ["live", "file", "missing/x"].map(|name| home.path().join(name));
    let _live = UnixListener::bind(&live).unwrap();
    std::fs::write(&file, "").unwrap();
    let at = |path: &Path| listen(&Endpoint::Unix(path.to_owned()), 1);
    let shown = |path: &Path| path.display().to_string();
    vec![
        refused(listen(&taken, 1), "in use", taken.to_string(), "see `ss -ltunp`"),
        refused(at(&live), "another process listens there", shown(&live), "end it, or use another path"),
        refused(at(&file), "a file that is no socket", shown(&file), "use another path, or remove the file"),
        refused(at(home.path()), "a directory is there", shown(home.path()), "use a path in it"),
        refused(at(&missing), "its directory does not exist", shown(&missing), "make that first"),
        copied(
            "listen on /root/x: Permission denied (os error 13); use a path in a directory that this user may write in, or become root",
            "Permission denied",
            "listen on /root/x",
            "use a path in a directory",
        ),
        refused(listen_udp(&path, 1), "no Unix sockets", "/run/app.sock", "use an address with a port"),
        row(
            StartError::Itself(taken.clone()),
            "where the proxy itself listens",
            taken.to_string(),
            "of a server",
        ),
        row(StartError::NoBackend, "no backend", "no backend", "name one at least"),
        row(StartError::Worker(descriptors), "many open files", "a worker", "raise the limit of open files"),
    ]
}

/// What is said of a client's PROXY protocol header, behind who sent it.
fn prefaces() -> Vec<Row> {
    let what = "PROXY protocol header";
    let line = |text: &str| preface::read(text.as_bytes());
    let binary = |command, kind, length: [u8; 2]| {
        preface::read(&[b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, kind], &length].concat())
    };
    vec![
        refused(
            line("GET / HTTP/1.1"),
            "no PROXY",
            "header where one must be",
            "let the sender put it first",
        ),
        refused(line("PROXY TCP4 192.0.2.1\n"), what, "no CR LF", "correct the sender"),
        refused(line("PROXY UDP4\r\n"), what, "the protocol (TCP4, TCP6 or UNKNOWN)", "correct the sender"),
        refused(line("PROXY TCP4 192.0.2.01\r\n"), what, "the source address", "correct the sender"),
        refused(line("PROXY TCP6 ::1 ::1 1 2 3\r\n"), what, "more than two addresses", "correct the sender"),
        refused(binary(0x31, 0x11, [0, 12]), what, "version 3", "let the sender use version 1 or 2"),
        refused(binary(0x22, 0x11, [0, 12]), what, "command 2", "correct the sender"),
        refused(binary(0x21, 0x41, [0, 12]), what, "address family 4", "correct the sender"),
        refused(binary(0x21, 0x13, [0, 12]), what, "transport 3", "correct the sender"),
        refused(binary(0x21, 0x11, [0, 11]), what, "11 bytes of addresses", "correct the sender"),
        refused(binary(0x21, 0x11, [255, 0]), what, "65296 bytes", "let the sender leave TLVs out"),
        row(PrefaceError::Datagram, what, "the datagram", "correct the sender"),
    ]
}

fn ends() -> Vec<Row> {
    vec![
        copied(
            "wait for connections: cannot allocate memory; start it again",
            "cannot allocate memory",
            "connections",
            "start it again",
        ),
        copied(
            "a worker ended unexpectedly; start it again, and report it",
            "ended unexpectedly",
            "a worker",
            "start it again",
        ),
    ]
}
