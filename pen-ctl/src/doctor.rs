//! What is wrong with a set-up: checks in a fixed order, each of which names what, on what, and the fix to type.
//!
//! One file per check, one line for it in `CHECKS`. A check looks and asks; it changes nothing, and what it sends goes
//! to backends and the link from the balancer's own addresses, never to clients.

use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
mod answerers;
#[cfg(target_os = "linux")]
mod bpffs;
#[cfg(target_os = "linux")]
mod capabilities;
#[cfg(target_os = "linux")]
mod controller;
#[cfg(target_os = "linux")]
mod listening;
#[cfg(target_os = "linux")]
mod losses;
#[cfg(target_os = "linux")]
mod own_address;
#[cfg(target_os = "linux")]
mod patient;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod programs;
#[cfg(target_os = "linux")]
mod vip;

#[cfg(target_os = "linux")]
pub use patient::Patient;

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

#[cfg(target_os = "linux")]
type Examine = fn(&Patient) -> Vec<Finding>;

/// The checks, in their order: what later ones need comes first.
#[cfg(target_os = "linux")]
const CHECKS: [(&str, Examine); 8] = [
    ("controller", controller::examine),
    ("bpffs", bpffs::examine),
    ("capabilities", capabilities::examine),
    ("foreign-programs", programs::examine),
    ("own-address", own_address::examine),
    ("who-answers", answerers::examine),
    ("backend-vip", vip::examine),
    ("losses", losses::examine),
];

/// Runs all checks.
#[cfg(target_os = "linux")]
pub fn examine(patient: &Patient) -> DoctorDocument {
    let mut findings = Vec::new();
    for (name, examine) in CHECKS {
        let found = examine(patient);
        findings.extend(found.into_iter().map(|finding| Finding { check: name.to_owned(), ..finding }));
    }
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
    DoctorDocument { findings, problems }
}

#[cfg(target_os = "linux")]
impl Finding {
    fn new(verdict: Verdict, on: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding { check: String::new(), verdict, on: on.into(), what: what.into(), fix: Vec::new() }
    }

    /// One more step to take.
    fn fix(mut self, step: impl Into<String>) -> Finding {
        self.fix.push(step.into());
        self
    }
}

/// What a check found, or that all is well: a check that found something to look at says that alone.
#[cfg(target_os = "linux")]
fn or_ok(findings: Vec<Finding>, well: impl FnOnce() -> Finding) -> Vec<Finding> {
    match findings.iter().any(|finding| finding.verdict != Verdict::Skipped) {
        true => findings,
        false => [vec![well()], findings].concat(),
    }
}
