//! Why the XDP data plane could not be opened, in words for the administrator.

use std::io;
use std::path::PathBuf;

use super::{hex, privilege};

/// What to do about what the kernel refused, unless its reason has advice of its own.
pub(super) fn advice(why: &str) -> &'static str {
    if why.contains("; ") { "" } else { "`pen-ctl doctor` looks for what is missing" }
}

/// Why the pins could not be looked at, adopted, built or removed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Capabilities are missing.
    #[error("not privileged enough for XDP: {} missing; run as root, or give the process these capabilities",
            .missing.join(" and "))]
    NoPrivilege {
        /// Their names: `CAP_BPF`, `CAP_NET_ADMIN`, `CAP_PERFMON`.
        missing: Vec<&'static str>,
    },
    /// The pin directory is not on a BPF file system.
    #[error("no BPF file system at {}; mount one: mount -t bpf bpf {}", .dir.display(), .mount_point.display())]
    NoBpffs {
        /// The pin directory.
        dir: PathBuf,
        /// Where one should be mounted.
        mount_point: PathBuf,
    },
    /// Another controller runs on the pins.
    #[error("the pins in {} are in use by another controller{}; stop that one, or use another --bpffs directory",
            .dir.display(), .pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    InUse {
        /// The pin directory.
        dir: PathBuf,
        /// Its process, where the kernel tells.
        pid: Option<u32>,
    },
    /// The pins belong to another state.
    #[error("the pins in {} belong to another instance ({}, this state's is {}); run with --adopt to take them \
             over, or with --discard to remove them", .dir.display(), hex(.pins), hex(.state))]
    ForeignInstance {
        /// The pin directory.
        dir: PathBuf,
        /// The id in the pins.
        pins: [u8; 16],
        /// The id in the state.
        state: [u8; 16],
    },
    /// The pins are of another version of pen.
    #[error("the pins in {} have map ABI {found}, this pen-ctl has {}; run the pen-ctl that made them, or \
             run with --discard to remove them (forwarding stops until they are built anew)",
            .dir.display(), pen_common::abi::ABI_VERSION)]
    OtherAbi {
        /// The pin directory.
        dir: PathBuf,
        /// The version found.
        found: u32,
    },
    /// There are links, but nothing that says whose.
    #[error("there are pinned XDP links in {} without a valid instance record; run with --discard to remove \
             them, or use another --bpffs directory", .dir.display())]
    Unidentified {
        /// The pin directory.
        dir: PathBuf,
    },
    /// A pinned map is not what this version pins under its name.
    #[error("the pinned map {} {difference}; run with --discard to remove the pins", .path.display())]
    MapMismatch {
        /// Its pin.
        path: PathBuf,
        /// In what: `holds 12 entries instead of 16`.
        difference: String,
    },
    /// The kernel refused.
    #[error("{what}: {why}{}{}", if advice(.why).is_empty() { "" } else { "; " }, advice(.why))]
    Kernel {
        /// What failed, on what.
        what: String,
        /// The kernel's reason; of the verifier, the last line.
        why: String,
    },
}

impl OpenError {
    /// An error of the kernel or the file system; for lack of privilege the missing capability is named.
    pub(super) fn from_io(what: impl Into<String>, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let missing = privilege::missing();
            if !missing.is_empty() {
                return Self::NoPrivilege { missing };
            }
        }
        Self::Kernel { what: what.into(), why: error.to_string() }
    }

    /// An error of aya: the whole chain of causes in one line.
    pub(super) fn from_aya(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = Some(error);
        while let Some(cause) = causes {
            if let Some(io_error) = cause.downcast_ref::<io::Error>()
                && io_error.kind() == io::ErrorKind::PermissionDenied
            {
                return Self::from_io(what, io_error);
            }
            causes = cause.source();
        }
        Self::Kernel { what: what.into(), why: chain(error) }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        // The verifier's log has many lines; the last but the statistics says why.
        let text = text
            .lines()
            .rfind(|line| !line.trim().is_empty() && !line.starts_with("processed "))
            .unwrap_or("");
        if !line.contains(text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(text);
        }
        next = cause.source();
    }
    line
}
