//! Panic and slow start as administrators see them: who serves, what is said, and when shares grow.

use super::*;
use crate::api::event::Filter;
use crate::dataplane::BackendTarget;

/// Its weight in the table.
fn weight(bench: &Bench, n: u8) -> Option<u16> {
    let plane = bench.plane.lock();
    let members = plane.observed.services[&vip()].members.clone().unwrap_or_default();
    members.iter().find(|member| member.address == at(n)).map(|member| member.weight)
}

fn change(bench: &mut Bench, keys: &str) {
    let spec: ServiceSpec = toml::from_str(keys).unwrap();
    bench.done(Request::ServiceSet { name: "web".into(), spec });
}

#[test]
fn a_backend_that_comes_back_gets_its_share_little_by_little() {
    let mut bench = Bench::with_web();
    change(&mut bench, "slow_start = '10s'");
    assert_eq!((weight(&bench, 11), weight(&bench, 12)), (Some(64), Some(64)), "nobody has just come back");
    bench.hear([health(12, HealthStatus::Down)]);
    assert_eq!((weight(&bench, 11), weight(&bench, 12)), (Some(64), None));
    bench.hear([health(12, HealthStatus::Up)]);
    assert_eq!((weight(&bench, 11), weight(&bench, 12)), (Some(64), Some(6)));
    let wake = bench.controller().wake_in().unwrap();
    assert!(wake <= Duration::from_secs(1), "it wakes by itself for the next step: {wake:?}");
    bench.clock.0.fetch_add(5000, Ordering::Relaxed);
    bench.controller().reconcile();
    assert_eq!(weight(&bench, 12), Some(38));
    let growing = |bench: &mut Bench| bench.status().services[0].backends[1].growing;
    assert_eq!(growing(&mut bench), Some(60));
    bench.clock.0.fetch_add(5000, Ordering::Relaxed);
    bench.controller().reconcile();
    assert_eq!((weight(&bench, 12), bench.controller().wake_in()), (Some(64), None));
    assert_eq!(growing(&mut bench), None);
}

#[test]
fn panic_is_said_while_it_lasts_and_when_it_is_over() {
    let mut bench = Bench::with_web();
    change(&mut bench, "panic = 60");
    bench.hear([health(12, HealthStatus::Down)]);
    let status = bench.status();
    let panics =
        |status: &StatusDocument| status.warnings.iter().any(|one| one.contains("service web: panic: "));
    assert!(panics(&status), "{:?}", status.warnings);
    assert!(status.services[0].backends.iter().all(|backend| backend.serving && backend.reason.is_none()));
    let usable = |bench: &Bench, n| {
        let BackendTarget { usable, serving, .. } =
            bench.plane.lock().observed.services[&vip()].backends[&at(n)];
        (usable, serving)
    };
    assert_eq!(usable(&bench, 12), (true, true), "it keeps the clients it has");
    bench.hear([health(12, HealthStatus::Up)]);
    assert!(!panics(&bench.status()));
    let events = bench.controller().journal().list(&Filter::default(), None, usize::MAX).events;
    let events: Vec<_> = events.iter().map(|event| event.message.clone()).collect();
    assert!(events.iter().any(|one| one.contains("in panic, although: as told")), "{events:?}");
    assert!(events.iter().any(|one| one.contains("panic is over")), "{events:?}");
}

#[test]
fn whoever_bore_a_whole_share_in_panic_keeps_it_when_its_checks_are_good_again() {
    let mut bench = Bench::with_web();
    change(&mut bench, "slow_start = '10s'\npanic = 60");
    bench.hear([health(12, HealthStatus::Down), health(11, HealthStatus::Down)]);
    assert_eq!((weight(&bench, 11), weight(&bench, 12)), (Some(64), Some(64)), "in panic");
    bench.hear([health(11, HealthStatus::Up), health(12, HealthStatus::Up)]);
    assert_eq!((weight(&bench, 11), weight(&bench, 12)), (Some(64), Some(64)));
    change(&mut bench, "panic = 0");
    bench.hear([health(12, HealthStatus::Down)]);
    bench.hear([health(12, HealthStatus::Up)]);
    assert_eq!(weight(&bench, 12), Some(6), "without panic it was out");
}
