//! Backends removed after a drain: when nobody is left, at the deadline, not at all; over restarts and files.

use super::*;
use crate::api::configuration::How;
use crate::dataplane::clients::{Remembered, Standing};
use crate::state::desired::AdminState;

/// A client of `web` on a backend.
fn client(n: u8, backend: u8, idle: u32) -> Remembered {
    Remembered {
        client: IpAddr::from([192, 0, 2, n]),
        flow: None,
        service: Some(vip()),
        backend: Some(at(backend)),
        idle,
        standing: Standing::Counts,
    }
}

fn drain(n: u8, seconds: u64) -> Request {
    Request::BackendDrain { service: "web".into(), address: at(n), within: Duration::from_secs(seconds) }
}

impl Bench {
    /// Lets time pass in one step, then does what the loop around the controller would.
    fn pass(&mut self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
        self.count();
        self.controller().tick();
    }

    fn count(&mut self) {
        if let Some(census) = self.controller().census_due() {
            let counts = census.take();
            self.controller().counted(counts);
        }
        self.controller().reconcile();
    }

    fn addresses(&mut self) -> Vec<BackendAddress> {
        self.status().services[0].backends.iter().map(|backend| backend.address).collect()
    }

    /// How many are left on .12, and how many seconds.
    fn left(&mut self) -> Option<(Option<u64>, u64)> {
        let status = self.status();
        let found = status.services[0].backends.iter().find(|backend| backend.address == at(12)).unwrap();
        found.drain.as_ref().map(|drain| (drain.clients_left, drain.seconds_left))
    }
}

#[test]
fn a_drained_backend_is_removed_once_nobody_is_left_on_it() {
    let mut bench = Bench::with_web();
    bench.plane.lock().remembered = vec![client(1, 11, 0), client(2, 12, 5), client(3, 12, 500)];
    let reply = serde_json::to_value(bench.done(drain(12, 600))).unwrap();
    assert_eq!((&reply["state"], &reply["drain"]["seconds_left"]), (&"drain".into(), &600.into()));
    assert_eq!((bench.members(), bench.reason(12)), (vec![11], "draining".into()));
    assert_eq!(bench.left(), Some((None, 600)), "not counted yet");

    bench.pass(1);
    assert_eq!(bench.left(), Some((Some(2), 599)));
    let detail = bench.status().services[0].backends[1].drain.clone().unwrap().detail;
    assert_eq!(detail, "2 clients left, 1 of them seen in the last minute");

    bench.plane.lock().remembered.retain(|one| one.backend == Some(at(11)));
    bench.pass(1);
    assert_eq!(bench.addresses(), [at(11)]);
    assert!(!bench.plane.lock().observed.services[&vip()].backends.contains_key(&at(12)));
    assert!(!bench.state().contains("remove_at"), "{}", bench.state());
}

#[test]
fn at_the_deadline_it_is_removed_whoever_is_left() {
    let mut bench = Bench::with_web();
    bench.plane.lock().remembered = vec![client(1, 12, 0)];
    bench.done(drain(12, 600));
    bench.pass(599);
    assert_eq!(bench.left(), Some((Some(1), 1)));
    bench.pass(1);
    assert_eq!(bench.addresses(), [at(11)]);
}

#[test]
fn a_calendar_that_is_set_neither_hastens_nor_delays_the_end_of_a_drain() {
    for step in [3600, -3600] {
        let mut bench = Bench::with_web();
        bench.plane.lock().remembered = vec![client(1, 12, 0)];
        bench.done(drain(12, 600));
        bench.clock.1.store(step, Ordering::Relaxed);
        bench.pass(599);
        assert_eq!((bench.left(), bench.addresses().len()), (Some((Some(1), 1)), 2), "{step}");
        bench.pass(1);
        assert_eq!(bench.addresses(), [at(11)], "{step}");
    }
}

#[test]
fn the_controller_wakes_for_the_next_count_and_for_the_deadline() {
    let mut bench = Bench::with_web();
    assert_eq!(bench.controller().wake_in(), None);
    bench.plane.lock().remembered = vec![client(1, 12, 0)];
    bench.done(drain(12, 600));
    assert_eq!(bench.controller().wake_in(), Some(Duration::from_secs(1)), "the first count");
    assert!(bench.controller().census_due().is_none(), "newcomers may still be on their way to it");
    bench.clock.0.fetch_add(1000, Ordering::Relaxed);
    let census = bench.controller().census_due().unwrap();
    assert_eq!(bench.controller().wake_in(), Some(Duration::from_secs(599)), "one count at a time");
    assert!(bench.controller().census_due().is_none());
    // A count that takes long makes the next one wait: the share of time stays small.
    bench.clock.0.fetch_add(2000, Ordering::Relaxed);
    bench.controller().counted(census.take());
    assert_eq!(bench.controller().wake_in(), Some(Duration::from_secs(40)));
}

#[test]
fn the_deadline_survives_the_controller_and_is_honoured_by_the_next() {
    let mut bench = Bench::with_web();
    bench.plane.lock().remembered = vec![client(1, 12, 0)];
    bench.done(drain(12, 600));
    bench.clock.0.fetch_add(500_000, Ordering::Relaxed);
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    assert_eq!(bench.left(), Some((None, 100)), "it goes on");
    assert_eq!(bench.members(), [11]);

    bench.clock.0.fetch_add(200_000, Ordering::Relaxed);
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    assert_eq!(bench.addresses(), [at(11)], "the deadline passed while no controller ran");
}

#[test]
fn naming_a_state_takes_it_back() {
    for state in [AdminState::Up, AdminState::Drain] {
        let mut bench = Bench::with_web();
        bench.done(drain(12, 600));
        bench.done(set_backend(12, BackendSpec { state: Some(state), ..BackendSpec::default() }));
        assert_eq!(bench.left(), None);
        bench.pass(1000);
        assert_eq!(bench.addresses(), [at(11), at(12)]);
        assert_eq!(bench.members().len(), if state == AdminState::Up { 2 } else { 1 });
    }
}

#[test]
fn a_count_from_before_it_was_taken_back_and_drained_anew_does_not_end_it() {
    let mut bench = Bench::with_web();
    bench.done(drain(12, 600));
    bench.clock.0.fetch_add(1000, Ordering::Relaxed);
    let census = bench.controller().census_due().unwrap();
    let nobody = census.take();
    bench.done(set_backend(12, BackendSpec { state: Some(AdminState::Up), ..BackendSpec::default() }));
    bench.plane.lock().remembered = vec![client(1, 12, 0)];
    bench.clock.0.fetch_add(1000, Ordering::Relaxed);
    bench.done(drain(12, 600));
    bench.controller().counted(nobody);
    bench.controller().reconcile();
    assert_eq!(bench.left(), Some((None, 600)));
}

#[test]
fn a_file_keeps_a_drain_unless_it_says_another_state() {
    let file = |state: &str| Request::Apply {
        how: How::default(),
        file: "pen.toml".into(),
        text: format!(
            "[[service]]\nname = 'web'\nvip = '10.0.0.100:80/tcp'\n\
             backend = [{{ address = '10.0.0.11' }}, {{ address = '10.0.0.12'{state} }}]"
        ),
    };
    let mut bench = Bench::with_web();
    bench.plane.lock().remembered = vec![client(1, 12, 0)];
    bench.done(drain(12, 600));
    bench.done(file(""));
    assert_eq!(bench.left(), Some((None, 600)));
    bench.done(file(", state = 'drain'"));
    assert_eq!(bench.left(), Some((None, 600)));
    let Reply::Config(exported) = bench.done(Request::Export) else { panic!("no export") };
    let kept = bench.state();
    let (text, how) = (exported.toml, How::default());
    bench.done(Request::Apply { file: "pen.toml".into(), text, how });
    let services = |state: &str| serde_json::from_str::<serde_json::Value>(state).unwrap()["desired"].clone();
    assert_eq!(services(&bench.state()), services(&kept));
    bench.done(file(", state = 'up'"));
    assert_eq!(bench.left(), None);
    assert_eq!(bench.members(), [11, 12]);
}

#[test]
fn where_nobody_is_remembered_the_deadline_alone_decides() {
    let mut bench = Bench::with_web();
    let spec = ServiceSpec { affinity: Some(dataplane::Affinity::None), ..ServiceSpec::default() };
    bench.done(Request::ServiceSet { name: "web".into(), spec });
    bench.done(drain(12, 600));
    bench.pass(5);
    assert_eq!(bench.left(), Some((None, 595)));
    let detail = bench.status().services[0].backends[1].drain.clone().unwrap().detail;
    assert!(detail.contains("nobody is remembered"), "{detail}");
    bench.pass(595);
    assert_eq!(bench.addresses(), [at(11)]);
}

#[test]
fn clients_of_a_backend_that_is_down_for_a_moment_are_still_waited_for() {
    let mut bench = Bench::with_web();
    bench.plane.lock().remembered = vec![Remembered { standing: Standing::BackendDown, ..client(1, 12, 0) }];
    bench.done(drain(12, 600));
    bench.hear([health(12, HealthStatus::Down)]);
    bench.pass(2);
    assert_eq!(bench.left(), Some((Some(1), 598)));
}

#[test]
fn where_counting_fails_that_is_said_and_nobody_is_taken_for_gone() {
    let mut bench = Bench::with_web();
    bench.done(drain(12, 600));
    bench.clock.0.fetch_add(1000, Ordering::Relaxed);
    let _ = bench.controller().census_due().unwrap();
    let (what, why) = ("read the tracking tables".to_owned(), "out of memory".to_owned());
    bench.controller().counted(Err(DataPlaneError { what, why, hint: String::new() }));
    bench.controller().reconcile();
    assert_eq!(bench.left(), Some((None, 599)));
    let detail = bench.status().services[0].backends[1].drain.clone().unwrap().detail;
    assert!(detail.contains("out of memory"), "{detail}");
    bench.pass(20);
    assert_eq!(bench.addresses(), [at(11)], "the next count found nobody");
}

#[test]
fn a_drain_that_makes_no_sense_is_refused() {
    let mut bench = Bench::with_web();
    bench.refused(drain(13, 600), "has no backend 10.0.0.13");
    bench.refused(drain(12, 0), "a drain of no time");
    bench.refused(drain(12, 400 * 86_400), "too long");
    bench.done(set_backend(12, BackendSpec { state: Some(AdminState::Down), ..BackendSpec::default() }));
    bench.refused(drain(12, 600), "it is down");
}
