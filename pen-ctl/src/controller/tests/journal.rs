//! What the controller notes of what happens.

use super::*;
use crate::api::configuration::How;
use crate::api::event::{EventDocument, Filter};

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
