//! Does the driver send what pen hands it? What it loses nobody else sees: pen counted it as forwarded or answered.

use super::{Finding, Patient, Verdict, or_ok};
use crate::api::document::{InterfaceDocument, InterfaceState};

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    let status = match &patient.controller {
        Ok(status) => status,
        Err(why) => {
            let what = format!("what drivers lose is not known: {why}");
            return vec![Finding::new(Verdict::Skipped, "", what)];
        }
    };
    let attached: Vec<&InterfaceDocument> =
        status.interfaces.iter().filter(|one| one.state == InterfaceState::Attached).collect();
    if attached.is_empty() {
        return vec![Finding::new(Verdict::Skipped, "", "no interface is attached")];
    }
    let losing = attached.iter().filter(|one| one.tx_errors_last_minute > 0);
    or_ok(losing.map(|one| loses(one)).collect(), || {
        let names: Vec<&str> = attached.iter().map(|one| one.name.as_str()).collect();
        let earlier: u64 = attached.iter().filter_map(|one| one.tx_errors).sum();
        let what = match earlier {
            0 => "no packet was lost after pen sent it, as far as drivers tell".to_owned(),
            lost => {
                format!("no packet was lost within the last minute after pen sent it; {lost} were before")
            }
        };
        Finding::new(Verdict::Ok, names.join(", "), what)
    })
}

fn loses(interface: &InterfaceDocument) -> Finding {
    let InterfaceDocument { name, tx_errors_last_minute: lost, .. } = interface;
    let what = format!("its driver lost {lost} of the packets that pen sent, within the last minute");
    Finding::new(Verdict::Warning, name, what)
        .fix("a veth (tests, containers): its other end needs an XDP program, one that passes everything will do")
        .fix(format!("a card: `ethtool -S {name}` tells which queue, `ethtool -G {name} tx N` makes rings longer"))
}
