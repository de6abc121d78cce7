//! Every point at which an operation can be cut off or fail: afterwards the state is the old or the new one, whole, and
//! what was answered "ok" is there.

use super::disk::{Disk, Fault};
use super::*;

const ERRORS: [i32; 3] = [libc::EIO, libc::ENOSPC, libc::EROFS];

/// A state directory whose contents are on the disk in memory; only the lock is a real file.
struct Bed {
    home: tempfile::TempDir,
    disk: Disk,
}

/// Something that the store does. What it changes holds when it says so.
struct Operation {
    name: &'static str,
    /// What comes before.
    prepare: fn(&mut Store),
    act: fn(&mut Store) -> Result<(), StoreError>,
    /// It holds even where it cannot be written.
    holds_anyway: bool,
}

/// All that must not be a mixture.
type Snapshot = (Kept, Vec<Desired>);

impl Bed {
    fn new() -> Self {
        Self { home: tempfile::Builder::new().suffix(".root").tempdir().unwrap(), disk: Disk::default() }
    }

    /// As the disk is now, without a cut: what a controller finds that starts after another was killed.
    fn open(&self) -> Store {
        Store::open_with(self.home.path(), Box::new(self.disk.clone())).unwrap()
    }

    fn prepared(operation: &Operation) -> (Self, Store) {
        let bed = Self::new();
        let mut store = bed.open();
        change(&mut store, "eth0").unwrap();
        store.set_dataplane(Kind::Xdp).unwrap();
        store.set_instance([7; 16]).unwrap();
        (operation.prepare)(&mut store);
        (bed, store)
    }

    /// What is found after a cut: each outcome.
    fn after_power_cut(&self) -> Vec<Snapshot> {
        let open = |disk| snapshot(&Store::open_with(self.home.path(), Box::new(disk)).unwrap());
        self.disk.after_power_cut().into_iter().map(open).collect()
    }

    /// The state in each outcome of a cut, while a store is still open.
    fn states_after_power_cut(&self) -> Vec<Kept> {
        let path = self.home.path().join(STATE_FILE);
        let state = |disk: Disk| Kept::parse(&path, &disk.read(&path).unwrap().unwrap()).unwrap();
        self.disk.after_power_cut().into_iter().map(state).collect()
    }
}

fn snapshot(store: &Store) -> Snapshot {
    let states = store.history().into_iter().map(|(_, entry)| entry.unwrap().desired);
    (store.kept.clone(), states.collect())
}

fn note(store: &Store, cause: Cause) -> Note {
    Note { time: store.desired().interfaces.len() as u64 * 10_000, user: Some(0), cause }
}

fn change(store: &mut Store, interface: &str) -> Result<(), StoreError> {
    store.replace(wanted(store, interface))?;
    store.record(&note(store, Cause::Changed))
}

fn trial() -> Option<TrialTime> {
    Some(TrialTime { what: "pen.toml".into(), until: 1_000_600, seconds: 600 })
}

fn apply(store: &mut Store, digest: &str, trial: Option<TrialTime>) -> Result<(), StoreError> {
    store.replace_from_file(wanted(store, digest), digest, trial)?;
    store.record(&note(store, Cause::Applied(digest.into())))
}

const OPERATIONS: [Operation; 9] = [
    Operation {
        name: "replace",
        prepare: |_| {},
        act: |store| store.replace(wanted(store, "eth1")),
        holds_anyway: false,
    },
    Operation { name: "change", prepare: |_| {}, act: |store| change(store, "eth1"), holds_anyway: false },
    Operation {
        name: "change with a full history",
        prepare: |store| {
            let names = (0..STATES_BEFORE).map(|n| format!("eth{}", n + 10));
            names.for_each(|name| change(store, &name).unwrap());
        },
        act: |store| change(store, "eth1"),
        holds_anyway: false,
    },
    Operation {
        name: "set_instance",
        prepare: |_| {},
        act: |store| store.set_instance([9; 16]),
        holds_anyway: false,
    },
    Operation { name: "apply", prepare: |_| {}, act: |store| apply(store, "new", None), holds_anyway: false },
    Operation {
        name: "apply on trial",
        prepare: |store| apply(store, "old", None).unwrap(),
        act: |store| apply(store, "new", trial()),
        holds_anyway: false,
    },
    Operation {
        name: "confirm",
        prepare: |store| apply(store, "new", trial()).unwrap(),
        act: Store::confirm,
        holds_anyway: false,
    },
    Operation {
        name: "roll back",
        prepare: |store| apply(store, "new", trial()).unwrap(),
        act: |store| {
            store.roll_back().unwrap();
            match store.unsettled() {
                None => store.record(&note(store, Cause::RolledBack("new".into()))),
                Some(why) => Err(StoreError::Random(why.to_owned())),
            }
        },
        holds_anyway: true,
    },
    Operation {
        name: "restore",
        prepare: |store| apply(store, "new", None).unwrap(),
        act: |store| {
            let Entry { desired, applied, .. } = store.earlier(1)?;
            store.replace_by_earlier(desired, applied, None)?;
            store.record(&note(store, Cause::Restored(1)))
        },
        holds_anyway: false,
    },
];

/// The snapshots before and after, and how many steps it takes to get there.
fn outcome(operation: &Operation) -> (Snapshot, Snapshot, u32) {
    let (bed, mut store) = Bed::prepared(operation);
    let old = snapshot(&store);
    bed.disk.set_fault(None);
    (operation.act)(&mut store).unwrap();
    let new = snapshot(&store);
    assert_ne!(old.0, new.0, "{}", operation.name);
    (old, new, bed.disk.steps())
}

/// Seeds are drawn, and no part of what is compared.
fn same(found: &Snapshot, expected: &Snapshot) -> bool {
    let plain = |(kept, states): &Snapshot| {
        let mut all = kept.clone();
        all.desired.seed = 0;
        all.trial.iter_mut().for_each(|trial| trial.before.seed = 0);
        let states = states.iter().cloned().map(|desired| Desired { seed: 0, ..desired });
        (all, states.collect::<Vec<_>>())
    };
    plain(found) == plain(expected)
}

/// The state is the expected one and so is the history, but for states that it was to lose and still has.
fn holds(found: &Snapshot, expected: &Snapshot) -> bool {
    let states = found.1.iter().take(expected.1.len()).cloned().collect();
    same(&(found.0.clone(), states), expected)
}

#[track_caller]
fn old_or_new(found: &Kept, old: &Snapshot, new: &Snapshot, about: &str) {
    let is = |expected: &Snapshot| same(&(found.clone(), Vec::new()), &(expected.0.clone(), Vec::new()));
    assert!(is(old) || is(new), "{about}: neither old nor new: {found:?}");
}

/// The state is one of the two; of the history nothing is lost but what was to be.
#[track_caller]
fn whole(found: &Snapshot, old: &Snapshot, new: &Snapshot, about: &str) {
    old_or_new(&found.0, old, new, about);
    let known = |state: &Desired, all: &[Desired]| all.iter().any(|one| one.interfaces == state.interfaces);
    for state in old.1.iter().filter(|state| known(state, &new.1)) {
        assert!(known(state, &found.1), "{about}: lost from the history: {state:?}");
    }
}

#[test]
fn a_power_cut_at_any_step_leaves_the_old_or_the_new_state_and_what_was_answered() {
    let mut outcomes = 0;
    for operation in &OPERATIONS {
        let (old, new, steps) = outcome(operation);
        for at in 0..=steps {
            let (bed, mut store) = Bed::prepared(operation);
            bed.disk.set_fault(Some(Fault { at, errno: libc::EIO, forever: true, done: false }));
            let answer = (operation.act)(&mut store);
            drop(store);
            bed.disk.set_fault(None);
            for found in bed.after_power_cut() {
                outcomes += 1;
                let about = format!("{}, cut at step {at} of {steps}", operation.name);
                whole(&found, &old, &new, &about);
                assert!(answer.is_err() || holds(&found, &new), "{about}: it was answered `ok`");
            }
        }
        assert!(steps >= 5, "{}: {steps} steps", operation.name);
    }
    assert!(outcomes > 200, "only {outcomes} outcomes");
}

#[test]
fn an_error_at_any_step_leaves_memory_disk_and_answer_of_one_mind() {
    for operation in &OPERATIONS {
        let (old, new, steps) = outcome(operation);
        for (at, errno, forever, done) in faults(steps) {
            let (bed, mut store) = Bed::prepared(operation);
            bed.disk.set_fault(Some(Fault { at, errno, forever, done }));
            let answer = (operation.act)(&mut store);
            let about =
                format!("{}, error {errno} at step {at}, {forever} {done}: {answer:?}", operation.name);
            let held = store.kept.clone();
            let is =
                |expected: &Snapshot| same(&(held.clone(), Vec::new()), &(expected.0.clone(), Vec::new()));
            match &answer {
                Ok(()) | Err(StoreError::Record(_)) => assert!(is(&new), "{about}"),
                Err(_) => assert!(is(if operation.holds_anyway { &new } else { &old }), "{about}"),
            }
            let unsettled = store.unsettled().is_some();
            bed.disk.set_fault(None);
            for found in bed.states_after_power_cut() {
                old_or_new(&found, &old, &new, &about);
                let durable = answer.is_ok() || matches!(answer, Err(StoreError::Record(_)));
                assert!(!durable || found == held, "{about}: it was answered `ok`");
            }
            if !unsettled {
                drop(store);
                let mut next = bed.open();
                assert_eq!(next.kept, held, "{about}: another controller finds what the last one held");
                next.replace(wanted(&next, "eth9")).unwrap();
                assert!(bed.states_after_power_cut().iter().all(|found| *found == next.kept), "{about}");
                continue;
            }
            assert!(forever || operation.holds_anyway, "{about}: one error is made good at once");
            assert_eq!(store.settle(), None, "{about}");
            let found = bed.states_after_power_cut();
            assert!(
                found.iter().all(|found| *found == held),
                "{about}: once the disk is mended, it says what holds"
            );
        }
    }
}

/// Each step, each error; once or for good; done in spite of it or not.
fn faults(steps: u32) -> impl Iterator<Item = (u32, i32, bool, bool)> {
    (0..steps).flat_map(|at| {
        let broken = [(false, false), (false, true), (true, false), (true, true)];
        let broken = broken.map(|(forever, done)| (at, libc::EIO, forever, done));
        broken.into_iter().chain([(at, libc::ENOSPC, false, false), (at, libc::EROFS, true, false)])
    })
}

#[test]
fn a_first_start_that_is_cut_off_or_fails_is_followed_by_another() {
    let first = Bed::new();
    drop(first.open());
    let steps = first.disk.steps();
    assert!(steps >= 5);
    for at in 0..=steps {
        for errno in ERRORS {
            let bed = Bed::new();
            bed.disk.set_fault(Some(Fault { at, errno, forever: true, done: false }));
            let opened = Store::open_with(bed.home.path(), Box::new(bed.disk.clone()));
            assert_eq!(opened.is_err(), at < steps);
            let seed = opened.ok().map(|store| store.desired().seed);
            bed.disk.set_fault(None);
            for found in bed.after_power_cut() {
                assert!(seed.is_none_or(|seed| seed == found.0.desired.seed), "an answered start is kept");
            }
        }
    }
}

#[test]
fn going_on_without_a_damaged_state_keeps_it_until_another_is_there() {
    let damaged = b"{\"format\": 1, \"instance\": nul";
    let spoiled = || {
        let (bed, store) = Bed::prepared(&OPERATIONS[0]);
        drop(store);
        bed.disk.put(&bed.home.path().join(STATE_FILE), damaged);
        bed.disk.set_fault(None);
        bed
    };
    let recover =
        |bed: &Bed| Store::open_or_recover_with(bed.home.path(), false, || Box::new(bed.disk.clone()));
    let bed = spoiled();
    let error = Store::open_with(bed.home.path(), Box::new(bed.disk.clone())).unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { line: 1, .. }), "{error}");
    let (store, recovered) = recover(&bed).unwrap();
    let recovered = recovered.unwrap();
    let aside = bed.home.path().join("state.json.damaged-1");
    assert_eq!((recovered.from, recovered.aside.as_deref()), (Some(1), Some(aside.as_path())));
    assert_eq!(store.desired().interfaces, [InterfaceSpec::new("eth0")]);
    let steps = bed.disk.steps();
    for at in 0..=steps {
        let bed = spoiled();
        bed.disk.set_fault(Some(Fault { at, errno: libc::EIO, forever: true, done: false }));
        let answer = recover(&bed).map(drop);
        assert_eq!(answer.is_err(), at < steps, "{answer:?}");
        bed.disk.set_fault(None);
        for disk in bed.disk.after_power_cut() {
            let there = disk.read(&bed.home.path().join(STATE_FILE)).unwrap().unwrap();
            let aside = disk.read(&bed.home.path().join("state.json.damaged-1")).unwrap();
            if there == damaged {
                assert!(answer.is_err());
            } else {
                assert_eq!(aside.as_deref(), Some(&damaged[..]), "step {at}");
                Kept::parse(Path::new("state.json"), &there).unwrap();
            }
            // The next attempt works, whatever the last one left.
            Store::open_or_recover_with(bed.home.path(), false, || Box::new(disk.clone())).unwrap();
        }
    }
}

#[test]
fn a_state_that_is_gone_while_its_history_is_there_is_no_new_beginning() {
    let (bed, store) = Bed::prepared(&OPERATIONS[0]);
    drop(store);
    bed.disk.remove(&bed.home.path().join(STATE_FILE)).unwrap();
    let opened = Store::open_with(bed.home.path(), Box::new(bed.disk.clone()));
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("run --adopt"), "{error}");
    let (store, recovered) =
        Store::open_or_recover_with(bed.home.path(), false, || Box::new(bed.disk.clone())).unwrap();
    assert_eq!(recovered.unwrap().aside, None);
    assert_eq!(store.desired().interfaces, [InterfaceSpec::new("eth0")]);
}
