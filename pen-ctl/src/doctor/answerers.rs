//! Does a backend answer ARP or neighbor solicitations for a VIP? Then clients' packets go to it past the balancer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::listening::{Content, Heard, Wire};
use super::patient::Seat;
use super::{Finding, Patient, Verdict, or_ok, probe};
use crate::dataplane::Mac;

/// How often is asked, and how long is listened each time. A proxy for neighbor discovery waits up to 0.8 s before it
/// answers (`proxy_delay`, ip-sysctl).
const ROUNDS: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1000)];

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    if let Err(why) = &patient.controller {
        return vec![Finding::new(Verdict::Skipped, "", format!("which VIPs there are is not known: {why}"))];
    }
    let vips: BTreeSet<IpAddr> = patient.services().filter_map(|service| service.vip.ip()).collect();
    let questions: Vec<(IpAddr, Seat)> = vips
        .iter()
        .flat_map(|vip| patient.seats(vip.is_ipv4()).into_iter().map(move |seat| (*vip, seat)))
        .collect();
    let mut findings: Vec<Finding> = vips
        .iter()
        .filter(|vip| questions.iter().all(|(asked, _)| asked != *vip))
        .map(|vip| {
            let what = "there is no attached interface with an address of that family to ask from";
            Finding::new(Verdict::Skipped, vip.to_string(), what)
        })
        .collect();
    if vips.is_empty() {
        return vec![Finding::new(Verdict::Skipped, "", "there are no services")];
    }
    if questions.is_empty() {
        return findings;
    }
    let answers = match ask(patient, &questions) {
        Ok(answers) => answers,
        Err(finding) => return vec![finding],
    };
    findings.extend(answers.iter().map(|(vip, mac)| answered(patient, *vip, *mac)));
    or_ok(findings, || {
        let vips: Vec<String> = vips.iter().map(ToString::to_string).collect();
        Finding::new(Verdict::Ok, vips.join(", "), "nobody but pen answers ARP and neighbor solicitations")
    })
}

/// Who answers for which VIP, ourselves left out.
fn ask(patient: &Patient, questions: &[(IpAddr, Seat)]) -> Result<BTreeSet<(IpAddr, Mac)>, Finding> {
    let wire = Wire::open()?;
    let mut answers = BTreeSet::new();
    for span in ROUNDS {
        for (vip, seat) in questions {
            if let Some(frame) = probe::who_has(*vip, seat) {
                wire.send(seat.ifindex, &frame);
            }
        }
        let hear = |heard: Heard| match heard.content {
            Content::Here { address, mac }
                if questions.iter().any(|(vip, _)| *vip == address)
                    && !patient.is_our_mac(mac)
                    && !patient.is_our_mac(heard.from_mac) =>
            {
                answers.insert((address, mac));
            }
            _ => {}
        };
        wire.listen(span, hear)
            .map_err(|error| Finding::new(Verdict::Skipped, "", format!("listening failed: {error}")))?;
    }
    Ok(answers)
}

fn answered(patient: &Patient, vip: IpAddr, mac: Mac) -> Finding {
    let how = if vip.is_ipv4() { "ARP" } else { "neighbor solicitations" };
    match patient.backend_at(mac, vip.is_ipv4()) {
        Some(backend) => {
            let on = format!("backend {} ({mac})", backend.address);
            let what =
                format!("answers {how} for the VIP {vip}: clients' packets go to it past the balancer");
            let fix = format!("on {}: pen-ctl backend-setup {vip} --apply", backend.address);
            Finding::new(Verdict::Problem, on, what).fix(fix)
        }
        None => Finding::new(
            Verdict::Warning,
            mac.to_string(),
            format!("answers {how} for the VIP {vip}, and is no backend's MAC that pen knows"),
        )
        .fix("another balancer with the same services may do that")
        .fix(format!("any other host must not: on it, pen-ctl backend-setup {vip} --apply")),
    }
}
