//! Is a VIP an address of this machine, too? Then what comes for the machine itself goes to the backends.

use super::{Finding, Patient, Verdict, or_ok};
use crate::api::document::ServiceDocument;
use crate::own_address;

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    if let Err(why) = &patient.controller {
        return vec![Finding::new(Verdict::Skipped, "", format!("which VIPs there are is not known: {why}"))];
    }
    let services: Vec<&ServiceDocument> = patient.services().collect();
    if services.is_empty() {
        return vec![Finding::new(Verdict::Skipped, "", "there are no services")];
    }
    let findings = services.iter().filter_map(|service| examine_one(patient, service)).collect();
    or_ok(findings, || {
        let mut vips: Vec<String> = services.iter().map(|service| service.vip.address.to_string()).collect();
        vips.sort();
        vips.dedup();
        Finding::new(Verdict::Ok, vips.join(", "), "this machine is not reached by a VIP")
    })
}

fn examine_one(patient: &Patient, service: &ServiceDocument) -> Option<Finding> {
    let what = own_address::warning(&service.vip, patient.links())?;
    // An exact port may be meant so; nobody means to lose the whole machine.
    let verdict = if service.vip.is_every_port() { Verdict::Problem } else { Verdict::Warning };
    let name = &service.name;
    let mut finding = Finding::new(verdict, format!("service {name}"), what).fix(format!(
        "give it a VIP that this machine does not have: pen-ctl service set {name} --vip VIP:PORT/PROTO"
    ));
    if let Some(address) = service.vip.ip()
        && let Some((prefix, interface)) = patient.where_owned(address)
    {
        finding = finding.fix(format!(
            "if {address} is only there to be the VIP, take it off, pen answers for it: ip address del {address}/{prefix} \
             dev {interface}"
        ));
    }
    Some(finding)
}
