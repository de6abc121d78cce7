//! The state directory and the history in it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::stage::Stage;
use super::super::{Row, ToDo, refused, row};
use crate::state::desired::Desired;
use crate::state::store::{Cause, Note, Store, StoreError};

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    [directories(), damaged(), history(stage), disks()].into_iter().flatten().collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn directories() -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    std::fs::write(at("file"), "").unwrap();
    std::fs::create_dir(at("open")).unwrap();
    std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let held = Store::open(&at("held")).unwrap();
    drop(Store::open(&at("locked")).unwrap());
    std::fs::remove_file(at("locked/lock")).unwrap();
    std::fs::create_dir(at("locked/lock")).unwrap();
    std::fs::create_dir_all(at("odd/state.json")).unwrap();
    drop(Store::open(&at("large")).unwrap());
    std::fs::File::create(at("large/state.json")).unwrap().set_len(1 << 40).unwrap();
    std::fs::set_permissions(at("odd"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let open = |name: &str, what, to_do: &'static str| {
        refused(Store::open(&at(name)), what, format!("state directory {}", shown(&at(name))), to_do)
    };
    let other =
        |why: &str, hint| StoreError::Directory { path: "/var/lib/pen".into(), why: why.into(), hint };
    let rows = vec![
        open("file", "cannot be made: File exists", "run as root, or use another --state-dir"),
        open("open", "others may write into it (mode 0777)", "make it 0700, or use another --state-dir"),
        open("held", "is in use by the controller with pid", "stop that one, or use another --state-dir"),
        open(
            "locked",
            "not writable: Is a directory",
            "run as the user the state belongs to, or use another --state-dir",
        ),
        open("odd", "state.json cannot be read: Is a directory", "move it out of there"),
        open(
            "large",
            "state.json cannot be read: it has 1099511627776 bytes",
            "`pen-ctl run --adopt` then goes on",
        ),
        // It takes another user, a broken disk, and a directory that goes away between two calls.
        row(
            other("belongs to user 7, and this is user 8", "run as that user, or use another --state-dir"),
            "belongs to user 7, and this is user 8",
            "state directory /var/lib/pen",
            "run as that user",
        ),
        row(
            other("state.json cannot be read: Permission denied", "run as the user the state belongs to"),
            "cannot be read: Permission denied",
            "state directory /var/lib/pen",
            "run as the user the state belongs to",
        ),
        row(
            other(
                "state.json cannot be read: Input/output error",
                "mend the disk (`dmesg` says what is wrong with it), or restore the directory from a backup",
            ),
            "cannot be read: Input/output error",
            "state directory /var/lib/pen",
            "mend the disk",
        ),
        row(
            other("cannot be looked at: Permission denied", "run as root, or use another --state-dir"),
            "cannot be looked at: Permission denied",
            "state directory /var/lib/pen",
            "run as root",
        ),
        // It takes a file system that turned read-only.
        row(
            other(
                "not writable: Read-only file system",
                "free space or mend the disk (`dmesg` says what is wrong with it), or use another --state-dir",
            ),
            "not writable: Read-only file system",
            "state directory /var/lib/pen",
            "mend the disk (`dmesg` says what is wrong with it)",
        ),
    ];
    drop(held);
    rows
}

fn damaged() -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("pen");
    let path = directory.join("state.json");
    drop(Store::open(&directory).unwrap());
    let whole = std::fs::read_to_string(&path).unwrap();
    let read = |text: String, what, place: &str, to_do: &'static str| {
        std::fs::write(&path, text).unwrap();
        let on = format!("state file {}{place}", shown(&path));
        refused(Store::open(&directory), what, on, to_do)
    };
    let wrong_id = whole.replace("\"instance\": null", "\"instance\": \"xyz\"");
    let (adopt, older) = ("pen-ctl run --adopt sets it aside", "run the pen that wrote it");
    let mut rows = vec![
        read(whole[..whole.len() / 2].to_owned(), "it ends in the middle", ":", adopt),
        read(whole.replace("\"interfaces\"", "\"interfazes\""), "unknown field `interfazes`", ":", older),
        read(
            whole.replace("\"format\": 1", "\"format\": 2"),
            "it has format 2, and this pen knows 1",
            ": ",
            older,
        ),
        read(wrong_id, "instance id is not 32 hexadecimal digits", ":", adopt),
    ];
    std::fs::write(&path, &whole).unwrap();
    {
        let mut store = Store::open(&directory).unwrap();
        store.record(&Note { time: 1, user: None, cause: Cause::Found }).unwrap();
    }
    std::fs::remove_file(&path).unwrap();
    let gone = "it is gone, although there is a history of states beside it";
    rows.push(refused(Store::open(&directory), gone, shown(&path), adopt));
    rows
}

fn history(stage: &Stage) -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(&home.path().join("pen")).unwrap();
    store.record(&Note { time: 1, user: None, cause: Cause::Found }).unwrap();
    let path = home.path().join("pen/history/1.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let others = "`pen-ctl history` shows those that can be had";
    let mut rows = vec![stage.typed("history show 99", "there is no state", "99 in the history", others)];
    for (text, what) in [
        (whole.replace("\"number\": 1", "\"number\": 7"), "it is number 7 in format 1"),
        (whole[..10].to_owned(), "it ends in the middle"),
    ] {
        std::fs::write(&path, text).unwrap();
        rows.push(refused(store.earlier(1), what, shown(&path), others));
    }
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    rows.push(refused(
        store.earlier(1),
        "it has 1099511627776 bytes, more than any state",
        shown(&path),
        others,
    ));
    std::fs::remove_file(&path).unwrap();
    // Nobody ever writes to it.
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    rows.push(refused(store.earlier(1), "it is no regular file", shown(&path), others));
    std::fs::remove_file(&path).unwrap();
    rows.push(refused(store.earlier(1), "is not there", shown(&path), others));
    std::fs::create_dir(&path).unwrap();
    rows.push(refused(store.earlier(1), "cannot be read: Is a directory", shown(&path), others));
    rows
}

/// It takes hundreds of megabytes.
fn too_large(on_trial: bool, to_do: &'static str) -> Row {
    let (path, bytes, most) = (PathBuf::from("/var/lib/pen/state.json"), 291 << 20, 256 << 20);
    let what = "would have 305135616 bytes, 36700160 more than it may";
    row(
        StoreError::TooLarge { path, bytes, most, on_trial },
        what,
        "state file /var/lib/pen/state.json",
        to_do,
    )
}

/// What disks and kernels do to whoever writes.
fn disks() -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("pen");
    let mut store = Store::open(&directory).unwrap();
    // Nothing can be written aside.
    std::fs::create_dir(directory.join("state.json.new")).unwrap();
    let desired = Desired { tracking_clients: 2048, ..store.desired().clone() };
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let path = PathBuf::from("/var/lib/pen/state.json");
    vec![
        refused(
            store.replace(desired),
            "cannot be written: Is a directory",
            shown(&directory.join("state.json")),
            "free space or mend the disk, then try again",
        ),
        row(
            StoreError::Write { path, source: full() },
            "cannot be written",
            "state file /var/lib/pen/state.json",
            "nothing was changed: free space",
        ),
        too_large(false, "shorten the lists of `allow` and `deny`"),
        too_large(true, "apply it without `--confirm`"),
        row(
            StoreError::Record(io::Error::other("7.json would have 268435457 bytes, more than any state")),
            "would have 268435457 bytes, more than any state",
            "7.json",
            "what was changed holds all the same",
        ),
        row(
            StoreError::Record(full()),
            "the history cannot be written",
            "the history",
            "free space or mend the disk",
        ),
        row(
            StoreError::Record(io::Error::other(
                "/var/lib/pen/history/1.json is too old and cannot be removed: Is a directory",
            )),
            "is too old and cannot be removed: Is a directory",
            "/var/lib/pen/history/1.json",
            "free space or mend the disk",
        ),
        row(
            StoreError::Random("not implemented".into()),
            "no random numbers",
            "from the kernel",
            ToDo::Nothing("a kernel that has none runs no XDP either"),
        ),
    ]
}
