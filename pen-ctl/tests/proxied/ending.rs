//! The end of a proxy and its next beginning: told to stop, told twice, killed.

use std::net::TcpStream;

use rustix::process::Signal;

use crate::load::Load;
use crate::long::Long;
use crate::place::{Pen, eventually, runs, signal};
use crate::servers::connect_from;
use crate::setting::{await_all, backend, clients, configuration, dns, start, web};

/// Whether a newcomer is taken.
fn is_open(pen: &Pen) -> bool {
    connect_from(pen.ip(99).into(), web(pen)).is_ok()
}

/// What was asked for is asked for again by the next one, which is the proxy though nobody says so.
#[track_caller]
fn goes_on(pen: &mut Pen) {
    let pid = pen.start("");
    let status = pen.status();
    assert_eq!((status.controller.dataplane.as_str(), status.controller.pid), ("proxy", pid));
    assert_eq!(status.services.len(), 2);
    await_all(pen, &[1, 2, 3]);
    let load = Load::of(clients(pen));
    load.await_answers(2);
    load.end().assert_undisturbed("the next one");
}

#[test]
fn stop_lets_open_connections_end_and_takes_nobody_new() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    pen.ok(&format!("backend set web {} --weight 7", backend(&pen, 1)));
    let longs: Vec<Long> = (10..16).map(|host| Long::begin(pen.ip(host).into(), web(&pen))).collect();
    let said = pen.run(&["stop"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains(&format!("process {first} ends with its last connection")), "{said:?}");
    eventually("nobody new is taken", || !is_open(&pen));
    assert!(runs(first));
    longs.iter().for_each(Long::await_more);
    // The next one need not wait for them.
    goes_on(&mut pen);
    assert_eq!(pen.backend("web", backend(&pen, 1)).weight, 7);
    longs.iter().for_each(Long::await_more);
    assert!(longs.into_iter().all(|long| long.end() > 0));
    assert!(pen.ended(first).success(), "{}", pen.log());
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    let longs: Vec<Long> = (10..16).map(|host| Long::begin(pen.ip(host).into(), web(&pen))).collect();
    let from = pen.log().len();
    signal(first, Signal::TERM);
    pen.await_log(from, "ends with the last connection");
    longs.iter().for_each(Long::await_more);
    signal(first, Signal::TERM);
    longs.into_iter().for_each(Long::await_loss);
    assert!(pen.ended(first).success());
    goes_on(&mut pen);
}

/// However impatient: twice in a row is twice.
#[test]
fn two_sigterms_in_a_row_are_two() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    let long = Long::begin(pen.ip(10).into(), web(&pen));
    // A client that reads nothing of its answer keeps the API waiting for its farewell.
    let mut follower =
        pen.command(&["events", "--follow"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let from = pen.log().len();
    signal(first, Signal::TERM);
    pen.await_log(from, "the controller ends");
    signal(first, Signal::TERM);
    long.await_loss();
    assert!(pen.ended(first).success());
    let _ = follower.kill();
    let _ = follower.wait();
}

#[test]
fn a_proxy_that_was_killed_is_soon_back_with_all_that_was_asked() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    let path = pen.path("app.sock");
    pen.ok(&format!("service add app {}", path.display()));
    pen.ok(&format!("backend add app {}", backend(&pen, 1)));
    pen.await_serving("app", &[backend(&pen, 1)]);
    let long = Long::begin(pen.ip(10).into(), web(&pen));
    signal(first, Signal::KILL);
    long.await_loss();
    pen.ended(first);
    assert!(TcpStream::connect(web(&pen)).is_err());
    let next = pen.start("");
    await_all(&pen, &[1, 2, 3]);
    // The path that the dead one left behind is taken.
    pen.await_serving("app", &[backend(&pen, 1)]);
    eventually("the Unix socket is open", || std::os::unix::net::UnixStream::connect(&path).is_ok());
    let load = Load::of(clients(&pen));
    load.await_answers(2);
    load.end().assert_undisturbed("after a crash");
    signal(next, Signal::INT);
    assert!(pen.ended(next).success());
    assert!(!path.exists());
    let udp = std::net::UdpSocket::bind(dns(&pen));
    assert!(udp.is_ok(), "{udp:?}");
}
