//! Who may do what on a real controller's socket: the group `pen` looks, root changes, others do not get in.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::{Command, Ended, Machine, Pen, needs_met, runs};

/// The group `pen` as the controller of this test finds it, and two users that nobody is.
const READERS: &str = "64999";
const MEMBER: &str = "64001";
const STRANGER: &str = "64002";

/// pen-ctl as another user, in these groups.
fn as_user(pen: &Pen<'_>, uid: &str, groups: &[&str], words: &[&str]) -> Ended {
    // From a copy: the build directory may be closed to others.
    let copy = pen.machine.dir.path().join("pen-ctl");
    if !copy.exists() {
        super::sh("cp", &[env!("CARGO_BIN_EXE_pen-ctl"), copy.to_str().unwrap()]);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", uid, "--regid", uid]);
    match groups {
        [] => command.arg("--clear-groups"),
        groups => command.args(["--groups", &groups.join(",")]),
    };
    let output =
        command.arg(copy).arg("--socket").arg(&pen.socket).args(words).current_dir("/").output().unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_group_pen_looks_and_changes_nothing_and_others_do_not_get_in() {
    if !needs_met() {
        return;
    }
    let machine = Machine::new();
    let pen = machine.pen("one");
    std::fs::set_permissions(machine.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The machine's own groups are left alone: this controller sees another file in the place of theirs.
    let groups = machine.write("group", &format!("root:x:0:\npen:x:{READERS}:\n"));
    let run = pen.command(&["run"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command
        .args(["mount --bind \"$0\" /etc/group && exec \"$@\"", &groups])
        .arg(run.get_program())
        .args(run.get_args());
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while pen.run(&["status"]).status != Some(0) {
        assert!(runs(child.id()), "the controller did not start");
    }
    let mode = std::fs::metadata(&pen.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    let looked = as_user(&pen, MEMBER, &[READERS], &["--json", "status"]);
    assert_eq!(looked.status, Some(0), "{looked:?}");
    for words in [
        &["service", "add", "web", "10.77.0.100:80/tcp"][..],
        &["backend", "add", "web", "10.77.0.11"],
        &["attach", "veth0"],
        &["stop"],
    ] {
        let refused = as_user(&pen, MEMBER, &[READERS], words);
        assert_eq!(refused.status, Some(1), "{words:?}: {refused:?}");
        let said = format!("user {MEMBER} may look, but not change anything; become root");
        assert!(refused.stderr.contains(&said), "{words:?}: {refused:?}");
    }
    let stranger = as_user(&pen, STRANGER, &[], &["status"]);
    assert_eq!(stranger.status, Some(1), "{stranger:?}");
    assert!(
        stranger.stderr.contains("permission denied") && stranger.stderr.contains("group pen"),
        "{stranger:?}"
    );
    assert!(pen.status().services.is_empty());
    pen.ok(&["service", "add", "web", "10.77.0.100:80/tcp"]);
    pen.ok(&["stop"]);
    child.wait().unwrap();
}
