//! Counts on the switch which way packets of the VIPs went: through the balancer, or past it.

use std::net::IpAddr;

use crate::lab::address::Family;
use crate::lab::capture::{Capture, Captured};
use crate::lab::{Lab, Result};

/// Packets and bytes, from the Ethernet header on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Count {
    fn add(&mut self, captured: &Captured) {
        self.packets += 1;
        self.bytes += captured.length as u64;
    }
}

/// Which way packets of the VIPs went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// From clients to the balancer.
    pub(super) to_balancer: Count,
    /// From the balancer to backends.
    pub(super) to_backends: Count,
    /// From backends straight to clients.
    pub(super) past_balancer: Count,
    /// Answers that the balancer had to carry.
    pub(super) back_through_balancer: Count,
}

/// Starts counting. What a balancer itself asks of VIPs, to know how backends are, is no client's.
pub(super) fn start(lab: &Lab, vips: [IpAddr; 2]) -> Result<Capture<Tally>> {
    let roles = lab.balancers.iter().map(|host| host.role);
    let own: Vec<IpAddr> = roles.flat_map(|role| Family::BOTH.map(|family| role.address(family))).collect();
    Capture::start(&lab.switch, Tally::default(), move |tally, captured| {
        let Some((from, to)) = captured.frame.addresses() else { return };
        if own.contains(&from) || own.contains(&to) {
            return;
        }
        let balancer = captured.host.starts_with("pen");
        match (vips.contains(&from), vips.contains(&to), balancer, captured.received) {
            (_, true, true, true) => tally.to_balancer.add(&captured),
            (_, true, true, false) => tally.to_backends.add(&captured),
            (true, _, true, true) => tally.back_through_balancer.add(&captured),
            (true, _, false, false) => tally.past_balancer.add(&captured),
            _ => {}
        }
    })
}
