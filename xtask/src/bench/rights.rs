//! Capabilities: those that the shipped unit gives, and work on a thread that has no others.

use std::thread;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::BenchError;

/// The unit that is shipped.
static UNIT: &str = include_str!("../../../pen-ctl/systemd/pen.service");

/// What the controller may do as the shipped unit starts it.
pub(super) fn of_the_unit() -> Result<CapabilitySet, BenchError> {
    granted(UNIT).map_err(BenchError::of("the capabilities in pen-ctl/systemd/pen.service"))
}

/// What a unit gives its process: root gets all that it is not bounded from, another user only what is ambient.
fn granted(unit: &str) -> Result<CapabilitySet, String> {
    let values = |key: &'static str| {
        unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim)
    };
    let as_root = values("User").all(|user| matches!(user, "root" | "0"));
    let key = if as_root { "CapabilityBoundingSet" } else { "AmbientCapabilities" };
    let mut names = values(key).flat_map(str::split_whitespace).peekable();
    names.peek().ok_or_else(|| format!("there is no {key}"))?;
    let one = |name: &str| {
        let known = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
        known.ok_or_else(|| format!("{name} is none that is known here"))
    };
    names.map(one).collect()
}

/// Does work on a thread of its own that has these capabilities alone; those of the caller stay.
pub(super) fn with<R: Send>(
    kept: CapabilitySet,
    work: impl FnOnce() -> Result<R, BenchError> + Send,
) -> Result<R, BenchError> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    let reduced = || {
        set_capabilities(None, sets).map_err(BenchError::of("drop capabilities"))?;
        work()
    };
    thread::scope(|scope| match scope.spawn(reduced).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_unit_gives_what_keeps_the_program_fast() {
        assert!(
            of_the_unit()
                .unwrap()
                .contains(CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON)
        );
    }

    #[test]
    fn another_user_than_root_has_what_is_ambient() {
        let unit = "User=pen\nCapabilityBoundingSet=CAP_BPF CAP_PERFMON\nAmbientCapabilities=CAP_BPF\n";
        assert_eq!(granted(unit), Ok(CapabilitySet::BPF));
        assert_eq!(granted(&unit.replace("pen", "root")), Ok(CapabilitySet::BPF | CapabilitySet::PERFMON));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert!(granted("[Service]\n").unwrap_err().contains("CapabilityBoundingSet"));
        assert!(granted("CapabilityBoundingSet=~CAP_BPF\n").unwrap_err().contains("~CAP_BPF"));
    }
}
