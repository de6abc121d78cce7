//! Floods of newcomers: told when they begin, while they last, and when they are over.

use super::*;
use crate::api::event::{Filter, Kind};
use crate::dataplane::{FloodLimits, Suppression};

/// What the data plane says from now on, and what is noted of that.
fn look(bench: &mut Bench, active: bool, newcomers: u64) -> Vec<String> {
    let limits = FloodLimits { per_cpu: 100_000, in_all: 32_768 };
    let suppression = Suppression { active, newcomers, last_seconds_ago: Some(3), limits };
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
    let told = look(&mut bench, true, 150);
    assert_eq!(told.len(), 1);
    let both = "more in a second than flood_inserts_per_cpu (100000) on one CPU, or than an eighth of tracking_clients \
                (32768, the smaller) on all together";
    assert!(
        told[0].contains(both) && told[0].contains("give the service that is flooded a `rate_limit`"),
        "{told:?}"
    );
    bench.clock.0.fetch_add(34_000, Ordering::Relaxed);
    assert_eq!(look(&mut bench, true, 1_000_100).len(), 1);
    let status = bench.status();
    let flood = status.tracking.flood.unwrap();
    assert_eq!((flood.active, flood.suppressed, flood.last_seconds_ago), (true, 1_000_100, Some(3)));
    assert_eq!(flood.suppressed_now, Some(1_000_000), "without those of an earlier flood");
    let warning = status.warnings.iter().find(|warning| warning.contains("a flood of newcomers")).unwrap();
    assert!(warning.contains(both) && warning.contains("(1000000 so far); give"), "{warning}");

    let told = look(&mut bench, false, 1_000_100);
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], "the flood is over: 1000000 newcomers were not remembered within 34 s");
    let status = bench.status();
    assert_eq!(status.tracking.flood.unwrap().suppressed_now, None);
    assert!(!status.warnings.iter().any(|warning| warning.contains("flood")), "{status:?}");
    assert_eq!(look(&mut bench, true, 1_000_101).len(), 3, "the next one");
}

#[test]
fn a_data_plane_that_remembers_everybody_knows_no_floods() {
    let mut bench = Bench::with_web();
    bench.controller().look_for_flood();
    assert_eq!(bench.status().tracking.flood, None);
}
