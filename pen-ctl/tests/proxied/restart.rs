//! Hot restart under load: a successor takes over, and no client notices.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use pen_ctl::api::document::StatusDocument;
use rustix::process::Signal;

use crate::load::Load;
use crate::long::Long;
use crate::place::{Pen, await_that, eventually, runs, signal};
use crate::servers::{connect_from, name};
use crate::setting::{await_all, backend, clients, configuration, dns, servers, start, web};

/// Everything that is counted, by what it is of.
fn counts(status: &StatusDocument) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for service in &status.services {
        let connections = &service.proxy.as_ref().unwrap().connections;
        all.insert(format!("{} accepted", service.name), connections.accepted);
        all.insert(format!("{} turned away", service.name), connections.turned_away);
        all.insert(format!("{} bytes", service.name), service.bytes);
        for backend in &service.backends {
            let of = |what: &str| format!("{} {} {what}", service.name, backend.address);
            let connections = backend.connections.as_ref().unwrap();
            all.insert(of("total"), connections.total);
            all.insert(of("failed"), connections.failed);
            all.insert(of("bytes"), backend.bytes);
            all.insert(of("packets"), backend.packets);
        }
    }
    all
}

/// A successor takes over as `act` has it; returns its process. Nothing that was counted goes back.
#[track_caller]
fn succeeded(pen: &Pen, before: u32, act: impl FnOnce()) -> u32 {
    let counted = counts(&pen.status());
    act();
    let (pid, status) = await_that("a successor answers", || {
        let ended = pen.run(&["--json", "status"]);
        match serde_json::from_str::<StatusDocument>(&ended.stdout) {
            Ok(status) if status.controller.pid != before => Ok((status.controller.pid, status)),
            _ => Err(format!("{ended:?}; log: {}", pen.log())),
        }
    });
    let counts = counts(&status);
    for (what, count) in &counted {
        assert!(counts.get(what).is_none_or(|now| now >= count), "{what} went back: {counted:?}; {counts:?}");
    }
    pid
}

/// Whose the state and the sockets are, and who may do what with them.
fn rights(pen: &Pen) -> Vec<(u32, u32, u32)> {
    let handover = pen.path("pen.sock.handover");
    let paths = [pen.socket(), handover, pen.state(), pen.state().join("state.json")];
    let of = |path: std::path::PathBuf| {
        let found = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (found.uid(), found.gid(), found.mode())
    };
    paths.into_iter().map(of).collect()
}

#[test]
fn several_successors_in_a_row_cost_nobody_anything() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, mut all) = start(&mut pen, &text);
    let load = Load::of(clients(&pen));
    let longs: Vec<Long> = (90..94).map(|host| Long::begin(pen.ip(host).into(), web(&pen))).collect();
    let had = rights(&pen);
    let mut pids = vec![first];
    for _ in 0..2 {
        let before = *pids.last().unwrap();
        pids.push(succeeded(&pen, before, || signal(before, Signal::USR2)));
        load.await_answers(4);
        assert_eq!(rights(&pen), had);
    }
    // With another file: it is applied, and nobody who is remembered moves.
    all.push(servers(&pen, 4));
    let file = pen.write("other.toml", &configuration(&pen, &[(1, 1), (2, 2), (3, 1), (4, 3)], ""));
    let counted = counts(&pen.status());
    let taken = pen.spawn(&format!("--take-over -c {file}"), |_| {});
    pen.await_controller(taken);
    let now = counts(&pen.status());
    assert!(counted.iter().all(|(what, count)| now[what] >= *count), "{counted:?}; {now:?}");
    pids.push(taken);
    await_all(&pen, &[1, 2, 3, 4]);
    load.await_answers(4);
    pids.push(succeeded(&pen, taken, || signal(taken, Signal::USR2)));
    load.await_answers(4);
    assert_eq!(rights(&pen), had);
    // What is open goes on where it is, in the very first process, which ends with it.
    assert!(runs(first));
    longs.iter().for_each(Long::await_more);
    assert!(longs.into_iter().all(|long| long.end() > 0));
    load.end().assert_undisturbed("four successors in a row");
    let last = pids.pop().unwrap();
    pids.into_iter().for_each(|pid| pen.await_end(pid));
    assert_eq!(pen.pid(), last);
    assert!(pen.ended(first).success() && pen.ended(taken).success());
    pen.ok("stop");
    pen.await_end(last);
}

/// Where turns, and not hashes, say who gets a newcomer, only memory brings a client back.
#[test]
fn clients_who_come_in_the_midst_of_a_restart_are_remembered_too() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "scheduler = \"round-robin\"");
    let (mut pid, _all) = start(&mut pen, &text);
    let vip = web(&pen);
    let ask = |pen: &Pen, host: u8| name(&mut connect_from(pen.ip(host).into(), vip).unwrap()).unwrap();
    for _ in 0..3 {
        pen.ok("client forget --all");
        let came = std::thread::scope(|scope| {
            let pen = &pen;
            let coming = scope.spawn(move || {
                (10..190)
                    .map(|host| {
                        std::thread::sleep(std::time::Duration::from_millis(4));
                        (host, ask(pen, host))
                    })
                    .collect::<Vec<_>>()
            });
            pid = succeeded(pen, pid, || signal(pid, Signal::USR2));
            coming.join().unwrap()
        });
        let moved: Vec<_> = came.iter().filter(|(host, was)| ask(&pen, *host) != *was).collect();
        assert!(moved.is_empty(), "{} of {} moved: {moved:?}", moved.len(), came.len());
    }
}

#[test]
fn a_unix_socket_is_handed_over_with_its_path() {
    let mut pen = Pen::new();
    let path = pen.path("app.sock");
    let server = crate::servers::Server::tcp(1, backend(&pen, 1));
    let pid = pen.start("--dataplane proxy");
    pen.ok(&format!("service add app {}", path.display()));
    pen.ok(&format!("backend add app {}", server.address));
    pen.await_serving("app", &[server.address]);
    let ask = || {
        use std::io::Read;
        let mut name = [0];
        std::os::unix::net::UnixStream::connect(&path).and_then(|mut one| one.read_exact(&mut name)).is_ok()
    };
    assert!(ask());
    let inode = std::fs::metadata(&path).unwrap().ino();
    let next = succeeded(&pen, pid, || signal(pid, Signal::USR2));
    pen.await_end(pid);
    assert!(ask());
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode, "the very same socket");
    pen.ok("stop");
    pen.await_end(next);
    assert!(!path.exists());
}

#[test]
fn a_file_of_the_successors_may_open_and_close_services() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    let long = Long::begin(pen.ip(9).into(), web(&pen));
    let moved = text.replace(&web(&pen).to_string(), &pen.at(2, 8080).to_string());
    let file = pen.write("moved.toml", &moved);
    let next = pen.spawn(&format!("--take-over -c {file}"), |_| {});
    pen.await_controller(next);
    await_all(&pen, &[1, 2, 3]);
    eventually("it is open there", || connect_from(pen.ip(9).into(), pen.at(2, 8080)).is_ok());
    eventually("and closed here", || connect_from(pen.ip(9).into(), web(&pen)).is_err());
    long.await_more();
    assert!(long.end() > 0);
    pen.await_end(first);
}

/// It goes on for the sake of its connections alone.
#[test]
fn a_predecessor_that_has_connections_holds_no_address() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    let long = Long::begin(pen.ip(9).into(), web(&pen));
    succeeded(&pen, first, || signal(first, Signal::USR2));
    pen.ok("service remove dns");
    pen.ok("service remove web");
    eventually("others may have the UDP port", || std::net::UdpSocket::bind(dns(&pen)).is_ok());
    eventually("others may have the TCP port", || std::net::TcpListener::bind(web(&pen)).is_ok());
    assert!(runs(first));
    long.await_more();
    assert!(long.end() > 0);
    pen.await_end(first);
}
