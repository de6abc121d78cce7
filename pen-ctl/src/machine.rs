//! The machine around the controller, for real: links, neighbors, health and announcements on Linux.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use tokio::sync::mpsc;

use crate::announce::Announcer;
use crate::health::Health;
use crate::link::LinkWatch;
use crate::metrics::timings::Timings;
use crate::neighbor::Neighbors;
use crate::surroundings::{Event, Hop, Lane, Link, Probe, Surroundings, Watched};
use probe_path::ProbePath;

pub(crate) mod addresses;
pub(crate) mod netlink;
mod probe_path;
#[cfg(test)]
pub(crate) mod testing;

/// Why the machine cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No netlink socket.
    #[error(
        "open an rtnetlink socket: {0}; allow pen AF_NETLINK, through which it watches interfaces and neighbors"
    )]
    Netlink(#[source] io::Error),
    /// The kernel does not tell of the interfaces.
    #[error("look at the interfaces: {0}; allow pen AF_NETLINK, then try again")]
    Interfaces(#[source] io::Error),
}

/// This machine, or the network namespace of it that the controller was started in.
pub struct Machine {
    _links: LinkWatch,
    neighbors: Neighbors,
    health: Health,
    probe_path: ProbePath,
    announcer: Announcer,
}

impl Machine {
    /// Starts to watch; must be called inside a tokio runtime whose threads are all in one network namespace.
    /// Changes from here on are never missed: the first [`Event::Links`] tells of all interfaces.
    ///
    /// # Errors
    /// [`MachineError`] if the kernel denies the sockets this takes.
    pub fn start(events: mpsc::Sender<Event>, timings: Timings) -> Result<Self, MachineError> {
        let links = LinkWatch::start(events.clone()).map_err(MachineError::Netlink)?;
        let neighbors = Neighbors::start(links.links(), events.clone()).map_err(MachineError::Netlink)?;
        let announcer = Announcer::start().map_err(MachineError::Netlink)?;
        let probe_path = ProbePath::start(links.links(), events.clone());
        let health = Health::new(events, probe_path.places(), timings);
        Ok(Self { _links: links, neighbors, health, probe_path, announcer })
    }
}

impl Surroundings for Machine {
    fn watch(&mut self, addresses: BTreeSet<Watched>) {
        self.neighbors.watch(addresses);
    }

    fn probe(&mut self, probes: Vec<Probe>) {
        self.probe_path.want(probes.iter().filter_map(lane).collect());
        self.health.probe(probes);
    }

    fn announce(&mut self, interface: &Link, vips: &[IpAddr]) {
        self.announcer.announce(interface, vips);
    }

    fn withdraw(&mut self, interface: &Link, vips: &[IpAddr]) {
        self.announcer.withdraw(interface, vips);
    }
}

/// Removes what health checks of a controller that was killed left in this network namespace, unless another one has such
/// checks here. Must be called inside a tokio runtime.
///
/// # Errors
/// The kernel does not tell what there is, or does not let it go.
pub(crate) fn remove_leftovers() -> io::Result<()> {
    probe_path::remove_leftovers()
}

/// The way through the link that a check takes, if it takes one.
fn lane(probe: &Probe) -> Option<Lane> {
    match &probe.hop {
        Hop::Link { lane, .. } => Some(lane.clone()),
        Hop::Own | Hop::Waiting(_) => None,
    }
}
