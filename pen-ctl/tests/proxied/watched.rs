//! Under systemd: it is told who is to be watched over, and that whoever that is is alive (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::place::{PATIENCE, Pen, await_that, runs, signal};
use crate::servers::Server;
use crate::setting::backend;

/// What systemd would hear.
struct Systemd(UnixDatagram);

impl Systemd {
    fn new(pen: &Pen) -> Systemd {
        let socket = UnixDatagram::bind(pen.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Systemd(socket)
    }

    /// Waits until it hears that; what it heard before.
    #[track_caller]
    fn hears(&self, what: &str) -> Vec<String> {
        let (start, mut before) = (Instant::now(), Vec::new());
        let mut buffer = [0; 1024];
        while start.elapsed() < PATIENCE {
            let Ok(length) = self.0.recv(&mut buffer) else { continue };
            let heard = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
            if heard.lines().any(|line| line == what) {
                return before;
            }
            before.push(heard);
        }
        panic!("{what} was not heard, but {before:?}");
    }
}

#[test]
fn systemd_is_told_who_is_the_main_process_and_that_it_is_alive() {
    let mut pen = Pen::new();
    let systemd = Systemd::new(&pen);
    let server = Server::tcp(1, backend(&pen, 1));
    let place = pen.path("notify");
    let watched = |command: &mut std::process::Command| {
        command.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "400000");
    };
    let first = pen.spawn("--dataplane proxy", watched);
    systemd.hears("READY=1");
    systemd.hears("WATCHDOG=1");
    pen.ok(&format!("service add web {}/tcp", pen.at(1, 8080)));
    pen.ok(&format!("backend add web {}", server.address));
    pen.await_serving("web", &[server.address]);
    // Its own successor.
    signal(first, Signal::USR2);
    let mut said = systemd.hears("READY=1");
    let next = await_that("the successor answers", || {
        let status = pen.run(&["--json", "status"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        status["controller"]["pid"].as_u64().ok_or(pen.log())
    });
    // In either order.
    let main = format!("MAINPID={next}");
    if !said.contains(&main) {
        said.extend(systemd.hears(&main));
    }
    assert!(!said.contains(&"STOPPING=1".to_owned()), "{said:?}");
    pen.await_end(first);
    systemd.hears("WATCHDOG=1");
    // One that fails, and takes its time: whoever is the main process goes on saying that it is alive.
    let next = u32::try_from(next).unwrap();
    let stuck = pen.spawn("--take-over", |_| {});
    signal(stuck, Signal::STOP);
    for _ in 0..5 {
        systemd.hears("WATCHDOG=1");
    }
    signal(stuck, Signal::KILL);
    pen.ended(stuck);
    pen.await_controller(next);
    for _ in 0..5 {
        systemd.hears("WATCHDOG=1");
    }
    assert!(runs(next));
    pen.ok("stop");
    systemd.hears("STOPPING=1");
}
