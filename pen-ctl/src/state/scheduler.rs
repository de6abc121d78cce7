//! How schedulers are written: `maglev`, `round-robin`, `least-connections`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};

use super::text::{self, TextError};
use crate::dataplane::Scheduler;

impl FromStr for Scheduler {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "maglev" => Ok(Self::Maglev),
            "round-robin" => Ok(Self::RoundRobin),
            "least-connections" => Ok(Self::LeastConnections),
            _ => Err(TextError(format!(
                "unknown scheduler `{text}`; use maglev, round-robin or least-connections"
            ))),
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Maglev => "maglev",
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
        })
    }
}

impl<'de> Deserialize<'de> for Scheduler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parsed(deserializer, "\"maglev\", \"round-robin\" or \"least-connections\"", str::parse)
    }
}
