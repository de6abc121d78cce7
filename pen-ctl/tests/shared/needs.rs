//! The one rule for tests that need more than an ordinary user has; unit and integration tests include this file.

use std::io::Write as _;

/// Whether a test can run, given what it misses here (`root`, `root and iproute2`). Where something is missing, says
/// so past the test harness, which would hide what a passing test prints.
///
/// # Panics
/// Under `PEN_TEST_REQUIRE_ALL=1`, where something is missing.
pub(crate) fn met(missing: Option<&str>) -> bool {
    let Some(missing) = missing else { return true };
    let all = std::env::var_os("PEN_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!all, "PEN_TEST_REQUIRE_ALL=1, but this test needs {missing}");
    let _ = writeln!(std::io::stderr(), "skipped: needs {missing}");
    false
}
