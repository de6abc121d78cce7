//! Is there a BPF file system for the pins? Without one no controller starts.

use super::{Finding, Patient, Verdict};
use crate::dataplane::xdp::{self, OpenError};

pub(super) fn examine(patient: &Patient) -> Vec<Finding> {
    let dir = patient.bpffs.display().to_string();
    vec![match xdp::check_bpffs(&patient.bpffs) {
        Ok(()) => Finding::new(Verdict::Ok, dir, "is on a BPF file system"),
        Err(OpenError::NoBpffs { mount_point, .. }) => {
            let at = mount_point.display();
            Finding::new(Verdict::Problem, dir, "is not on a BPF file system: pen has no place for its pins")
                .fix(format!("mount -t bpf bpf {at}"))
                .fix(format!(
                    "to have it after a reboot without systemd (which mounts /sys/fs/bpf by itself), in /etc/fstab: bpf \
                     {at} bpf nosuid,nodev,noexec,mode=700 0 0"
                ))
        }
        Err(error) => Finding::new(Verdict::Skipped, dir, format!("cannot be looked at: {error}"))
            .fix("sudo pen-ctl doctor"),
    }]
}
