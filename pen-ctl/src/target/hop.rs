//! Where a backend is asked how it is: as clients' packets come to it, where that can be.

use std::collections::BTreeSet;

use super::{Seen, path};
use crate::check::{Check, Way};
use crate::dataplane::Kind;
use crate::state::desired::{Backend, Service};
use crate::surroundings::{Hop, Lane, Resolution};

/// Where a check of a backend asks.
pub fn hop(
    service: &Service,
    backend: &Backend,
    check: &Check,
    kind: Kind,
    seen: &Seen,
    attached: &BTreeSet<u32>,
) -> Hop {
    let (Some(vip), Some(address)) = (service.vip.ip(), backend.address.ip()) else { return Hop::Own };
    if kind == Kind::Proxy || way(check, backend) == Way::Direct {
        return Hop::Own;
    }
    match (path(service, backend, seen, attached), seen.resolution(backend)) {
        (Ok(path), _) if path.local => Hop::Own,
        (Ok(path), Some(Resolution::OnLink { ifindex, .. })) => {
            let lane = Lane { vip, backend: address, mac: path.mac, ifindex: *ifindex };
            Hop::Link { lane, or_own: check.way.is_none() }
        }
        // It fails on its own address, too, and so must come up again before it serves again.
        (_, Some(Resolution::Unreachable(_))) => Hop::Own,
        (Ok(_), _) => Hop::Waiting("waiting for its MAC".into()),
        (Err(why), _) => Hop::Waiting(why),
    }
}

/// The way that is meant. In a VLAN that this host has no foot in nothing of its own could come back.
fn way(check: &Check, backend: &Backend) -> Way {
    match check.way {
        Some(way) => way,
        None if !check.kind.can_ask_the_vip() || backend.vlan.is_some() => Way::Direct,
        None => Way::Dsr,
    }
}

#[cfg(test)]
mod tests;
