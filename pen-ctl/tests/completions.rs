//! The completions for bash, asked by a real bash as the Tab key asks them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Stdio};

#[path = "shared/needs.rs"]
mod needs;

/// Sources the script `$1` and completes the last of the words that follow.
const TAB: &str = r#"
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_pen__ctl pen-ctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_commands_options_and_values_at_every_depth() {
    let bash = Command::new("bash").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !needs::met((!bash).then_some("bash")) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("pen-ctl.bash");
    let printed = Command::new(env!("CARGO_BIN_EXE_pen-ctl")).args(["completions", "bash"]).output().unwrap();
    std::fs::write(&script, printed.stdout).unwrap();
    let complete = |typed: &str| {
        let mut words: Vec<&str> = typed.split(' ').collect();
        words.insert(0, "pen-ctl");
        let bash = Command::new("bash").args(["-c", TAB, "bash"]).arg(&script).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&bash.stderr).into_owned();
        assert!(bash.status.success() && said.is_empty(), "{typed}: {said}");
        let replies = String::from_utf8(bash.stdout).unwrap();
        replies.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (typed, offered) in [
        ("ba", "backend"),
        ("backend-s", "backend-setup"),
        ("backend ", "remove"),
        ("backend remove web 10.0.0.11 --d", "--drain"),
        ("backend-setup --u", "--undo"),
        ("backend-setup --format ", "networkd"),
        ("service add web 10.0.0.100:80/tcp --sch", "--scheduler"),
        ("run --dataplane ", "xdp"),
        ("history ", "restore"),
        ("completions ", "bash"),
        ("--json service ", "list"),
    ] {
        let replies = complete(typed);
        assert!(replies.iter().any(|reply| reply == offered), "`{typed}`: {replies:?}");
    }
}
