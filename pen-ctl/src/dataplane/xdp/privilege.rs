//! Which privileges a process lacks, by name.

use std::fs;

/// A Linux capability: its number (linux/capability.h) and its name.
type Capability = (u32, &'static str);

const CAP_NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
const CAP_NET_RAW: Capability = (13, "CAP_NET_RAW");
const CAP_SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
const CAP_PERFMON: Capability = (38, PERFMON);
/// Name of the capability without which some programs do not pass the verifier.
pub(super) const PERFMON: &str = "CAP_PERFMON";
const CAP_BPF: Capability = (39, "CAP_BPF");

/// Names of the capabilities that XDP needs and this thread has not.
pub fn missing() -> Vec<&'static str> {
    effective(OURSELVES).map_or_else(Vec::new, missing_of)
}

fn missing_of(effective: u64) -> Vec<&'static str> {
    let has = |(number, _): Capability| effective & (1 << number) != 0;
    // CAP_SYS_ADMIN stands in for the two that were split off from it (capabilities(7)).
    [(CAP_BPF, has(CAP_SYS_ADMIN)), (CAP_NET_ADMIN, false), (CAP_PERFMON, has(CAP_SYS_ADMIN))]
        .into_iter()
        .filter(|(capability, stand_in)| !has(*capability) && !stand_in)
        .map(|((_, name), _)| name)
        .collect()
}

/// Names of the capabilities that a controller needs and process `pid` (this one with `None`) has not: those of XDP,
/// and the one to announce VIPs. `None` where /proc does not say.
pub fn lacks(pid: Option<u32>) -> Option<Vec<&'static str>> {
    let of = pid.map_or(OURSELVES.to_owned(), |pid| format!("/proc/{pid}/status"));
    let effective = effective(&of)?;
    let mut names = missing_of(effective);
    names.extend((effective & (1 << CAP_NET_RAW.0) == 0).then_some(CAP_NET_RAW.1));
    Some(names)
}

/// Whether this thread may change interfaces, addresses and settings of its network namespace.
pub fn may_administer_networks() -> bool {
    effective(OURSELVES).is_none_or(|effective| effective & (1 << CAP_NET_ADMIN.0) != 0)
}

const OURSELVES: &str = "/proc/thread-self/status";

/// The effective set; `None` where /proc does not say (then the kernel will).
fn effective(status: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}
