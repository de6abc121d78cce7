//! Has somebody else an XDP program on an interface that pen is to be attached to? An interface has room for one.

use super::{Finding, Patient, Verdict, or_ok};
use crate::dataplane::xdp;

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    let foreign = match xdp::foreign_programs(&patient.bpffs) {
        Ok(foreign) => foreign,
        Err(error) => {
            let what = format!("XDP programs cannot be looked at: {error}");
            return vec![Finding::new(Verdict::Skipped, "", what).fix("sudo pen-ctl doctor")];
        }
    };
    let wanted = patient.wanted_interfaces();
    let missing = wanted.iter().filter(|name| patient.link(name).is_none()).map(|name| {
        Finding::new(Verdict::Warning, *name, "there is no such interface in this network namespace")
            .fix("`ip link` lists those there are; pen attaches to it as soon as it appears")
    });
    let mut findings: Vec<Finding> = missing.collect();
    for (interface, program) in &foreign {
        let is_wanted = wanted.contains(&interface.as_str());
        if !is_wanted && !wanted.is_empty() {
            continue;
        }
        let (verdict, so) = match is_wanted {
            true => (Verdict::Problem, "pen cannot attach there"),
            false => (Verdict::Warning, "pen could not attach there"),
        };
        findings.push(
            Finding::new(verdict, interface, format!("{program} is on it and is not pen's: {so}"))
                .fix(program.way_out.clone()),
        );
    }
    or_ok(findings, || {
        let on = if wanted.is_empty() { "all interfaces".to_owned() } else { wanted.join(", ") };
        Finding::new(Verdict::Ok, on, "nobody else's XDP program is there")
    })
}
