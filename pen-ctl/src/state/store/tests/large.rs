//! States that are too large to be read again: refused before anything is written.

use ipnet::{IpNet, Ipv4Net};

use super::*;
use crate::dataplane::Prefixes;
use crate::state::desired::Service;

/// What the files of these tests may have; beyond [`ROOM`], some tens of kilobytes.
const SMALL: u64 = ROOM + (64 << 10);

fn open(home: &tempfile::TempDir) -> Store {
    let mut store = Store::open(&home.path().join("pen")).unwrap();
    (store.largest, store.history.largest) = (SMALL, SMALL);
    store
}

/// A state with a service that lets so many prefixes in.
fn listing(store: &Store, prefixes: u32) -> Desired {
    let mut service = Service::new("web".into(), "10.0.0.100:80/tcp".parse().unwrap());
    let net = |number: u32| IpNet::V4(Ipv4Net::new((number << 8).into(), 24).unwrap());
    service.allow = (0..prefixes).map(net).collect::<Prefixes>();
    Desired { services: vec![service], ..store.desired().clone() }
}

fn size(home: &tempfile::TempDir) -> u64 {
    std::fs::metadata(home.path().join("pen").join(STATE_FILE)).unwrap().len()
}

#[test]
fn a_change_that_a_start_could_not_read_is_refused_and_the_state_from_before_holds() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    store.replace(listing(&store, 1000)).unwrap();
    let held = store.desired().clone();
    for refused in [
        store.replace(listing(&store, 5000)),
        store.replace_from_file(listing(&store, 5000), "abc", None),
        store.replace_by_earlier(listing(&store, 5000), None, None),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { on_trial: false, .. }), "{error}");
        assert!(error.to_string().contains("shorten the lists"), "{error}");
        assert_eq!((store.desired(), store.unsettled()), (&held, None));
    }
    drop(store);
    assert_eq!(open(&home).desired(), &held, "after a restart");
}

#[test]
fn a_trial_whose_both_states_are_too_large_together_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    store.replace(listing(&store, 1500)).unwrap();
    let trial = || Some(TrialTime { what: "pen.toml".into(), until: 60, seconds: 60 });
    let error = store.replace_from_file(listing(&store, 1501), "abc", trial()).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { on_trial: true, .. }), "{error}");
    assert!(error.to_string().contains("without `--confirm`"), "{error}");
    assert_eq!((store.trial(), store.applied()), (None, None));
    store.replace_from_file(listing(&store, 1501), "abc", None).unwrap();
    let before = store.desired().clone();
    store.replace_from_file(listing(&store, 3), "def", trial()).unwrap();
    assert!(store.replace_beyond_trial(listing(&store, 1400), before.clone()).is_err());
    store.roll_back().unwrap();
    drop(store);
    assert_eq!(open(&home).desired(), &before);
}

#[test]
fn what_pen_adds_by_itself_has_room_in_the_largest_state_and_in_the_history() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    let fits = (0..5000).rev().step_by(8).find(|prefixes| store.replace(listing(&store, *prefixes)).is_ok());
    assert!(fits.is_some_and(|fits| fits > 1000) && size(&home) + 1024 > SMALL - ROOM, "{fits:?}");
    store.ensure_instance().unwrap();
    store.set_dataplane(Kind::Xdp).unwrap();
    let cause = Cause::Applied("\u{1}".repeat(4096));
    store.record(&Note { time: 1, user: Some(0), cause }).unwrap();
    assert_eq!(&store.earlier(1).unwrap().desired, store.desired());
    let cause = Cause::Applied("x".repeat(SMALL as usize));
    store.replace(listing(&store, 7)).unwrap();
    let error = store.record(&Note { time: 2, user: Some(0), cause }).unwrap_err().to_string();
    assert!(error.contains("2.json would have"), "{error}");
    assert_eq!(store.history().len(), 1);
}
