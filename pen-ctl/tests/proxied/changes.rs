//! Changes at run time under a steady load: nobody who has a connection loses it, nobody who comes is turned away.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::load::{Client, Load, Record, Way};
use crate::long::Long;
use crate::place::{Pen, signal};
use crate::servers::connect_from;
use crate::setting::{await_all, backend, clients, configuration, servers, start, web};

/// Does something; then nobody has lost anything, and only those moved who may.
#[track_caller]
fn step(what: &str, load: &Load, may_move: impl Fn(&Client, &Record) -> bool, act: impl FnOnce()) {
    let before = load.ledger();
    act();
    load.await_answers(4);
    let after = load.ledger();
    assert_nobody_lost(what, &after);
    for (client, record) in &after {
        let was = &before[client];
        assert!(record.by == was.by || may_move(client, was), "{what}: {client:?}: {was:?}: {record:?}");
    }
}

#[track_caller]
fn assert_nobody_lost(what: &str, ledger: &BTreeMap<Client, Record>) {
    for (client, record) in ledger {
        assert_eq!(record.failed, [""; 0], "{what}: {client:?}");
        assert!(client.0 != Way::Kept || record.opened == 1, "{what}: {client:?}: {record:?}");
    }
}

fn nobody(_: &Client, _: &Record) -> bool {
    false
}

/// Who was there last and does not go on where it is by itself.
fn those_of(number: u8) -> impl Fn(&Client, &Record) -> bool {
    move |client, was| client.0 != Way::Kept && was.by.last() == Some(&number)
}

#[test]
fn states_removals_and_additions_cost_nobody_anything() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (_, mut all) = start(&mut pen, &text);
    let both = |words: &str| {
        for service in ["web", "dns"] {
            pen.ok(&words.replace("SERVICE", service));
        }
    };
    let at = |number| backend(&pen, number);
    let load = Load::of(clients(&pen));
    let long = Long::begin(pen.ip(90).into(), web(&pen));
    step("drain", &load, nobody, || {
        both(&format!("backend set SERVICE {} --state drain", at(1)));
        await_all(&pen, &[2, 3]);
        for host in 100..120 {
            let mut stream = connect_from(pen.ip(host).into(), web(&pen)).unwrap();
            assert_ne!(crate::servers::name(&mut stream).unwrap(), 1, "a newcomer came to whom drains");
        }
    });
    step("up again", &load, nobody, || {
        both(&format!("backend set SERVICE {} --state up", at(1)));
        await_all(&pen, &[1, 2, 3]);
    });
    // Established connections go on by default; whoever comes anew goes to another.
    step("down", &load, those_of(1), || {
        both(&format!("backend set SERVICE {} --state down", at(1)));
        await_all(&pen, &[2, 3]);
    });
    step("up after down", &load, nobody, || {
        both(&format!("backend set SERVICE {} --state up", at(1)));
        await_all(&pen, &[1, 2, 3]);
    });
    step("a fourth", &load, nobody, || {
        all.push(servers(&pen, 4));
        both(&format!("backend add SERVICE {}", at(4)));
        await_all(&pen, &[1, 2, 3, 4]);
    });
    step("removed", &load, those_of(2), || {
        both(&format!("backend remove SERVICE {}", at(2)));
        await_all(&pen, &[1, 3, 4]);
    });
    step("removed after a drain", &load, those_of(3), || {
        both(&format!("backend remove SERVICE {} --drain 2s", at(3)));
        await_all(&pen, &[1, 4]);
        let shown = pen.status();
        let gone =
            |one: &pen_ctl::api::document::BackendDocument| one.address.to_string() != at(3).to_string();
        assert!(shown.services.iter().flat_map(|one| &one.backends).all(gone), "{shown:?}");
    });
    long.await_more();
    assert!(long.end() > 0);
    let seen = load.end();
    assert_eq!(seen.failures(), []);
    seen.say("states, removals, additions");
}

#[test]
fn settings_files_and_states_from_before_cost_nobody_anything() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (pid, mut all) = start(&mut pen, &text);
    let load = Load::of(clients(&pen));
    for words in
        ["--scheduler round-robin", "--idle-timeout 5m", "--connect-timeout 1s", "--max-connections 50000"]
    {
        step(words, &load, nobody, || {
            for service in ["web", "dns"] {
                pen.ok(&format!("service set {service} {words}"));
            }
        });
    }
    step("least-connections", &load, nobody, || _ = pen.ok("service set web --scheduler least-connections"));
    all.push(servers(&pen, 4));
    step("apply", &load, nobody, || {
        let file = pen.write("other.toml", &configuration(&pen, &[(1, 3), (2, 1), (3, 2), (4, 1)], ""));
        pen.ok(&format!("apply {file}"));
        await_all(&pen, &[1, 2, 3, 4]);
    });
    step("SIGHUP", &load, those_of(4), || {
        let from = pen.log().len();
        pen.write("pen.toml", &configuration(&pen, &[(1, 1), (2, 5), (3, 1)], "on_down = \"close\""));
        signal(pid, Signal::HUP);
        pen.await_log(from, "applied");
        await_all(&pen, &[1, 2, 3]);
    });
    step("history restore", &load, nobody, || {
        let listed = pen.ok("--json history");
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let before = listed["states"][1]["number"].as_u64().unwrap_or_else(|| panic!("{listed}"));
        pen.ok(&format!("history restore {before}"));
        await_all(&pen, &[1, 2, 3, 4]);
    });
    load.end().say("settings, files, states from before");
    assert_eq!(pen.pid(), pid);
}

#[test]
fn with_close_the_connections_of_whom_is_down_end_and_no_others() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "on_down = \"close\"");
    let (_, all) = start(&mut pen, &text);
    let begin =
        || -> Vec<Long> { (10..40).map(|host| Long::begin(pen.ip(host).into(), web(&pen))).collect() };
    let (theirs, others): (Vec<_>, Vec<_>) = begin().into_iter().partition(|long| long.name == 1);
    assert!(!theirs.is_empty() && !others.is_empty());
    // The administrator says so.
    pen.ok(&format!("backend set web {} --state down", backend(&pen, 1)));
    theirs.into_iter().for_each(Long::await_loss);
    others.iter().for_each(Long::await_more);
    // A drain is no end.
    pen.ok(&format!("backend set web {} --state drain", backend(&pen, 2)));
    others.iter().for_each(Long::await_more);
    // The check says so: it still has its connections, but takes none.
    let (theirs, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|long| long.name == 3);
    all[2][0].stop_listening();
    theirs.into_iter().for_each(Long::await_loss);
    others.iter().for_each(Long::await_more);
    others.into_iter().for_each(|long| assert!(long.end() > 0));
}

/// The port is another's: the service waits, says why, and the others go on.
#[test]
fn a_file_whose_address_is_taken_leaves_everything_else_as_it_is() {
    let mut pen = Pen::new();
    let text = configuration(&pen, &[(1, 1), (2, 1), (3, 1)], "");
    let (_, _all) = start(&mut pen, &text);
    let load = Load::of(clients(&pen));
    let taken = std::net::TcpListener::bind(pen.at(2, 8080)).unwrap();
    step("a service whose address is taken", &load, nobody, || {
        let more = format!("{text}[[service]]\nname = \"other\"\nvip = \"{}/tcp\"\n", pen.at(2, 8080));
        let file =
            pen.write("more.toml", &format!("{more}backend = [{{ address = \"{}\" }}]\n", backend(&pen, 1)));
        let ended = pen.run(&["apply", &file]);
        let said = format!("{}{}", ended.stdout, ended.stderr) + &pen.ok("status");
        assert!(said.contains("another process listens there"), "{said}");
    });
    drop(taken);
    pen.await_serving("other", &[backend(&pen, 1)]);
    crate::place::eventually("it is open now", || connect_from(pen.ip(9).into(), pen.at(2, 8080)).is_ok());
    load.end().assert_undisturbed("an address that was taken");
}
