//! The desired state as a whole, as it is asked for and answered: applied, exported, kept, brought back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::state::difference::Difference;
use crate::state::revision::Revision;

/// How a desired state takes the place of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct How {
    /// Not at all: what would be other is all that is asked for.
    pub dry_run: bool,
    /// On trial: rolled back unless it is confirmed within this time.
    #[serde(with = "crate::state::text::optional_duration")]
    pub confirm: Option<Duration>,
}

/// What applying a file or restoring a state came to, or would come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppliedDocument {
    /// The desired state is other than before, or would be.
    pub changed: bool,
    /// Nothing was done.
    pub dry_run: bool,
    /// What is other.
    pub differences: Vec<Difference>,
    /// Until when it is on trial.
    pub trial: Option<TrialDocument>,
    /// What somebody should know about it, one line each.
    pub warnings: Vec<String>,
}

/// What waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialDocument {
    /// What was applied.
    pub what: String,
    /// When it is rolled back unless it is confirmed (RFC 3339).
    pub until: String,
    /// In how long that is.
    pub seconds_left: u64,
}

/// The desired state as a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDocument {
    /// Which desired state it is.
    pub revision: Revision,
    /// TOML that changes nothing when it is applied.
    pub toml: String,
}

/// The states that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryDocument {
    /// The newest first.
    pub states: Vec<StateDocument>,
}

/// A state that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDocument {
    /// What it is called.
    pub number: u64,
    /// It is the one that holds.
    pub current: bool,
    /// What it can be compared by; absent where it cannot be read.
    pub revision: Option<Revision>,
    /// When it came about (RFC 3339); of several changes, the last.
    pub time: String,
    /// The user id of whoever made it so, where known.
    pub user: Option<u32>,
    /// How it came about, in words.
    pub cause: String,
    /// How many changes it holds.
    pub changes: u64,
    /// What is other than in the state before, in a few words.
    pub summary: String,
    /// Why it cannot be read; absent where it can.
    pub damaged: Option<String>,
}

/// A state that is kept, with all that it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDetail {
    /// What it is.
    pub state: StateDocument,
    /// As a configuration file.
    pub toml: String,
    /// What would be other than now if it were restored.
    pub differences: Vec<Difference>,
}
