//! What a backend of direct server return needs: it owns the VIP without telling its link, so that only pen answers.
//!
//! IPv4: Linux answers ARP for any of its addresses on any interface, unless `arp_ignore` says otherwise, and names any
//! of them as the sender of its own requests, unless `arp_announce` does (kernel document networking/ip-sysctl).
//! IPv6: neighbor solicitations are answered only for addresses of the interface they arrive on, forwarding or not
//! (RFC 4861, section 7.2.3); only an entry made with `ip -6 neigh add proxy` is answered for beside those. So an
//! address on `lo` is all it takes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::api::ApiError;
use crate::state::validate;

pub mod forms;
#[cfg(target_os = "linux")]
pub mod perform;

/// The interface that everybody has and that answers for nothing.
pub const LOOPBACK: &str = "lo";

/// A VIP to own, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// At least one, none twice.
    pub vips: Vec<IpAddr>,
    /// `lo`, or a dummy interface.
    pub interface: String,
}

impl Setup {
    /// Refuses addresses that cannot be VIPs.
    ///
    /// # Errors
    /// Names the address, why not, and what to do.
    pub fn new(vips: &[IpAddr], interface: &str) -> Result<Setup, ApiError> {
        validate::interface_name(interface)?;
        let mut setup = Setup { vips: Vec::new(), interface: interface.to_owned() };
        for &vip in vips {
            if let Some(why) = validate::not_a_host(vip).or_else(|| link_local(vip)) {
                return Err(ApiError::invalid(
                    format!("VIP {vip} is {why}"),
                    "use an address that clients can reach",
                ));
            }
            if !setup.vips.contains(&vip) {
                setup.vips.push(vip);
            }
        }
        Ok(setup)
    }

    /// Whether any of them is IPv4: ARP is then to be held back.
    pub fn has_v4(&self) -> bool {
        self.vips.iter().any(IpAddr::is_ipv4)
    }
}

/// RFC 3927: it means another host on each link.
fn link_local(vip: IpAddr) -> Option<&'static str> {
    matches!(vip, IpAddr::V4(v4) if v4.is_link_local())
        .then_some("a link-local address, which is not the same host on every link")
}

/// The length of the prefix that names one host.
fn host_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// What was done about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The address was not there, now it is.
    Added,
    /// The setting was another, now it is as needed.
    Set,
    /// It was so already.
    Already,
    /// The address was there, now it is not.
    Removed,
    /// The setting is what it was before `--apply`.
    Restored,
    /// Not touched; the detail says why.
    Left,
}

/// One thing that was done, or was found as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDocument {
    /// What became of it.
    pub outcome: Outcome,
    /// `10.0.0.100/32 on lo`, `net.ipv4.conf.all.arp_ignore = 1`.
    pub what: String,
    /// What it was before, or why it was left; may be empty.
    pub detail: String,
}

/// What `--apply` and `--undo` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupDocument {
    /// Something is other than before.
    pub changed: bool,
    /// What was done, in order.
    pub steps: Vec<StepDocument>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_vip_is_refused_with_its_reason() {
        for (vip, why) in [
            ("224.0.0.5", "a multicast address"),
            ("ff02::1", "a multicast address"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("127.0.0.1", "a loopback address"),
            ("::1", "a loopback address"),
            ("0.0.0.0", "unspecified"),
            ("255.255.255.255", "the broadcast address"),
            ("::ffff:10.0.0.1", "an IPv4 address written as IPv6"),
        ] {
            let error = Setup::new(&[vip.parse().unwrap()], LOOPBACK).unwrap_err().to_string();
            assert!(error.starts_with(&format!("VIP {vip} is ")) && error.contains(why), "{error}");
        }
        assert!(Setup::new(&["10.0.0.100".parse().unwrap()], "e/0").is_err());
    }

    #[test]
    fn a_vip_named_twice_is_one() {
        let vip = "10.0.0.100".parse().unwrap();
        assert_eq!(Setup::new(&[vip, vip], LOOPBACK).unwrap().vips, [vip]);
    }
}
