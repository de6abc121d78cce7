//! How full the tracking tables are: asked while the answer takes long to find.

use tokio::sync::mpsc;

use super::*;
use crate::dataplane::{Inserted, TableUse, TrackingUse};

fn tables(used: u64) -> TrackingUse {
    let empty = TableUse { max: 262_144, ..TableUse::default() };
    TrackingUse { v4: TableUse { used, ..empty }, v6: empty }
}

async fn status(handle: &ControllerHandle) -> StatusDocument {
    match handle.request(Request::Status).await.unwrap() {
        Reply::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

async fn used(handle: &ControllerHandle) -> Option<u64> {
    let tracking = status(handle).await.tracking;
    tracking.age_seconds.map(|_| tracking.tables.v4.used)
}

#[tokio::test]
async fn a_slow_count_keeps_nobody_waiting_and_the_newest_that_is_known_is_told() {
    let mut bench = Bench::with_web();
    let (plane, clock) = (bench.plane.clone(), bench.clock.clone());
    let controller = bench.controller.take().unwrap();
    let (handle, calls) = ControllerHandle::to(&controller);
    let (events, heard) = mpsc::channel(1);
    let serving = tokio::spawn(serve(controller, calls, heard));

    plane.lock().tracking = tables(7);
    let counting = plane.slow.clone().lock_owned().await;
    // Whoever wants to know is told that it is not known yet, not that nobody is remembered.
    assert_eq!(used(&handle).await, None);
    // Health is heard and changes are made while it is being counted.
    events.send(health(12, HealthStatus::Down)).await.unwrap();
    handle.request(add_backend("web", 13)).await.unwrap();
    while plane.lock().observed.services[&vip()].members.as_ref().is_none_or(|members| members.len() != 1) {
        tokio::task::yield_now().await;
    }
    drop(counting);
    while used(&handle).await != Some(7) {}

    // The next count is slow, too: what is known is told, with its age.
    plane.lock().tracking = tables(8);
    let counting = plane.slow.clone().lock_owned().await;
    clock.0.fetch_add(3000, Ordering::Relaxed);
    let tracking = status(&handle).await.tracking;
    assert_eq!((tracking.tables, tracking.age_seconds), (tables(7), Some(3)));
    drop(counting);
    while used(&handle).await != Some(8) {}

    handle.request(Request::Stop { detach: false }).await.unwrap();
    serving.await.unwrap();
}

#[test]
fn the_pace_of_inserts_is_of_the_last_seconds_and_never_of_a_moment() {
    let mut bench = Bench::with_web();
    let pace = |bench: &mut Bench| {
        let due = bench.controller().table_count_due(&Request::Status);
        if let Some(due) = due {
            bench.controller().tables_counted(due.take());
        }
        bench.controller().tracking_document().unwrap().inserts_per_second.map(|pace| (pace.v4, pace.v6))
    };
    let later = |bench: &mut Bench, milliseconds, v4, v6| {
        bench.clock.0.fetch_add(milliseconds, Ordering::Relaxed);
        bench.plane.lock().inserted = Inserted { v4, v6 };
    };
    assert_eq!(pace(&mut bench), None, "just started");
    later(&mut bench, 2_000, 100, 0);
    assert_eq!(pace(&mut bench), Some((50, 0)));
    bench.controller().reconcile();
    later(&mut bench, 10, 1_000, 0);
    bench.controller().reconcile();
    assert_eq!(pace(&mut bench), Some((497, 0)), "over two seconds and a bit");
    later(&mut bench, 4_990, 6_000, 5_000);
    assert_eq!(pace(&mut bench), Some((1_180, 1_000)));
}

#[test]
fn a_count_that_fails_is_told_and_leaves_what_is_known() {
    let mut bench = Bench::with_web();
    let count = |bench: &mut Bench, result: fn(TrackingUse) -> Result<TrackingUse, DataPlaneError>| {
        let due = bench.controller().table_count_due(&Request::Status).expect("a count is due");
        assert!(bench.controller().table_count_due(&Request::Status).is_none(), "one at a time");
        let counted = due.take().and_then(result);
        bench.controller().tables_counted(counted);
        bench.status()
    };
    bench.plane.lock().tracking = tables(7);
    assert_eq!(count(&mut bench, Ok).tracking.tables, tables(7));
    let failed = count(&mut bench, |_| {
        Err(DataPlaneError { what: "count".into(), why: "out of memory".into(), hint: String::new() })
    });
    assert_eq!(failed.tracking.tables, tables(7));
    assert!(failed.warnings.iter().any(|warning| warning.contains("out of memory")), "{failed:?}");
    assert!(!count(&mut bench, Ok).warnings.iter().any(|warning| warning.contains("out of memory")));
}
