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
    met_with(&[])
}

/// The same for a test that needs these programs too, each with Debian's package of it.
///
/// # Panics
/// Under `PEN_TEST_REQUIRE_ALL=1`, where something is missing.
pub fn met_with(programs: &[(&str, &str)]) -> bool {
    let Some(need) = missing().or_else(|| missing_program(programs)) else { return true };
    assert!(!all_required(), "PEN_TEST_REQUIRE_ALL=1, but this test needs {need}");
    // Past the test harness, which would hide what a passing test prints.
    let _ = writeln!(std::io::stderr(), "skipped: needs {need}");
    false
}

/// Whether what is missing is a failure rather than a reason to do less.
pub fn all_required() -> bool {
    std::env::var_os("PEN_TEST_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// The first of these programs, each with Debian's package of it, that cannot be found.
pub fn missing_program(programs: &[(&str, &str)]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| std::env::split_paths(&path).any(|place| place.join(program).is_file());
    let (program, package) = programs.iter().find(|(program, _)| !found(program))?;
    Some(format!("the `{program}` command (apt-get install {package})"))
}
