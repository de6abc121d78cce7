//! Does a controller answer? Without one packets flow on, but nobody looks whether backends are well. And could the next
//! one start: can its state be read?

use super::{Finding, Patient, Verdict};
use crate::api::ApiError;
use crate::dataplane::xdp;
use crate::state::store::{Store, StoreError};

/// What starts one.
const START: &str = "systemctl start pen; without systemd: pen-ctl run (with -c FILE, if it had one)";
/// What tells why the last one ended.
const WHY: &str = "why it ended is in its log: journalctl -u pen, or /var/log/pen.log";

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    let state = Store::peek(&patient.state_dir);
    let mut findings = vec![match &patient.controller {
        Ok(status) => {
            let on = format!("pid {}", status.controller.pid);
            Finding::new(Verdict::Ok, on, "the controller answers")
        }
        Err(why) => {
            let wants = state
                .as_ref()
                .is_ok_and(|state| state.as_ref().is_some_and(|(desired, _)| !desired.interfaces.is_empty()));
            unanswered(patient, why, wants)
        }
    }];
    if let Err(damage @ StoreError::Unreadable { .. }) = state {
        let ApiError { message, hint, .. } = damage.into();
        findings.push(Finding::new(Verdict::Problem, "", message).fix(match patient.controller {
            Ok(_) => {
                "the controller does not need it before its next start: the next change writes it anew".into()
            }
            Err(_) => hint,
        }));
    }
    findings
}

/// Nobody answers: how bad that is depends on what was asked of the one that is missing. `wants` = the state names
/// interfaces.
fn unanswered(patient: &Patient, why: &str, wants: bool) -> Finding {
    let what = match xdp::has_links(&patient.bpffs) {
        Ok(true) => {
            "packets are still forwarded, but nobody checks backends any more: one that dies keeps its clients"
        }
        Ok(false) if wants => "nothing is forwarded, although the state names interfaces to attach",
        Ok(false) => return Finding::new(Verdict::Skipped, "", format!("none is needed yet: {why}")),
        Err(error) => {
            let what = format!("{why}; whether packets are forwarded cannot be looked at: {error}");
            return Finding::new(Verdict::Skipped, "", what).fix("sudo pen-ctl doctor");
        }
    };
    Finding::new(Verdict::Problem, "", format!("{why}: {what}")).fix(START).fix(WHY)
}
