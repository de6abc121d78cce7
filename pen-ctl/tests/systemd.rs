//! The shipped systemd unit: systemd accepts it, and what it runs is a command of ours.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Stdio};

use clap::Parser;
use pen_ctl::cli::{Cli, Command as PenCommand};

#[path = "shared/needs.rs"]
mod needs;

const UNIT: &str = include_str!("../systemd/pen.service");

/// What a key is set to.
fn value(key: &str) -> &'static str {
    let found = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("the unit has no {key}"))
}

#[test]
fn systemd_accepts_the_unit_as_it_is_shipped() {
    let known = Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !needs::met((!known).then_some("systemd-analyze")) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pen.service");
    // Only the program's place differs: it must exist to be accepted.
    let unit = UNIT.replace("/usr/local/bin/pen-ctl", env!("CARGO_BIN_EXE_pen-ctl"));
    std::fs::write(&path, unit).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let words = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && words.trim().is_empty(), "{words}");
}

#[test]
fn the_unit_runs_the_controller_that_tells_systemd_how_it_is() {
    let typed = value("ExecStart").replace("$PEN_OPTIONS", "-c /etc/pen/pen.toml");
    let cli = Cli::try_parse_from(typed.split_whitespace()).unwrap();
    assert!(matches!(cli.command, PenCommand::Run(_)));
    assert_eq!(value("Type"), "notify");
    assert!(value("WatchdogSec").parse::<u32>().unwrap() > 0);
    assert!(value("ExecReload").contains("-HUP $MAINPID"));
    assert!(value("LimitNOFILE").parse::<u32>().unwrap() >= 65536);
}

#[test]
fn the_unit_grants_what_the_controller_needs() {
    let granted: Vec<&str> = value("CapabilityBoundingSet").split_whitespace().collect();
    for needed in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_NET_RAW", "CAP_CHOWN"] {
        assert!(granted.contains(&needed), "{needed}");
    }
    assert!(value("SystemCallFilter").split_whitespace().any(|call| call == "bpf"));
    assert!(value("ReadWritePaths").contains("/sys/fs/bpf"));
    assert!(!UNIT.lines().any(|line| line.starts_with("ProtectKernelTunables")));
}
