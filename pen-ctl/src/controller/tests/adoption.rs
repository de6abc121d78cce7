//! A new controller takes over what the last one left, and disturbs nothing.

use super::*;
use crate::state::desired::AdminState;

#[test]
fn nothing_is_touched_before_the_interfaces_are_known() {
    let mut bench = Bench::with_web();
    bench.start(Options::default());
    bench.operations();
    bench.controller().reconcile();
    bench.controller().tick();
    assert!(!bench.controller().started());
    assert_eq!(bench.operations(), []);
}

#[test]
fn a_restart_changes_nothing_until_something_else_is_seen() {
    let mut bench = Bench::with_web();
    bench.hear([health(12, HealthStatus::Down)]);
    let since = bench.status().services[0].backends[1].since.clone();
    bench.clock.0.store(60_000, Ordering::Relaxed);
    bench.start(Options::default());
    bench.operations();
    bench.hear([Event::Links(links())]);
    bench.controller().tick();
    assert_eq!(bench.operations(), [], "neither ways nor health nor tables");
    assert_eq!(bench.members(), [11]);
    let backend = bench.status().services[0].backends[1].clone();
    assert_eq!((backend.health.status, backend.since), (HealthStatus::Down, since));
    let initial: Vec<_> = bench.asked.0.lock().unwrap().probes.iter().map(|probe| probe.initial).collect();
    assert_eq!(
        initial,
        [HealthStatus::Up, HealthStatus::Down],
        "rise and fall count from the adopted verdict"
    );

    bench.hear([found(11), found(12), health(12, HealthStatus::Up)]);
    assert_eq!(bench.members(), [11, 12]);
}

#[test]
fn a_changed_mac_is_followed_after_a_restart_too() {
    let mut bench = Bench::with_web();
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    bench.operations();
    let resolution = Resolution::OnLink { mac: Mac([6; 6]), ifindex: 2 };
    bench.hear([Event::Neighbor { address: ip(11), resolution }]);
    assert!(matches!(bench.operations()[..], [Operation::SetBackend { .. }]), "the table stays");
    assert_eq!(bench.status().services[0].backends[0].mac, Some(Mac([6; 6])));
}

#[test]
fn drain_survives_a_restart() {
    let mut bench = Bench::with_web();
    bench.done(set_backend(11, BackendSpec { state: Some(AdminState::Drain), ..BackendSpec::default() }));
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    assert_eq!((bench.members(), bench.reason(11)), (vec![12], "draining".into()));
}

#[test]
fn after_a_reboot_everything_is_built_again_from_the_state() {
    let mut bench = Bench::with_web();
    bench.plane = FakePlane::default();
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    assert!(bench.plane.lock().observed.interfaces["eth0"].attached);
    assert_eq!(bench.members(), [] as [u8; 0], "health is unknown");
    bench.hear([found(11), found(12), health(11, HealthStatus::Up), health(12, HealthStatus::Up)]);
    assert_eq!(bench.members(), [11, 12]);
}

#[test]
fn what_someone_else_changed_is_repaired() {
    let mut bench = Bench::with_web();
    let before = bench.plane.lock().observed.clone();
    {
        let mut inner = bench.plane.lock();
        inner.observed.interfaces.get_mut("eth0").unwrap().attached = false;
        inner.observed.services.get_mut(&vip()).unwrap().members = None;
        inner.observed.services.insert("10.9.9.9:1/tcp".parse().unwrap(), before.services[&vip()].clone());
    }
    bench.controller().tick();
    assert_eq!(bench.plane.lock().observed, before);
}

#[test]
fn stop_leaves_forwarding_on_and_detach_is_undone_by_the_next_run() {
    let mut bench = Bench::with_web();
    let before = bench.plane.lock().observed.clone();
    bench.done(Request::Stop { detach: false });
    bench.controller().tick();
    assert!(bench.controller().ended());
    assert_eq!(bench.plane.lock().observed, before);

    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    bench.done(Request::Stop { detach: true });
    bench.controller().tick();
    assert!(bench.plane.lock().observed.interfaces.is_empty());
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    assert_eq!(bench.plane.lock().observed, before);
}
