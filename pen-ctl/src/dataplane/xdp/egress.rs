//! Frames that come in by one interface and leave by another: what that takes of the one they leave by.

use std::collections::{BTreeMap, BTreeSet};

use super::error::chain;
use super::{XdpPlane, features};
use crate::dataplane::{AttachMode, ObservedInterface};

impl XdpPlane {
    /// Lets frames from other interfaces leave by this one.
    pub(super) fn open_egress(&mut self, name: &str, ifindex: u32) {
        if let Err(error) = self.maps.egress.insert(ifindex, ifindex, None, 0) {
            // What this leads to is told by `egress_seen`.
            tracing::debug!(interface = name, "let packets leave by it: {}", chain(&error));
        }
    }

    /// Ends that.
    pub(super) fn close_egress(&mut self, ifindex: u32) {
        // The kernel removes the entry by itself when the interface goes.
        let _ = self.maps.egress.remove(ifindex);
    }

    /// Whether packets from other interfaces find the way to this one; where not, in words.
    pub(super) fn egress_seen(&self, ifindex: u32) -> Option<String> {
        let open = self.maps.egress.get(ifindex, 0).is_ok_and(|found| found.if_index == ifindex);
        let why = "packets that come in by other interfaces cannot leave by it: the kernel does not keep it in the \
                   device map; detach it and attach it again";
        (!open).then(|| why.to_owned())
    }

    /// Adds what stands in the way of frames that other interfaces hand to those that `backends` are behind.
    ///
    /// In generic mode the stack sends them, as it sends anything. In native mode the target's driver has to take them, and
    /// drops them silently where it does not: what counts is the mode of the interface that they came in by.
    pub(super) fn add_egress_troubles(
        interfaces: &mut BTreeMap<String, ObservedInterface>,
        backends: &BTreeSet<u32>,
    ) {
        let native = |found: &ObservedInterface| found.attached && found.mode == AttachMode::Native;
        let native: Vec<String> =
            interfaces.iter().filter(|(_, found)| native(found)).map(|(name, _)| name.clone()).collect();
        for (name, found) in interfaces.iter_mut() {
            let ifindex = found.target.ifindex;
            let from: Vec<&str> = native.iter().filter(|other| *other != name).map(String::as_str).collect();
            if !found.attached || from.is_empty() || !backends.contains(&ifindex) {
                continue;
            }
            found.troubles.extend(why_not_taken(name, &from.join(", "), features::takes_redirected(ifindex)));
        }
    }
}

fn why_not_taken(name: &str, from: &str, takes: std::io::Result<Option<bool>>) -> Option<String> {
    let why = match takes {
        Ok(Some(true)) => return None,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return None,
        Ok(Some(false)) => {
            return Some(format!(
                "packets from {from} to backends behind it are lost: its driver takes no frames from other interfaces (no \
                 ndo-xmit among its xdp-features); of a veth the other end needs GRO (`ethtool -K PEER gro on`) or an XDP \
                 program; else attach {from} with `--mode generic`"
            ));
        }
        Ok(None) => "this kernel is older than 6.3".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!(
        "whether its driver takes packets from {from} to backends behind it cannot be found out ({why}); if it does not, \
         they are lost: see that {name} sends them, or attach {from} with `--mode generic`"
    ))
}
