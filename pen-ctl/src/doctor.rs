//! What is wrong with a set-up: checks in a fixed order, each of which names what, on what, and the fix to type.
//!
//! One file per check, one line for it in `CHECKS`. A check looks and asks; it changes nothing, and what it sends goes
//! to backends and the link from the balancer's own addresses, never to clients.

mod answerers;
mod bpffs;
mod capabilities;
mod controller;
mod listening;
mod losses;
mod own_address;
mod patient;
mod probe;
mod programs;
mod vip;

pub use crate::findings::{DoctorDocument, Finding, Verdict};
pub use patient::Patient;

type Examine = fn(&Patient) -> Vec<Finding>;

/// The checks, in their order: what later ones need comes first.
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

/// Those of them that are about packets, and so about nothing while the proxy runs.
const OF_XDP: [&str; 7] =
    ["bpffs", "capabilities", "foreign-programs", "own-address", "who-answers", "backend-vip", "losses"];

/// Runs all checks.
pub fn examine(patient: &Patient) -> DoctorDocument {
    let mut findings = Vec::new();
    for (name, examine) in CHECKS {
        let found = match patient.is_proxied() && OF_XDP.contains(&name) {
            true => vec![Finding::new(Verdict::Skipped, "", "it is about XDP, and the proxy runs")],
            false => examine(patient),
        };
        findings.extend(found.into_iter().map(|finding| Finding { check: name.to_owned(), ..finding }));
    }
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
    DoctorDocument { findings, problems }
}

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
fn or_ok(findings: Vec<Finding>, well: impl FnOnce() -> Finding) -> Vec<Finding> {
    match findings.iter().any(|finding| finding.verdict != Verdict::Skipped) {
        true => findings,
        false => [vec![well()], findings].concat(),
    }
}
