//! What the controller asks of the machine around it, and what it hears back: links, neighbors, health.
//!
//! The controller holds one [`Surroundings`] and receives [`Event`]s; tests give it a fake one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::dataplane::{HealthStatus, Mac, ServiceKey};

#[cfg(test)]
pub(crate) mod testing;

/// A network interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Its MAC; `None` where it has no Ethernet address.
    pub mac: Option<Mac>,
    /// It carries Ethernet frames (ARPHRD_ETHER, not loopback).
    pub ethernet: bool,
    /// It leads to this machine itself (IFF_LOOPBACK): `lo`.
    pub loopback: bool,
    /// Addresses that this machine has on it.
    pub addresses: BTreeSet<IpAddr>,
    /// Administratively up and with a carrier.
    pub up: bool,
    /// Index of the bond or bridge it belongs to.
    pub master: Option<u32>,
    /// For a VLAN interface: index of the interface it is on, and its VLAN ID.
    pub vlan: Option<(u32, u16)>,
    /// Id of the XDP program on it.
    pub xdp_program: Option<u32>,
}

/// Interfaces by kernel index.
pub type Links = BTreeMap<u32, Link>;

/// A backend address to resolve.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// The address.
    pub address: IpAddr,
    /// A MAC that the administrator fixed: only the way out is looked up.
    pub fixed_mac: Option<Mac>,
}

/// What is known of the way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// On the link behind interface `ifindex` (which may be a VLAN interface).
    OnLink {
        /// Its MAC.
        mac: Mac,
        /// The interface that routes name for it.
        ifindex: u32,
    },
    /// An address of this host.
    Local,
    /// Not reachable on a link, with the reason in words: `no answer to ARP on eth0`,
    /// `behind gateway 10.0.0.1: a DSR backend must be on the same link`, `no route`.
    Unreachable(String),
}

/// How to find out whether a backend answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Not at all: up once its MAC is known.
    None,
    /// A TCP connection opens.
    Tcp {
        /// Port to connect to.
        port: u16,
        /// From one check to the next.
        interval: Duration,
        /// How long one check may take.
        timeout: Duration,
        /// Successes in a row that bring a backend up.
        rise: u32,
        /// Failures in a row that take it down.
        fall: u32,
    },
}

/// A backend to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its service.
    pub key: ServiceKey,
    /// Its address.
    pub address: IpAddr,
    /// How.
    pub check: Check,
    /// What is held true until checks say otherwise (adopted from the data plane).
    pub initial: HealthStatus,
}

/// What the controller hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something about the interfaces changed: all of them as they are now.
    Links(Links),
    /// The way to a watched address is known, or changed.
    Neighbor {
        /// The address.
        address: IpAddr,
        /// What is known now.
        resolution: Resolution,
    },
    /// A check's verdict (after rise and fall) or its detail changed.
    Health {
        /// The service.
        key: ServiceKey,
        /// The backend.
        address: IpAddr,
        /// The verdict.
        status: HealthStatus,
        /// In words: `connected in 0.3 ms`, `connection refused`, `no answer within 500 ms`.
        detail: String,
    },
}

/// What the controller asks of the machine around it. None of these calls blocks for long.
pub trait Surroundings: Send {
    /// Resolve and watch exactly these addresses from now on. Each gets an [`Event::Neighbor`] as soon as
    /// something is known; those watched before keep what they know.
    fn watch(&mut self, addresses: BTreeSet<Watched>);

    /// Check exactly these backends from now on. Each gets an [`Event::Health`] with its first result; those
    /// checked before in the same way go on undisturbed, one whose check changed starts anew from its verdict.
    fn probe(&mut self, probes: Vec<Probe>);

    /// Tell the link that these VIPs are here: gratuitous ARP (RFC 5227), unsolicited advertisement (RFC 4861,
    /// 7.2.6), solicited-node group joined so that it outlives us. Called when an interface is attached, a VIP is
    /// added, or the link comes back. Failures are logged by the callee.
    fn announce(&mut self, interface: &Link, vips: &[IpAddr]);

    /// Undo what [`Surroundings::announce`] left behind for these VIPs (group memberships).
    fn withdraw(&mut self, interface: &Link, vips: &[IpAddr]);
}
