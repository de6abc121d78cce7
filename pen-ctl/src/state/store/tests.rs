//! What survives, what is refused, and what is never touched.

mod crashes;
mod disk;
mod full;
mod histories;
mod large;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::needs;
use crate::state::desired::InterfaceSpec;

fn wanted(store: &Store, interface: &str) -> Desired {
    let mut desired = store.desired().clone();
    desired.interfaces.push(InterfaceSpec::new(interface));
    desired
}

#[test]
fn what_was_kept_is_there_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("a/pen");
    let (desired, id) = {
        let mut store = Store::open(&directory).unwrap();
        assert!(store.is_empty());
        let desired = wanted(&store, "eth0");
        store.replace_from_file(desired.clone(), "abc", None).unwrap();
        store.set_dataplane(Kind::Xdp).unwrap();
        (desired, store.ensure_instance().unwrap())
    };
    let mut store = Store::open(&directory).unwrap();
    assert_eq!(store.desired(), &desired);
    assert_eq!((store.applied(), store.dataplane()), (Some("abc"), Some(Kind::Xdp)));
    assert_eq!(store.ensure_instance().unwrap(), id);
    assert!(!store.is_empty());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join(STATE_FILE)), 0o600);
}

#[test]
fn the_revision_is_always_that_of_what_is_wanted_now() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(&home.path().join("pen")).unwrap();
    let first = store.revision();
    let time = TrialTime { what: "pen.toml".into(), until: 60, seconds: 60 };
    store.replace_from_file(wanted(&store, "eth0"), "abc", Some(time)).unwrap();
    assert_eq!(store.revision(), Revision::of(store.desired()));
    assert_ne!(store.revision(), first);
    store.roll_back().unwrap();
    assert_eq!(store.revision(), first);
}

#[test]
fn seeds_differ_and_stay() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seed = |home: &tempfile::TempDir| Store::open(&home.path().join("pen")).unwrap().desired().seed;
    assert_eq!(seed(&one), seed(&one));
    assert_ne!(seed(&one), seed(&two));
}

#[test]
fn a_second_controller_is_told_the_pid_of_the_first() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("pen");
    let _first = Store::open(&directory).unwrap();
    let error = Store::open(&directory).unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
}

#[test]
fn a_lock_whose_file_was_removed_is_taken_again_with_the_next_change() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("pen");
    let mut store = Store::open(&directory).unwrap();
    let in_use = |found: Result<Store, StoreError>| matches!(found, Err(StoreError::InUse { .. }));
    std::fs::remove_file(directory.join("lock")).unwrap();
    store.replace(wanted(&store, "eth0")).unwrap();
    assert!(in_use(Store::open(&directory)));
    // Another one was faster: the directory is no longer ours.
    std::fs::remove_file(directory.join("lock")).unwrap();
    let other = Store::open(&directory).unwrap();
    let error = store.replace(wanted(&store, "eth1")).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(other);
    store.replace(wanted(&store, "eth1")).unwrap();
}

#[test]
fn a_damaged_or_newer_file_is_refused_with_its_place_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("pen");
    let path = directory.join(STATE_FILE);
    drop(Store::open(&directory).unwrap());
    let whole = std::fs::read_to_string(&path).unwrap();
    for (damaged, says) in [
        (whole[..whole.len() / 2].to_owned(), "it ends in the middle"),
        (String::new(), "it ends in the middle"),
        (whole.replace("\"interfaces\"", "\"interfazes\""), "unknown field `interfazes`"),
        (whole.replace("\"format\": 1", "\"format\": 2"), "format 2"),
        (whole.replace("\"tracking_clients\": 262144", "\"tracking_clients\": 5"), "tracking_clients = 5"),
    ] {
        std::fs::write(&path, &damaged).unwrap();
        let error = Store::open(&directory).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged, "the file must be kept as it is");
    }
    std::fs::write(&path, whole.replace("\"interfaces\"", "\"interfazes\"")).unwrap();
    let line = 1 + whole.lines().position(|line| line.contains("\"interfaces\"")).unwrap();
    assert!(Store::open(&directory).unwrap_err().to_string().contains(&format!("{STATE_FILE}:{line}:")));
}

#[test]
fn directories_of_others_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let open_to_all = home.path().join("open");
    std::fs::create_dir(&open_to_all).unwrap();
    std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(Store::open(&open_to_all).unwrap_err().to_string().contains("others may write"));

    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(Store::open(&file).unwrap_err().to_string().contains("cannot be made"));

    if !needs::met((!rustix::process::geteuid().is_root()).then_some("root")) {
        return;
    }
    let foreign = home.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::os::unix::fs::chown(&foreign, Some(1234), None).unwrap();
    assert!(Store::open(&foreign).unwrap_err().to_string().contains("belongs to user 1234"));
}
