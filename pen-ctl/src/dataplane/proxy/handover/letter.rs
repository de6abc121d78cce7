//! What is written to a successor.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dataplane::proxy::count::Totals;
use crate::dataplane::proxy::memory::Key;
use crate::dataplane::proxy::plane::estate::Bequest;
use crate::dataplane::{BackendAddress, HealthStatus, ServiceKey};

/// Clients in one letter.
const CLIENTS: usize = 10_000;

/// All services.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) services: Vec<ServiceLetter>,
}

/// A service.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ServiceLetter {
    pub(super) vip: ServiceKey,
    /// How many of the sockets are its.
    pub(super) sockets: usize,
    pub(super) accepted: u64,
    pub(super) turned_away: u64,
    /// Not told by those that knew no access lists.
    #[serde(default)]
    pub(super) denied: u64,
    /// What was counted of backends that have gone.
    pub(super) gone: Totals,
    pub(super) backends: Vec<BackendLetter>,
}

/// A backend.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BackendLetter {
    pub(super) address: BackendAddress,
    pub(super) usable: bool,
    pub(super) serving: bool,
    pub(super) health: HealthStatus,
    /// Seconds since the Unix epoch.
    pub(super) health_since: u64,
    pub(super) totals: Totals,
}

/// Some clients of a service.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MemoryLetter {
    pub(super) vip: ServiceKey,
    pub(super) clients: Vec<ClientLetter>,
}

/// Which backend a client (or flow of it) was given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClientLetter {
    /// The client's address; its port in network byte order, or 0.
    pub(super) client: (IpAddr, u16),
    /// Its place among the backends in the service's letter.
    pub(super) backend: usize,
    /// Seconds since it was seen.
    pub(super) idle: u32,
}

impl ServiceLetter {
    pub(super) fn of(vip: ServiceKey, bequest: &Bequest, sockets: usize) -> ServiceLetter {
        let (accepted, turned_away) = bequest.service.accepted_and_turned_away();
        let backends = bequest.members.iter().filter_map(|(address, member)| {
            let target = bequest.backends.get(address)?;
            Some(BackendLetter {
                address: *address,
                usable: target.usable,
                serving: target.serving,
                health: target.health,
                health_since: target.health_since,
                totals: Totals::of(member.counts()),
            })
        });
        let gone = bequest.service.gone_totals();
        let denied = bequest.service.denied();
        ServiceLetter { vip, sockets, accepted, turned_away, denied, gone, backends: backends.collect() }
    }
}

impl MemoryLetter {
    /// All clients of a service that are remembered on backends that are there, and were seen within so many seconds.
    pub(super) fn all_of(vip: ServiceKey, bequest: &Bequest, within: u32) -> Vec<MemoryLetter> {
        let now = bequest.service.clock().seconds();
        let mut clients = Vec::new();
        bequest.service.chooser().memory.review(|key, tracked| {
            let is = |(_, member): &(BackendAddress, std::sync::Arc<super::super::pool::Member>)| {
                member.id().0 == tracked.backend && member.generation() == tracked.generation
            };
            let idle = now.wrapping_sub(tracked.seen);
            if idle <= within
                && let Some(backend) = bequest.members.iter().position(is)
            {
                clients.push(ClientLetter { client: key.client(), backend, idle });
            }
            Some(true)
        });
        let mut letters = Vec::new();
        while !clients.is_empty() {
            let rest = clients.split_off(clients.len().min(CLIENTS));
            letters.push(MemoryLetter { vip, clients });
            clients = rest;
        }
        letters
    }
}

impl ClientLetter {
    /// What the client is remembered under.
    pub(super) fn key(&self) -> Key {
        let (address, port) = self.client;
        Key::of(address, port)
    }
}
