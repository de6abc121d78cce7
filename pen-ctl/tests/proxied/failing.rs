//! Successors that fail: whoever was there goes on, with everything.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::load::{Client, Load, Record, Way};
use crate::place::{Pen, await_that, signal};
use crate::setting::{await_all, backend, clients, configuration, start};

/// It can be changed and looked at again.
#[track_caller]
fn await_control(pen: &Pen, what: &str) -> u32 {
    await_that(what, || {
        let ended = pen.run(&["--json", "status"]);
        if ended.status == Some(0) { Ok(()) } else { Err(format!("{ended:?}; log: {}", pen.log())) }
    });
    pen.ok(&format!("backend set web {} --weight 2", backend(pen, 1)));
    pen.ok(&format!("backend set web {} --weight 1", backend(pen, 1)));
    pen.pid()
}

#[test]
fn a_successor_that_fails_leaves_clients_and_control_where_they_were() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    let load = Load::of(clients(&pen));
    // It cannot have the address where everybody may look.
    let busy = TcpListener::bind(pen.at(3, 9080)).unwrap();
    let failed = pen.spawn(&format!("--take-over --http {}", pen.at(3, 9080)), |_| {});
    assert_eq!(pen.ended(failed).code(), Some(1), "{}", pen.log());
    drop(busy);
    assert_eq!(await_control(&pen, "the first one answers again"), first);
    load.await_answers(4);
    // It is killed in the midst, at whatever moment, until one has taken over before it was killed.
    let has_handed_over = |pen: &Pen| pen.log().contains("accepting nobody new");
    let mut killed = 0;
    for moment in (0..100).step_by(5) {
        let failed = pen.spawn("--take-over", |_| {});
        thread::sleep(Duration::from_millis(moment));
        signal(failed, Signal::KILL);
        pen.ended(failed);
        // What it had said of itself takes its way.
        thread::sleep(Duration::from_millis(100));
        if has_handed_over(&pen) {
            break;
        }
        killed += 1;
        assert_eq!(await_control(&pen, "the first one answers again"), first);
        load.await_answers(1);
        assert!(disturbed(&load).is_empty(), "{:?}", disturbed(&load));
    }
    assert!(killed > 0);
    if !has_handed_over(&pen) {
        // One that does not fail takes over all the same.
        let next = pen.spawn("--take-over", |_| {});
        pen.await_controller(next);
        await_all(&pen, &[1, 2, 3]);
        load.await_answers(4);
        load.end().assert_undisturbed("successors that failed");
    }
}

/// Who lost anything or was moved.
fn disturbed(load: &Load) -> Vec<(Client, Record)> {
    let is = |(client, record): &(Client, Record)| {
        !record.failed.is_empty() || record.by.len() > 1 || client.0 == Way::Kept && record.opened > 1
    };
    load.ledger().into_iter().filter(is).collect()
}

/// As with any start: the stored state stands, and the log says so.
#[test]
fn a_wrong_file_of_a_successors_is_not_applied() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (_, _all) = start(&mut pen, &text);
    let load = Load::of(clients(&pen));
    let wrong = pen.write("wrong.toml", "dataplane = \"proxy\"\n[[service]]\nname = 7\n");
    let next = pen.spawn(&format!("--take-over -c {wrong}"), |_| {});
    pen.await_controller(next);
    assert!(pen.log().contains("it is not applied: the stored state stands"), "{}", pen.log());
    load.await_answers(4);
    load.end().assert_undisturbed("a successor with a wrong file");
}

#[test]
fn one_that_hangs_does_not_keep_its_predecessor_from_ending() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (first, _all) = start(&mut pen, &text);
    // Says hello as a successor does (four bytes of length before it), and then nothing.
    let mut hangs = UnixStream::connect(pen.path("pen.sock.handover")).unwrap();
    hangs.write_all(b"\0\0\0\x0c{\"format\":1}").unwrap();
    await_that("the controller has ended for it", || {
        if pen.run(&["status"]).status == Some(3) { Ok(()) } else { Err(pen.log()) }
    });
    signal(first, Signal::TERM);
    assert_eq!(pen.ended(first).code(), Some(0), "{}", pen.log());
}

#[test]
fn nobody_is_there_or_somebody_is() {
    let mut pen = Pen::new();
    pen.refused("run --take-over", &["nobody to take over from", "without --take-over"]);
    let first = pen.start("--dataplane proxy");
    pen.refused("run --dataplane proxy", &["already answers", &format!("pid {first}")]);
    // Two at once: one of them takes over, the other ends; somebody is there.
    let both = [pen.spawn("--take-over", |_| {}), pen.spawn("--take-over", |_| {})];
    pen.await_end(first);
    await_that("one of them answers", || {
        let ended = pen.run(&["--json", "status"]);
        if ended.status == Some(0) { Ok(()) } else { Err(format!("{ended:?}; log: {}", pen.log())) }
    });
    assert!(both.contains(&pen.pid()), "{}", pen.log());
}
