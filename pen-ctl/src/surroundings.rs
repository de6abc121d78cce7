//! What the controller asks of the machine around it, and what it hears back: links, neighbors, health.
//!
//! The controller holds one [`Surroundings`] and receives [`Event`]s; tests give it a fake one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::check::Check;
use crate::dataplane::{BackendAddress, HealthStatus, Mac, ServiceKey};

pub(crate) mod portable;
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
    /// It is a bond.
    pub bond: bool,
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

/// What a backend's agent asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Its share of newcomers, in percent of what its weight gives it; `None` = all of it.
    pub weight: Option<u16>,
    /// It wants to keep the clients it has and get no new ones.
    pub drain: bool,
}

/// A way through the link: the VIP at a backend's MAC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    /// The VIP.
    pub vip: IpAddr,
    /// The backend's own address; says which of this host's addresses to ask from.
    pub backend: IpAddr,
    /// Its MAC.
    pub mac: Mac,
    /// The interface that routes name for it.
    pub ifindex: u32,
}

/// Where a backend is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// On its own address.
    Own,
    /// On the VIP, as clients' packets come to it.
    Link {
        /// The way there.
        lane: Lane,
        /// On its own address where this host cannot ask that way: nobody insisted on it.
        or_own: bool,
    },
    /// Not yet, in words: `waiting for its MAC`.
    Waiting(String),
}

/// A backend to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its service.
    pub key: ServiceKey,
    /// Its address.
    pub address: BackendAddress,
    /// How.
    pub check: Check,
    /// Where.
    pub hop: Hop,
    /// What is held true until checks say otherwise (adopted from the data plane).
    pub initial: HealthStatus,
}

/// What the controller hears.
#[allow(clippy::large_enum_variant, reason = "a channel holds a thousand at most, and most are of health")]
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
        address: BackendAddress,
        /// The verdict.
        status: HealthStatus,
        /// In words: `connected in 0.3 ms`, `connection refused`, `no answer within 500 ms`.
        detail: String,
        /// What these words are about.
        ground: Ground,
        /// What its agent asks for.
        advice: Advice,
    },
    /// Why VIPs cannot be asked, each reason once, as that changes.
    Unaskable(BTreeSet<String>),
}

/// What the words on a backend's health are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ground {
    /// What its latest check came to.
    #[default]
    Result,
    /// Its latest check failed, and it is up until more do: how.
    Failing,
    /// It is down and answers well of late: when it comes back.
    Recovering,
    /// It cannot be asked: why.
    Unasked,
}

/// What the controller asks of the machine around it. None of these calls blocks for long.
pub trait Surroundings: Send {
    /// Resolve and watch exactly these addresses from now on. Each gets an [`Event::Neighbor`] as soon as
    /// something is known; those watched before keep what they know.
    fn watch(&mut self, addresses: BTreeSet<Watched>);

    /// Check exactly these backends from now on. Each gets an [`Event::Health`] with its first result; those
    /// checked before in the same way go on undisturbed, asked where they are now; one whose check changed starts anew
    /// from its verdict.
    fn probe(&mut self, probes: Vec<Probe>);

    /// Tell the link that these VIPs are here: gratuitous ARP (RFC 5227), unsolicited advertisement (RFC 4861,
    /// 7.2.6), solicited-node group joined so that it outlives us. Called when an interface is attached, a VIP is
    /// added, or the link comes back. Failures are logged by the callee.
    fn announce(&mut self, interface: &Link, vips: &[IpAddr]);

    /// Undo what [`Surroundings::announce`] left behind for these VIPs (group memberships).
    fn withdraw(&mut self, interface: &Link, vips: &[IpAddr]);
}
