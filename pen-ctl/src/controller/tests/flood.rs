//! Floods of newcomers: told when they begin, while they last, and when they are over.

use super::*;
use crate::api::event::{Filter, Kind};
use crate::dataplane::Suppression;

/// What the data plane says from now on, and what is noted of that.
fn look(bench: &mut Bench, active: bool, newcomers: u64) -> Vec<String> {
    let suppression = Suppression { active, newcomers, last_seconds_ago: Some(3) };
    bench.plane.lock().suppression = Some(suppression);
    bench.controller().look_for_flood();
    noted(bench)
}

/// Everything that was noted of floods so far.
fn noted(bench: &mut Bench) -> Vec<String> {
    let filter = Filter { kinds: [Kind::Flood].into(), ..Filter::default() };
    let events = bench.controller().journal().list(&filter, None, 100).events;
    events.into_iter().map(|event| event.message).collect()
}

#[test]
fn a_flood_is_told_of_once_when_it_begins_and_once_when_it_is_over() {
    let mut bench = Bench::with_web();
    assert_eq!(look(&mut bench, false, 100), Vec::<String>::new(), "one of long ago");
    assert_eq!(look(&mut bench, true, 150).len(), 1);
    bench.clock.0.fetch_add(34_000, Ordering::Relaxed);
    assert_eq!(look(&mut bench, true, 1_000_100).len(), 1);
    let status = bench.status();
    let flood = status.tracking.flood.unwrap();
    assert_eq!((flood.active, flood.suppressed, flood.last_seconds_ago), (true, 1_000_100, Some(3)));
    assert!(status.warnings.iter().any(|warning| warning.contains("a flood of newcomers")), "{status:?}");

    let told = look(&mut bench, false, 1_000_100);
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], "the flood is over: 1000000 newcomers were not remembered within 34 s");
    let status = bench.status();
    assert!(!status.warnings.iter().any(|warning| warning.contains("flood")), "{status:?}");
    assert_eq!(look(&mut bench, true, 1_000_101).len(), 3, "the next one");
}

#[test]
fn a_data_plane_that_remembers_everybody_knows_no_floods() {
    let mut bench = Bench::with_web();
    bench.controller().look_for_flood();
    assert_eq!(bench.status().tracking.flood, None);
}
