//! How much memory pen takes: what `docs/map-abi.md` states, what is asked for before a service is accepted, and what a
//! test holds it to.

/// A part of what the maps take, in bytes, as the kernel accounts for it (`memlock` in `/proc/PID/fdinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is for, as the documentation has it.
    pub what: &'static str,
    /// Bytes at most.
    pub bytes: u64,
    /// How often.
    pub each: Each,
}

/// How often a part of the memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// Once.
    Once,
    /// For each possible CPU.
    Cpu,
    /// For each service.
    Service,
    /// For each limit of a service, of packets or new flows.
    Limit,
    /// For each access list of a service whose VIP is IPv4.
    List,
    /// For each prefix of an access list.
    Prefix,
    /// For each of `tracking_clients`.
    Client,
    /// The same, but for as many as the next power of two.
    ClientRoundedUp,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What the slot tables of a service take.
pub const SERVICE: u64 = MIB + 8 * KIB;
/// What the token buckets of a limit take.
pub const LIMIT: u64 = MIB + 4 * KIB;
/// What stands before the trie of an access list takes.
pub const LIST: u64 = 4 * MIB + 8 * KIB;
/// What a prefix of an access list takes: half of it for where the trie branches. The kernel accounts for less.
pub const PREFIX: u64 = 128;

/// All parts of what the maps of the XDP data plane take.
pub const MAPS: [Part; 12] = [
    part("directory, backends, loop filter, MACs, log and small ones", 2712 * KIB, Each::Once),
    part("rings", 4128 * KIB, Each::Once),
    part("first fragments", 260 * KIB, Each::Once),
    part("counters", 140 * KIB, Each::Once),
    part("counters and newcomers, for each possible CPU", 342 * KIB, Each::Cpu),
    part("each service: its slot table, both halves", SERVICE, Each::Service),
    part("each limit: its token buckets", LIMIT, Each::Limit),
    part("each access list: what stands before its trie", LIST, Each::List),
    part("each prefix of an access list", PREFIX, Each::Prefix),
    part("each tracked client, IPv4", 72, Each::Client),
    part("each tracked client, IPv6", 80, Each::Client),
    part("both, for each of as many as the next power of two", 32, Each::ClientRoundedUp),
];

/// What a controller of the XDP data plane has of its own at most (`RssAnon` in `/proc/PID/status`), with 1,000 backends
/// in 16 services.
pub const CONTROLLER: u64 = 32 * MIB;

const fn part(what: &'static str, bytes: u64, each: Each) -> Part {
    Part { what, bytes, each }
}

/// What the maps of the XDP data plane take at most, but for access lists and limits.
pub fn maps(services: u64, tracking_clients: u32, possible_cpus: u64) -> u64 {
    let times = |each| match each {
        Each::Once => 1,
        Each::Cpu => possible_cpus,
        Each::Service => services,
        Each::Limit | Each::List | Each::Prefix => 0,
        Each::Client => u64::from(tracking_clients),
        Each::ClientRoundedUp => u64::from(tracking_clients).next_power_of_two(),
    };
    MAPS.iter().map(|part| part.bytes * times(part.each)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the documentation writes it.
    fn written(bytes: u64) -> String {
        match bytes {
            0..KIB => format!("{bytes} bytes"),
            _ if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
            _ if bytes / KIB >= 1000 => format!("{},{:03} KiB", bytes / KIB / 1000, bytes / KIB % 1000),
            _ => format!("{} KiB", bytes / KIB),
        }
    }

    #[test]
    fn the_documentation_states_this_budget() {
        let stated = include_str!("../../docs/map-abi.md");
        for Part { what, bytes, .. } in MAPS {
            let row = format!("| {what} | {} |", written(bytes));
            assert!(stated.contains(&row), "docs/map-abi.md lacks the row\n{row}");
        }
        let controller = format!("at most {}", written(CONTROLLER));
        assert!(stated.contains(&controller), "docs/map-abi.md does not say: {controller}");
        let default = format!("{:.1} MiB", maps(0, 262_144, 0) as f64 / MIB as f64);
        assert!(stated.contains(&default), "docs/map-abi.md does not say: {default}");
    }
}
