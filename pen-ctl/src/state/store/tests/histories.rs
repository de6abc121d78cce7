//! Which states are kept, and what becomes of damaged ones.

use super::*;

const HOUR: u64 = 3600;

fn open(home: &tempfile::TempDir) -> Store {
    Store::open(&home.path().join("pen")).unwrap()
}

fn change(store: &mut Store, interface: &str, time: u64) {
    store.replace(wanted(store, interface)).unwrap();
    store.record(&Note { time, user: Some(0), cause: Cause::Changed }).unwrap();
}

fn listed(store: &Store) -> Vec<(u64, u64, String)> {
    let entries = store.history().into_iter().map(|(number, entry)| (number, entry.unwrap()));
    entries.map(|(number, entry)| (number, entry.changes, entry.summary)).collect()
}

#[test]
fn ten_states_are_kept_beside_the_one_that_holds() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    for n in 1..=14 {
        change(&mut store, &format!("eth{n}"), n * HOUR);
    }
    let numbers: Vec<u64> = store.history().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (4..=14).rev().collect::<Vec<_>>());
    assert_eq!(store.earlier(4).unwrap().desired.interfaces.len(), 4);
    assert!(store.earlier(3).unwrap_err().to_string().contains("pen-ctl history"));
    let kept = listed(&store);
    drop(store);
    assert_eq!(listed(&open(&home)), kept, "after a restart");
}

#[test]
fn a_burst_at_run_time_makes_one_state_and_what_it_undoes_none() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    let found = Note { time: 0, user: None, cause: Cause::Found };
    store.record(&found).unwrap();
    change(&mut store, "eth0", HOUR);
    change(&mut store, "eth1", HOUR + BURST_SECONDS);
    change(&mut store, "eth2", HOUR + 2 * BURST_SECONDS);
    store.record(&Note { time: HOUR, ..found }).unwrap();
    assert_eq!(
        listed(&store),
        [(2, 3, "3 interfaces added".to_owned()), (1, 1, "the first state of the history".to_owned())]
    );
    change(&mut store, "eth3", HOUR + 3 * BURST_SECONDS + 1);
    assert_eq!(listed(&store)[0], (3, 1, "interface eth3 added".to_owned()));
    let mut back = store.desired().clone();
    back.interfaces.pop();
    store.replace(back).unwrap();
    store.record(&Note { time: HOUR + 3 * BURST_SECONDS + 2, user: Some(0), cause: Cause::Changed }).unwrap();
    assert_eq!(listed(&store)[0].0, 2);
    store.replace(wanted(&store, "eth4")).unwrap();
    store.record(&Note { time: HOUR + 3 * BURST_SECONDS + 3, user: Some(1), cause: Cause::Changed }).unwrap();
    assert_eq!(listed(&store)[0], (3, 1, "interface eth4 added".to_owned()), "by another user");
}

#[test]
fn damage_in_the_history_stands_in_nobodys_way() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    for n in 1..=3 {
        change(&mut store, &format!("eth{n}"), n * HOUR);
    }
    drop(store);
    let history = home.path().join("pen/history");
    let newest = std::fs::read_to_string(history.join("3.json")).unwrap();
    std::fs::write(history.join("2.json"), &newest[..newest.len() / 2]).unwrap();
    std::fs::write(history.join("1.json"), newest.replace("\"summary\"", "\"sumary\"")).unwrap();
    std::fs::write(history.join("nonsense"), "").unwrap();
    let mut store = open(&home);
    let why = |store: &Store, number| store.earlier(number).unwrap_err().to_string();
    assert!(why(&store, 2).contains("2.json:") && why(&store, 2).contains("ends in the middle"));
    assert!(why(&store, 1).contains("unknown field `sumary`"));
    change(&mut store, "eth4", 4 * HOUR);
    let states: Vec<_> = store.history().iter().map(|(number, entry)| (*number, entry.is_ok())).collect();
    assert_eq!(states, [(4, true), (3, true), (2, false), (1, false)]);
    drop(store);
    std::fs::remove_dir_all(&history).unwrap();
    std::fs::write(&history, "a file in its place").unwrap();
    let mut store = open(&home);
    store.replace(wanted(&store, "eth5")).unwrap();
    let error = store.record(&Note { time: 5 * HOUR, user: None, cause: Cause::Changed }).unwrap_err();
    assert!(error.to_string().contains("history cannot be written"), "{error}");
    assert_eq!(store.desired().interfaces.len(), 5);
}

#[test]
fn an_entry_of_a_time_that_nobody_lives_to_see_is_had_like_any_other_and_one_that_removes_then_is_damaged() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    for n in 1..=2 {
        change(&mut store, &format!("eth{n}"), n * HOUR);
    }
    drop(store);
    let history = home.path().join("pen/history");
    let newest = std::fs::read_to_string(history.join("2.json")).unwrap();
    std::fs::write(history.join("2.json"), newest.replace("\"time\": 7200", "\"time\": 253402300800"))
        .unwrap();
    let service = r#""services": [{ "name": "web", "vip": "10.0.0.100:80/tcp", "backends": [
        { "address": "10.0.0.11", "state": "drain", "remove_at": 253402300800 }] }]"#;
    let late = newest.replace("\"services\": []", service).replace("\"number\": 2", "\"number\": 1");
    std::fs::write(history.join("1.json"), late).unwrap();
    let mut store = open(&home);
    assert_eq!(store.earlier(2).unwrap().time, 253_402_300_800);
    let why = store.earlier(1).unwrap_err().to_string();
    assert!(why.contains("1.json: backend 10.0.0.11 of service web is to be removed after"), "{why}");
    change(&mut store, "eth3", 3 * HOUR);
    assert_eq!(store.desired().interfaces.len(), 3);
}

/// What a start goes on from after `state.json` was damaged: the number, one that was passed over, interfaces, the file
/// that was taken back.
fn recovered(home: &tempfile::TempDir) -> (Option<u64>, Option<u64>, usize, Option<String>) {
    let directory = home.path().join("pen");
    std::fs::write(directory.join(STATE_FILE), "{").unwrap();
    let (store, recovered) = Store::open_or_recover(&directory, false).unwrap();
    let recovered = recovered.unwrap();
    let taken_back = store.taken_back().map(str::to_owned);
    (recovered.from, recovered.passed_over, store.desired().interfaces.len(), taken_back)
}

#[test]
fn what_was_on_trial_is_gone_on_from_only_once_it_was_confirmed() {
    let note = |cause| Note { time: HOUR, user: Some(0), cause };
    let trial = || Some(TrialTime { what: "pen.toml".into(), until: 2 * HOUR, seconds: HOUR });
    let begin = |home: &tempfile::TempDir| {
        let mut store = open(home);
        change(&mut store, "eth0", HOUR);
        store.replace_from_file(wanted(&store, "eth1"), "abc", trial()).unwrap();
        store.record(&note(Cause::Applied("pen.toml".into()))).unwrap();
        assert!(store.earlier(2).unwrap().on_trial && !store.earlier(1).unwrap().on_trial);
        store
    };
    let home = tempfile::tempdir().unwrap();
    drop(begin(&home));
    assert_eq!(recovered(&home), (Some(1), Some(2), 1, Some("abc".into())));

    // What was done meanwhile is on trial with it.
    let home = tempfile::tempdir().unwrap();
    change(&mut begin(&home), "eth2", HOUR);
    assert_eq!(recovered(&home), (Some(1), Some(3), 1, Some("abc".into())));

    let home = tempfile::tempdir().unwrap();
    let mut store = begin(&home);
    store.confirm().unwrap();
    store.record(&note(Cause::Changed)).unwrap();
    assert_eq!(store.history().len(), 2);
    drop(store);
    assert_eq!(recovered(&home), (Some(2), None, 2, None));

    let home = tempfile::tempdir().unwrap();
    let mut store = begin(&home);
    store.roll_back().unwrap();
    store.record(&note(Cause::RolledBack("pen.toml".into()))).unwrap();
    drop(store);
    assert_eq!(recovered(&home).0, Some(3));

    // Better than nothing.
    let home = tempfile::tempdir().unwrap();
    drop(begin(&home));
    std::fs::remove_file(home.path().join("pen/history/1.json")).unwrap();
    assert_eq!(recovered(&home), (Some(2), None, 2, None));
}

#[test]
fn what_is_on_trial_never_takes_the_place_of_what_was_for_good() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    change(&mut store, "eth0", HOUR);
    change(&mut store, "eth1", 2 * HOUR);
    // Applied on trial; the history was not written then, and a change in the same burst is.
    let trial = TrialTime { what: "pen.toml".into(), until: 3 * HOUR, seconds: HOUR };
    store.replace_from_file(wanted(&store, "eth2"), "abc", Some(trial)).unwrap();
    change(&mut store, "eth3", 2 * HOUR + 1);
    let states: Vec<_> =
        store.history().into_iter().map(|(number, entry)| (number, entry.unwrap().on_trial)).collect();
    assert_eq!(states, [(3, true), (2, false), (1, false)]);
}

#[test]
fn one_that_cannot_be_removed_is_named_and_the_others_go() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(&home);
    change(&mut store, "eth0", HOUR);
    drop(store);
    let history = home.path().join("pen/history");
    // No number follows this one, so it was never given.
    std::fs::write(history.join(format!("{}.json", u64::MAX)), "").unwrap();
    std::fs::remove_file(history.join("1.json")).unwrap();
    std::fs::create_dir(history.join("1.json")).unwrap();
    let mut store = open(&home);
    for n in 2..=14 {
        store.replace(wanted(&store, &format!("eth{n}"))).unwrap();
        let told = store.record(&Note { time: n * HOUR, user: Some(0), cause: Cause::Changed });
        assert_eq!(told.is_err(), n > 11, "{n}: {told:?}");
        if let Err(error) = told {
            assert!(error.to_string().contains("history/1.json"), "{error}");
        }
    }
    let numbers: Vec<u64> = store.history().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (5..=14).rev().chain([1]).collect::<Vec<_>>());
}
