//! Which keys a configuration file may have: checked before values, with their places.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::check::HEALTH_KEYS;
use crate::state::rate_limit::KEYS as RATE_LIMIT_KEYS;

/// What a table may contain.
struct Level {
    /// What the table is called in messages.
    name: &'static str,
    known: &'static [&'static str],
    /// Keys whose values are tables (or arrays of tables) of their own.
    below: &'static [(&'static str, &'static Level)],
}

const FILE: Level = Level {
    name: "a configuration",
    known: &[
        "dataplane",
        "seed",
        "interfaces",
        "http",
        "tracking_clients",
        "flood_inserts_per_cpu",
        "service",
    ],
    below: &[("interfaces", &INTERFACE), ("service", &SERVICE)],
};

const INTERFACE: Level = Level { name: "an interface", known: &["name", "mode", "announce"], below: &[] };

const SERVICE: Level = Level {
    name: "a service",
    known: &[
        "name",
        "vip",
        "affinity",
        "scheduler",
        "tracking",
        "tracking_timeout",
        "transition",
        "on_empty",
        "health",
        "allow",
        "deny",
        "rate_limit",
        "panic",
        "slow_start",
        "on_change",
        "connect_timeout",
        "idle_timeout",
        "max_connections",
        "stubborn",
        "transparent",
        "proxy_protocol",
        "proxy_protocol_from",
        "on_down",
        "backend",
    ],
    below: &[("backend", &BACKEND), ("health", &HEALTH), ("rate_limit", &RATE_LIMIT)],
};

const BACKEND: Level = Level {
    name: "a backend",
    known: &["address", "weight", "priority", "mac", "vlan", "state", "health", "soft_limit", "hard_limit"],
    below: &[("health", &HEALTH)],
};

/// Which of them a kind takes is for [`crate::check`] to say.
const HEALTH: Level = Level { name: "a health check", known: HEALTH_KEYS, below: &[] };

const RATE_LIMIT: Level = Level { name: "a rate limit", known: RATE_LIMIT_KEYS, below: &[] };

/// Finds the first key that should not be there: where it is, and what to say.
pub(super) fn check(file: &DeTable<'_>) -> Result<(), (Range<usize>, String)> {
    table(file, &FILE)
}

fn table(table: &DeTable<'_>, level: &Level) -> Result<(), (Range<usize>, String)> {
    for (key, content) in table.iter() {
        let name: &str = key.get_ref();
        if !level.known.contains(&name) {
            let known = level.known.join(", ");
            return Err((key.span(), format!("unknown key `{name}` in {}; known are {known}", level.name)));
        }
        if let Some((_, below)) = level.below.iter().find(|(key, _)| *key == name) {
            value(content.get_ref(), below)?;
        }
    }
    Ok(())
}

/// Looks into tables; values of other types are left to whoever reads them.
fn value(content: &DeValue<'_>, level: &Level) -> Result<(), (Range<usize>, String)> {
    match content {
        DeValue::Table(below) => table(below, level),
        DeValue::Array(all) => all.iter().try_for_each(|one| value(one.get_ref(), level)),
        _ => Ok(()),
    }
}
