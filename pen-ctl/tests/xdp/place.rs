//! A place to test in: a network and a mount namespace of the test's own, gone with its thread.
#![allow(unsafe_code, reason = "namespaces are entered by unshare(2)")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use pen_ctl::dataplane::xdp::{OpenError, OpenOptions, Policy, XdpPlane};
use pen_ctl::dataplane::{AttachMode, InterfaceTarget, Mac};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::needs;

/// Bit of CAP_SYS_ADMIN in the capability sets of /proc.
const CAP_SYS_ADMIN: u32 = 21;

/// Namespaces of this thread, a bpffs, and the id of an instance.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Enters new namespaces with the calling thread; `None` (said aloud) where that is not permitted.
    pub(crate) fn enter() -> Option<Self> {
        if !needs::met((!is_root()).then_some("root: namespaces, bpffs and XDP")) {
            return None;
        }
        // SAFETY: a thread of a test shares no descriptor table or memory by these flags.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.unwrap();
        // The interfaces' own chatter (router solicitations, group reports) would be counted with the tests' frames.
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount("none", dir.path(), "bpf", MountFlags::empty(), None).unwrap();
        Some(Self { dir })
    }

    /// The pin directory.
    pub(crate) fn pins(&self) -> PathBuf {
        self.dir.path().join("pen")
    }

    /// Opens this place's data plane.
    pub(crate) fn open(&self) -> Result<XdpPlane, OpenError> {
        XdpPlane::open(&self.options())
    }

    /// How this place's data plane is opened.
    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions { dir: self.pins(), instance: [7; 16], tracking_clients: 4096, policy: Policy::Adopt }
    }

    /// Makes a veth pair, both ends here; returns the first end as it should be attached.
    pub(crate) fn interface(&self, name: &str, peer: &str) -> InterfaceTarget {
        ip(&["link", "add", name, "type", "veth", "peer", "name", peer]);
        ip(&["link", "set", name, "up"]);
        ip(&["link", "set", peer, "up"]);
        target(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A directory that is mounted on cannot be removed.
        let _ = unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

/// An interface as it should be attached.
pub(crate) fn target(name: &str) -> InterfaceTarget {
    let (ifindex, mac) = link(name);
    InterfaceTarget { ifindex, mac, master_mac: None, mode: AttachMode::Auto, announce: true }
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Id of the XDP program on an interface.
pub(crate) fn program_on(name: &str) -> Option<u32> {
    let shown: serde_json::Value =
        serde_json::from_str(&ip(&["-json", "link", "show", "dev", name])).unwrap();
    shown[0]["xdp"]["prog"]["id"].as_u64().map(|id| id as u32)
}

fn link(name: &str) -> (u32, Mac) {
    let shown: serde_json::Value =
        serde_json::from_str(&ip(&["-json", "link", "show", "dev", name])).unwrap();
    let mac = shown[0]["address"].as_str().unwrap().split(':');
    let mac: Vec<u8> = mac.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    (shown[0]["ifindex"].as_u64().unwrap() as u32, Mac(mac.try_into().unwrap()))
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() & (1 << CAP_SYS_ADMIN) != 0
}
