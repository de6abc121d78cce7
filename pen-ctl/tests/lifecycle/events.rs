//! Following the events of a real controller: over a backend's going and coming, and from one controller to the next.

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Stdio};

use pen_ctl::api::event::{EventDocument, EventList, Kind};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{INTERFACE, Machine, Pen, machine_up, needs_met, sh, start};

/// `pen-ctl events --follow`, read line by line.
struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(pen: &Pen<'_>, words: &[&str]) -> Follower {
        let words = [&["events", "--follow"], words].concat();
        let mut child = pen.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("the follower ended").unwrap()
    }

    /// The next event of that kind; there is one, or this waits for ever.
    fn next(&mut self, kind: Kind) -> EventDocument {
        loop {
            let event: EventDocument = serde_json::from_str(&self.line()).unwrap();
            if event.kind == kind {
                return event;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server inside the machine.
fn listen(machine: &Machine, address: &str) -> TcpListener {
    let namespace = std::fs::File::open(format!("/run/netns/{}", machine.namespace)).unwrap();
    let address = address.to_owned();
    let bind = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        TcpListener::bind(address).unwrap()
    };
    std::thread::spawn(bind).join().unwrap()
}

#[test]
fn a_follower_hears_of_health_and_of_the_next_controller_and_ends_by_ctrl_c() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);
    let mut web = Follower::start(&pen, &["--json", "--service", "web"]);
    pen.ok(&[
        "service",
        "add",
        "web",
        "10.77.0.100:80/tcp",
        "--health",
        "tcp,port=8080,interval=20ms,rise=1,fall=1",
    ]);
    assert_eq!(web.next(Kind::Change).user, Some(rustix::process::geteuid().as_raw()));
    pen.ok(&["backend", "add", "web", "10.77.0.1"]);
    let down = web.next(Kind::Health);
    assert!(down.message.starts_with("down (was unknown): "), "{down:?}");
    assert!(web.next(Kind::NotServing).message.contains("connection refused"));
    let server = listen(&machine, "10.77.0.1:8080");
    let serving = web.next(Kind::Serving);
    assert_eq!(serving.backend, Some("10.77.0.1".parse().unwrap()));

    // The next controller is another, and heard without a word from us.
    pen.ok(&["stop"]);
    start(&pen, &[]);
    drop(server);
    let down = web.next(Kind::Health);
    assert!(down.message.starts_with("down (was up): "), "{down:?}");
    assert!(down.id < serving.id, "ids begin anew");

    // The same as a document, and as text for people.
    let list: EventList =
        serde_json::from_str(&pen.ok(&["--json", "events", "--kind", "started"]).stdout).unwrap();
    assert!(
        list.events.iter().any(|event| event.message.starts_with("adopted the XDP data plane")),
        "{list:?}"
    );
    let text = pen.ok(&["events"]).stdout;
    let refused = "  web 10.77.0.1: health check failed: connection refused";
    assert!(text.lines().any(|line| line.contains("  not_serving  ") && line.ends_with(refused)), "{text}");

    let mut all = Follower::start(&pen, &[]);
    while !all.line().ends_with(refused) {}
    pen.ok(&["detach", INTERFACE]);
    while !all.line().contains(&format!("  {INTERFACE}: detached")) {}
    for mut follower in [web, all] {
        sh("kill", &["-INT", &follower.child.id().to_string()]);
        assert!(follower.child.wait().unwrap().success(), "Ctrl-C is how one ends it");
    }
}

#[test]
fn a_follower_ends_when_nobody_reads_it_any_more() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    machine_up(&pen);
    let mut command = pen.command(&["events", "--follow"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    // As `| head -1` does.
    BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
}
