//! Chooses a backend for a connection, with the very code that chooses one for a packet.
//!
//! What `pen_common::select` asks for, [`pen_common::tables::Tables`], is here a [`View`] of the pool at one moment, for
//! one connection: who failed, is full or has refused this connection already is seen as out. So a client is moved
//! exactly when its backend cannot have it, and no table is rebuilt because a connection fails or succeeds.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pen_common::abi::{
    Address, Directory, DirectoryHalf, ServiceEntry, TrackKeyV4, TrackKeyV6, entry_kind, service_flags,
};
use pen_common::parse::Ports;
use pen_common::select::{self, Flow};
use pen_common::service::TCP;
use pen_common::tables::Tables;

use super::memory::Memory;
use super::pool::{BackendId, Pool};
use super::tier::Tier;
use crate::dataplane::{Affinity, Scheduler, Tracking};
use view::View;

mod view;

/// How backends are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the choice hashes.
    pub affinity: Affinity,
    /// What is remembered. `transitions` is not for the proxy: a connection is never moved.
    pub tracking: Tracking,
    /// Who gets newcomers. With `round-robin` or `least-connections` and tracking `off` every connection is a newcomer.
    pub scheduler: Scheduler,
    /// Seconds after which a client that was not seen is forgotten; 0 = never.
    pub tracking_timeout: u32,
    /// Keys the hash.
    pub seed: u64,
}

/// Backends that a connection has met in vain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excluded(Vec<BackendId>);

impl Excluded {
    /// Nobody.
    pub const fn nobody() -> Excluded {
        Excluded(Vec::new())
    }

    /// One more.
    pub fn add(&mut self, id: BackendId) {
        self.0.push(id);
    }

    /// Whether it is among them.
    pub fn contains(&self, id: BackendId) -> bool {
        self.0.contains(&id)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A policy as `pen_common` reads it.
#[derive(Debug)]
pub struct Rules {
    policy: Policy,
    directory: Box<Directory>,
    service: ServiceEntry,
}

impl Rules {
    /// Rules that follow a policy.
    pub fn new(policy: Policy) -> Rules {
        let remembers = policy.tracking != Tracking::Off && policy.affinity != Affinity::None;
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        let service = ServiceEntry {
            kind: entry_kind::SERVICE,
            protocol: TCP,
            flags: flag(remembers, service_flags::TRACK_FULL)
                | flag(policy.scheduler != Scheduler::Maglev, service_flags::ROUND_ROBIN)
                | flag(policy.affinity != Affinity::Client, service_flags::AFFINITY_FLOW),
            tracking_timeout: policy.tracking_timeout,
            ..ServiceEntry::default()
        };
        Rules { policy, directory: directory(policy.seed), service }
    }

    /// The policy they follow.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Whether clients are remembered.
    pub fn remember(&self) -> bool {
        self.service.flags & service_flags::TRACK_FULL != 0
    }

    /// Everybody is a newcomer, and who gets newcomers is no matter of slots.
    fn by_turn_alone(&self) -> bool {
        self.policy.scheduler != Scheduler::Maglev && !self.remember()
    }
}

/// The directory of one service that needs not be found.
fn directory(seed: u64) -> Box<Directory> {
    let half = DirectoryHalf::EMPTY;
    // Jiffies here are quarters of a second.
    let clock_multiplier = 1 << 24;
    Box::new(Directory {
        active: 0,
        reserved: 0,
        seed,
        clock_multiplier,
        flood_per_cpu: 0,
        flood_in_all: 0,
        spare: [0; 4],
        halves: [half; 2],
    })
}

/// Chooses among the backends of one service, whatever its rules and its pool are by now.
#[derive(Debug)]
pub struct Chooser {
    /// Whom clients were given.
    pub memory: Memory,
    taken: AtomicU64,
}

impl Chooser {
    /// One that remembers at most so many clients.
    pub fn new(clients: usize) -> Chooser {
        Chooser { memory: Memory::new(clients), taken: AtomicU64::new(0) }
    }

    /// The backend of a new connection or flow at `now` (milliseconds of the proxy's clock); `None` when nobody may have it.
    ///
    /// A client with the unspecified address is nobody in particular: it takes a turn. Who stands by is asked once
    /// connections to all who serve fail. While everybody has failed, failures count for nothing: better a backend that
    /// may have come back than none.
    pub fn choose(
        &self,
        (rules, pool): (&Rules, &Pool),
        (now, out_for): (u64, u64),
        (client, client_port): (IpAddr, u16),
        excluded: &Excluded,
    ) -> Option<BackendId> {
        let choose = |tier: &Tier, busy: &Excluded, heed_failures| {
            let view = View { chooser: self, rules, pool, tier, excluded, busy, now, heed_failures };
            self.of_view(&view, client, client_port)
        };
        for tier in pool.tiers() {
            let mut busy = Excluded::nobody();
            while let Some(id) = choose(tier, &busy, true) {
                if pool.place(id).is_some_and(|place| place.may_try(now, out_for)) {
                    return Some(id);
                }
                busy.add(id);
            }
        }
        pool.tiers().iter().find_map(|tier| choose(tier, &Excluded::nobody(), false))
    }

    fn of_view(&self, view: &View<'_>, client: IpAddr, client_port: u16) -> Option<BackendId> {
        let address = Address::from(client);
        let ports = Ports { source: client_port.to_be(), destination: 0 };
        let (directory, service) = (&view.rules.directory, &view.rules.service);
        let flow = Flow { service, client: &address, ports };
        let chosen = if client.is_unspecified() || view.rules.by_turn_alone() {
            select::by_turn(view, service)
        } else if address.is_v4() {
            select::choose::<TrackKeyV4, _>(view, directory, flow, true, || true).backend()
        } else {
            select::choose::<TrackKeyV6, _>(view, directory, flow, true, || true).backend()
        };
        chosen.map(|chosen| BackendId(chosen.index))
    }

    /// The backend that a client without a memory would be given by slot.
    pub fn newcomer(&self, rules: &Rules, pool: &Pool, now: u64, client: IpAddr) -> Option<BackendId> {
        let (excluded, busy) = (&Excluded::nobody(), &Excluded::nobody());
        let tier = pool.tiers().first()?;
        let view = View { chooser: self, rules, pool, tier, excluded, busy, now, heed_failures: true };
        let ports = Ports { source: 0, destination: 0 };
        let number = select::slot_number(&rules.directory, &rules.service, &Address::from(client), ports);
        let slot = view.slot(rules.service.service, rules.service.table_half, number)?;
        select::by_slot(&view, &rules.service, slot, true).map(|chosen| BackendId(chosen.index))
    }

    /// Whose turn it is under least connections: who has fewest for its weight; of several, each in turn.
    fn least_loaded(&self, tier: &Tier, pool: &Pool, serves: impl Fn(u16) -> bool) -> Option<u16> {
        let load = |index| pool.place(BackendId(index)).map(|place| (place.load(), index));
        let loads: Vec<(u64, u16)> = tier.numbers().filter(|index| serves(*index)).filter_map(load).collect();
        let least = loads.iter().map(|(load, _)| *load).min()?;
        let ties = || loads.iter().filter(|(load, _)| *load == least);
        let taken = self.taken.fetch_add(1, Relaxed) as usize;
        ties().nth(taken % ties().count()).map(|(_, index)| *index)
    }

    /// The next turn of somebody who serves: who does not loses its turn, and the others keep their order.
    fn next_turn(&self, tier: &Tier, serves: impl Fn(u16) -> bool) -> Option<u16> {
        let next = || tier.turn(self.taken.fetch_add(1, Relaxed));
        (0..tier.round()).filter_map(|_| next()).find(|&index| serves(index))
    }
}

#[cfg(test)]
mod tests;
