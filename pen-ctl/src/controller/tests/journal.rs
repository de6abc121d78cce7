//! What the controller notes of what happens.

use super::*;
use crate::api::configuration::How;
use crate::api::event::{EventDocument, Filter, Kind};

/// What was noted since the last look: kind, what it is about, message.
fn noted(bench: &mut Bench, since: &mut u64) -> Vec<String> {
    let after = since.to_string().parse().unwrap();
    let list = bench.controller().journal().list(&Filter::default(), Some(&after), usize::MAX);
    *since = list.events.last().map_or(*since, |event| event.id);
    list.events.iter().map(line).collect()
}

fn line(event: &EventDocument) -> String {
    let EventDocument { kind, message, service, backend, interface, .. } = event;
    let about = [service.clone(), backend.map(|address| address.to_string()), interface.clone()];
    let about: Vec<String> = about.into_iter().flatten().collect();
    format!("{kind} [{}] {message}", about.join(" "))
}

#[test]
fn a_backend_that_goes_and_comes_back_is_told_with_the_reason() {
    let mut bench = Bench::with_web();
    let mut since = 0;
    noted(&mut bench, &mut since);
    bench.hear([health(12, HealthStatus::Down)]);
    assert_eq!(
        noted(&mut bench, &mut since),
        [
            "health [web 10.0.0.12] down (was up): as told",
            "not_serving [web 10.0.0.12] health check failed: as told"
        ]
    );
    bench.hear([health(12, HealthStatus::Down)]);
    bench.controller().tick();
    assert!(noted(&mut bench, &mut since).is_empty(), "no news");
    bench.hear([health(12, HealthStatus::Up)]);
    assert_eq!(
        noted(&mut bench, &mut since),
        ["health [web 10.0.0.12] up (was down): as told", "serving [web 10.0.0.12] as told"]
    );
}

/// The same verdict with another reason, as a server's that says the time in each answer.
fn down(n: u8, detail: String) -> Event {
    let Event::Health { key, address, status, ground, advice, .. } = health(n, HealthStatus::Down) else {
        unreachable!()
    };
    Event::Health { key, address, status, detail, ground, advice }
}

/// What was told of whether backends serve since then, and whether it was a change.
fn served(bench: &mut Bench, since: &mut u64) -> Vec<(Kind, Option<bool>)> {
    let after = since.to_string().parse().unwrap();
    let kinds = [Kind::Serving, Kind::NotServing].into();
    let filter = Filter { service: None, kinds };
    let list = bench.controller().journal().list(&filter, Some(&after), usize::MAX);
    *since = list.events.last().map_or(*since, |event| event.id);
    list.events.iter().map(|event| (event.kind, event.changed)).collect()
}

#[test]
fn that_only_the_reason_is_another_is_told_apart_from_a_change() {
    let mut bench = Bench::with_web();
    let mut since = 0;
    served(&mut bench, &mut since);
    bench.hear([health(12, HealthStatus::Down)]);
    bench.hear([down(12, "connection refused".into())]);
    bench.hear([health(12, HealthStatus::Up)]);
    let (gone, back) = ((Kind::NotServing, Some(true)), (Kind::Serving, Some(true)));
    assert_eq!(served(&mut bench, &mut since), [gone, (Kind::NotServing, Some(false)), back]);
    bench.done(Request::ServiceSet { name: "web".into(), spec: toml::from_str("panic = 60").unwrap() });
    bench.hear([health(12, HealthStatus::Down)]);
    assert_eq!(served(&mut bench, &mut since), [(Kind::Serving, Some(false))], "it serves on, in panic");
}

#[test]
fn the_first_that_is_known_of_a_new_backend_is_a_change_and_of_an_adopted_one_is_not() {
    let mut bench = Bench::with_web();
    let mut since = 0;
    served(&mut bench, &mut since);
    bench.done(add_backend("web", 13));
    bench.hear([found(13)]);
    let waits = (Kind::NotServing, Some(false));
    assert_eq!(served(&mut bench, &mut since), [waits, waits], "for its MAC, for its first check");
    bench.hear([health(13, HealthStatus::Down)]);
    assert_eq!(served(&mut bench, &mut since), [(Kind::NotServing, Some(true))], "it never came up");
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    assert_eq!(served(&mut bench, &mut 0), [waits], "it is down as it was");
}

#[test]
fn reasons_that_differ_at_each_check_are_told_a_few_times_and_again_a_minute_later() {
    let mut bench = Bench::with_web();
    let mut since = 0;
    bench.hear([health(12, HealthStatus::Down)]);
    noted(&mut bench, &mut since);
    for number in 0..100 {
        bench.hear([down(12, format!("SMTP 421 busy {number}"))]);
    }
    let told = noted(&mut bench, &mut since);
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(bench.reason(12), "health check failed: SMTP 421 busy 99", "status knows the latest");
    bench.hear([health(12, HealthStatus::Up)]);
    assert_eq!(noted(&mut bench, &mut since).len(), 2, "that it is back is news");
    bench.hear([health(12, HealthStatus::Down)]);
    assert_eq!(noted(&mut bench, &mut since).len(), 2, "and that it is gone");
    bench.clock.0.fetch_add(60_000, Ordering::Relaxed);
    bench.hear([down(12, "SMTP 421 still busy".into())]);
    assert_eq!(
        noted(&mut bench, &mut since),
        ["not_serving [web 10.0.0.12] health check failed: SMTP 421 still busy"]
    );
}

#[test]
fn interfaces_that_come_and_go_and_wait_are_told() {
    let mut bench = Bench::new();
    let mut since = 0;
    bench.done(attach("eth0"));
    assert_eq!(noted(&mut bench, &mut since), ["interface [eth0] attached"]);
    bench.hear([without("eth0")]);
    let gone = noted(&mut bench, &mut since);
    assert!(gone.iter().any(|line| line.starts_with("interface [eth0] pending: does not exist")), "{gone:?}");
}

#[test]
fn what_the_data_plane_refuses_is_a_trouble_told_once() {
    let mut bench = Bench::with_web();
    let mut since = 0;
    bench.plane.lock().broken.insert(vip(), "out of memory".into());
    bench.plane.lock().observed.services.clear();
    noted(&mut bench, &mut since);
    bench.controller().tick();
    bench.controller().tick();
    let told = noted(&mut bench, &mut since);
    assert!(
        matches!(&told[..], [one] if one.starts_with("trouble [web] ") && one.contains("out of memory")),
        "{told:?}"
    );
}

#[test]
fn a_file_that_is_applied_and_a_restart_are_told() {
    let mut bench = Bench::with_web();
    let mut since = 0;
    noted(&mut bench, &mut since);
    let text =
        "[[service]]\nname = 'web'\nvip = '10.0.0.100:80/tcp'\nbackend = [{ address = '10.0.0.11' }]\n";
    bench.done(Request::Apply { file: "pen.toml".into(), text: text.into(), how: How::default() });
    let told = noted(&mut bench, &mut since);
    assert!(
        told.iter().any(|line| line.starts_with("applied [] configuration pen.toml applied")),
        "{told:?}"
    );
    bench.start(Options::default());
    bench.hear([Event::Links(links())]);
    assert_eq!(
        noted(&mut bench, &mut 0),
        ["started [] 1 backend serving as before the controller's restart"]
    );
}
