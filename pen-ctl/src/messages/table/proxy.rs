//! The one-liner: what is typed, and what a proxy needs.

use std::io;
use std::net::TcpListener;

use super::super::{Row, copied, refused, row};
use crate::dataplane::proxy::StartError;
use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::listener::{listen, listen_udp};

pub(super) fn rows() -> Vec<Row> {
    [typed(), starts(), ends()].into_iter().flatten().collect()
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
    vec![
        refused(listen(&taken, 1), "in use", taken.to_string(), "see `ss -ltnp`"),
        refused(listen_udp(&path, 1), "no Unix sockets", "/run/app.sock", "use an address with a port"),
        row(StartError::Backends(0), "0 backends", "backends", "there must be 1 to"),
        row(StartError::Worker(descriptors), "many open files", "a worker", "raise the limit of open files"),
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
