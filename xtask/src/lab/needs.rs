//! The one guard of tests that need more than an ordinary user has.

use std::io::Write;
use std::process::{Command, Stdio};

/// What is missing here to make a lab, in words, with the way to get it.
pub fn missing() -> Option<String> {
    let ip = Command::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if ip.is_err() {
        return Some("the `ip` command (apt-get install iproute2)".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Some("root (sudo) for network namespaces and BPF".to_owned());
    }
    None
}

/// Whether a test can run here. Where not, says so; under `PEN_TEST_REQUIRE_ALL=1` that is a failure.
///
/// # Panics
/// Under `PEN_TEST_REQUIRE_ALL=1`, where something is missing.
pub fn met() -> bool {
    let Some(need) = missing() else { return true };
    let all = std::env::var_os("PEN_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!all, "PEN_TEST_REQUIRE_ALL=1, but this test needs {need}");
    // Past the test harness, which would hide what a passing test prints.
    let _ = writeln!(std::io::stderr(), "skipped: needs {need}");
    false
}
