//! Has the controller the capabilities it needs? Without one that runs: would one started from here?

use super::{Finding, Patient, Verdict};
use crate::dataplane::xdp;

/// The only one that pen can do without: it does not announce VIPs then.
const ANNOUNCE: &str = "CAP_NET_RAW";

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    let pid = patient.controller.as_ref().ok().map(|status| status.controller.pid);
    let on = match pid {
        Some(pid) => format!("the controller (pid {pid})"),
        None => "this process".to_owned(),
    };
    let Some(missing) = xdp::lacks(pid) else {
        return vec![Finding::new(Verdict::Skipped, on, "/proc does not say which capabilities it has")];
    };
    if missing.is_empty() {
        return vec![Finding::new(Verdict::Ok, on, "has every capability that pen needs")];
    }
    let (verdict, without) = match missing.as_slice() {
        [ANNOUNCE] => (Verdict::Warning, "VIPs are answered for, but not announced"),
        _ => (Verdict::Problem, "no controller can load its program and attach it"),
    };
    vec![
        Finding::new(verdict, on, format!("lacks {}: without, {without}", missing.join(" and ")))
            .fix("run pen-ctl as root (sudo)")
            .fix(
                "or give it all it needs: setcap cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw=ep \
                 /usr/local/bin/pen-ctl",
            )
            .fix("or in pen.service: AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON CAP_NET_RAW"),
    ]
}
