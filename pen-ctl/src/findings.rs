//! What `pen-ctl doctor` found, as it is printed.

use serde::{Deserialize, Serialize};

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It was not, or could not be, looked at.
    Skipped,
    /// It may be wrong, or is wrong and does little harm.
    Warning,
    /// It is wrong.
    Problem,
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the check.
    pub check: String,
    /// What it came to.
    pub verdict: Verdict,
    /// On what: a path, an interface, a backend; may be empty.
    pub on: String,
    /// What was found, in words.
    pub what: String,
    /// What to do, one step a line; empty where there is nothing to do.
    pub fix: Vec<String>,
}

/// What all checks found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorDocument {
    /// In the order of the checks; each has at least one.
    pub findings: Vec<Finding>,
    /// How many of them are problems.
    pub problems: usize,
}
