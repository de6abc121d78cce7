//! What the controller takes down for metrics.

use super::*;
use crate::dataplane::{RefusedClients, RefusedPackets, Traffic};
use crate::metrics::{Format, Snapshot, render};

fn snapshot(bench: &mut Bench) -> Snapshot {
    match bench.done(Request::Metrics) {
        Reply::Metrics(snapshot) => *snapshot,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_says_how_each_backend_stands_and_how_often_that_changed() {
    let mut bench = Bench::with_web();
    bench.hear([health(12, HealthStatus::Down)]);
    bench.hear([health(12, HealthStatus::Down)]);
    let traffic = Traffic { packets: 5, bytes: 500 };
    bench.plane.lock().counters.backends.insert((vip(), at(11)), traffic);
    let snapshot = snapshot(&mut bench);
    let stands: Vec<_> =
        snapshot.services[0].backends.iter().map(|one| (one.serving, one.health, one.transitions)).collect();
    assert_eq!(stands, [(true, HealthStatus::Up, 1), (false, HealthStatus::Down, 2)]);
    assert_eq!(snapshot.counters.unwrap().backends[&(vip(), at(11))], traffic);
    assert_eq!(snapshot.interfaces[0].name, "eth0");
}

#[test]
fn what_was_refused_is_told_of_services_that_ask_something_of_their_clients_or_did() {
    let mut bench = Bench::with_web();
    let refused = |bench: &mut Bench, packets| {
        let denied = RefusedPackets { packets, newest: None };
        let refused = RefusedClients { denied, ..RefusedClients::default() };
        bench.plane.lock().refused.insert(vip(), refused);
        let document = bench.status().services[0].refused;
        assert_eq!(snapshot(bench).services[0].refused.map(Into::into), document);
        document.map(|refused| refused.denied.packets)
    };
    assert_eq!(refused(&mut bench, 0), None);
    assert_eq!(refused(&mut bench, 7), Some(7));
}

#[test]
fn work_is_measured_and_a_removed_backend_is_counted_no_longer() {
    let mut bench = Bench::with_web();
    bench.done(Request::BackendRemove { service: "web".into(), address: at(12) });
    let snapshot = snapshot(&mut bench);
    assert_eq!(snapshot.services[0].backends.len(), 1);
    let text = render(snapshot, bench.controller().timings(), Format::Text).unwrap();
    let value = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.trim().parse().unwrap()
    };
    assert!(value("pen_controller_reconcile_duration_seconds_count ") >= 5);
    assert!(value("pen_controller_state_write_duration_seconds_count ") >= 5, "every change is made durable");
    assert!(!text.contains("10.0.0.12"), "{text}");
}
