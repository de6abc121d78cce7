//! What tests of several modules make up of the machine around.

use std::collections::BTreeSet;

use super::Link;
use crate::dataplane::Mac;

/// An Ethernet interface that is up, with a MAC of its own.
pub(crate) fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Some(Mac([2, 0, 0, 0, 9, index as u8])),
        ethernet: true,
        loopback: false,
        addresses: BTreeSet::new(),
        up: true,
        master: None,
        vlan: None,
        bond: false,
        xdp_program: None,
    }
}
