//! Which privileges this thread lacks, by name.

use std::fs;

/// A Linux capability: its number (linux/capability.h) and its name.
type Capability = (u32, &'static str);

const CAP_NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
const CAP_SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
const CAP_PERFMON: Capability = (38, PERFMON);
/// Name of the capability without which some programs do not pass the verifier.
pub(super) const PERFMON: &str = "CAP_PERFMON";
const CAP_BPF: Capability = (39, "CAP_BPF");

/// Names of the capabilities that XDP needs and this thread has not.
pub(super) fn missing() -> Vec<&'static str> {
    let Some(effective) = effective() else { return Vec::new() };
    let has = |(number, _): Capability| effective & (1 << number) != 0;
    // CAP_SYS_ADMIN stands in for the two that were split off from it (capabilities(7)).
    [(CAP_BPF, has(CAP_SYS_ADMIN)), (CAP_NET_ADMIN, false), (CAP_PERFMON, has(CAP_SYS_ADMIN))]
        .into_iter()
        .filter(|(capability, stand_in)| !has(*capability) && !stand_in)
        .map(|((_, name), _)| name)
        .collect()
}

/// Whether this thread may change interfaces, addresses and settings of its network namespace.
pub fn may_administer_networks() -> bool {
    effective().is_none_or(|effective| effective & (1 << CAP_NET_ADMIN.0) != 0)
}

/// The effective set; `None` where /proc does not say (then the kernel will).
fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}
