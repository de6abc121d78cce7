//! Chooses a backend for a connection, with the very code that chooses one for a packet.
//!
//! What `pen_common::select` asks for, [`pen_common::tables::Tables`], is here a [`View`] of the pool at one moment, for
//! one connection: who failed, is full or has refused this connection already is seen as out. So a client is moved
//! exactly when its backend cannot have it, and no table is rebuilt because a backend fails or comes back.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use pen_common::abi::{
    Address, Backend, DIRECTORY_BUCKETS, DIRECTORY_ENTRIES, Directory, DirectoryHalf, Interface,
    MAX_INTERFACES, NO_BACKEND, RING_TURNS, SLOTS, ServiceEntry, Slot, TrackKeyV4, TrackKeyV6, Tracked,
    backend_flags, entry_kind, service_flags,
};
use pen_common::maglev::{self, Turn};
use pen_common::parse::Ports;
use pen_common::select::{self, Flow};
use pen_common::tables::{self, Puzzle, Tables};
use pen_common::{ring, service::TCP};
use sha2::{Digest, Sha256};

use super::memory::{Key, Memory};
use super::pool::{BackendId, Pool, Standing};
use crate::dataplane::{Affinity, Scheduler, Tracking};

/// How many slots are looked at for one whose owner serves, before any that serves will do.
const TRIES: u32 = 64;
/// From one of these slots to the next: with a table whose size is prime, never the same one twice.
const STRIDE: u32 = 40_503;

/// How backends are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// What the choice hashes.
    pub affinity: Affinity,
    /// What is remembered. `transitions` is not for the proxy: a connection is never moved.
    pub tracking: Tracking,
    /// Who gets newcomers. With `round-robin` and tracking `off` every connection takes a turn.
    pub scheduler: Scheduler,
    /// Seconds after which a client that was not seen is forgotten; 0 = never.
    pub tracking_timeout: u32,
    /// Clients that are remembered at most.
    pub tracking_clients: usize,
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

/// Chooses among the backends of one pool.
#[derive(Debug)]
pub struct Chooser {
    pool: Arc<Pool>,
    directory: Box<Directory>,
    service: ServiceEntry,
    turns_without_memory: bool,
    /// Owner of each slot.
    table: Box<[u16]>,
    /// Whose turn it is, in order.
    round: Box<[u16]>,
    taken: AtomicU64,
    memory: Memory,
    start: Instant,
}

impl Chooser {
    /// A chooser for a pool of at most [`RING_TURNS`] backends.
    pub fn new(pool: Arc<Pool>, policy: Policy) -> Chooser {
        let turns = policy.scheduler == Scheduler::RoundRobin;
        let remembers = policy.tracking != Tracking::Off && policy.affinity != Affinity::None;
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        let service = ServiceEntry {
            kind: entry_kind::SERVICE,
            protocol: TCP,
            flags: flag(remembers, service_flags::TRACK_FULL)
                | flag(turns, service_flags::ROUND_ROBIN)
                | flag(policy.affinity != Affinity::Client, service_flags::AFFINITY_FLOW),
            tracking_timeout: policy.tracking_timeout,
            ..ServiceEntry::default()
        };
        Chooser {
            directory: directory(policy.seed),
            service,
            turns_without_memory: turns && !remembers,
            table: table(&pool, policy.seed),
            round: round(&pool),
            taken: AtomicU64::new(0),
            memory: Memory::new(policy.tracking_clients),
            start: Instant::now(),
            pool,
        }
    }

    /// The pool it chooses from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Milliseconds of the clock that the pool goes by; never 0.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// How many clients are remembered.
    pub fn remembered(&self) -> usize {
        self.memory.len()
    }

    /// The backend of a new connection or flow; `None` when nobody may have it.
    ///
    /// A client with the unspecified address is nobody in particular: it takes a turn. While everybody has failed,
    /// failures count for nothing: better a backend that may have come back than none.
    pub fn choose(&self, client: IpAddr, client_port: u16, excluded: &Excluded) -> Option<BackendId> {
        self.choose_at(self.now(), client, client_port, excluded)
    }

    /// The same at a time of the pool's clock.
    pub fn choose_at(
        &self,
        now: u64,
        client: IpAddr,
        client_port: u16,
        excluded: &Excluded,
    ) -> Option<BackendId> {
        let mut busy = Excluded::nobody();
        loop {
            let view = View { chooser: self, excluded, busy: &busy, now, heed_failures: true };
            let Some(id) = view.choose(client, client_port) else { break };
            if self.pool.may_try(id, now) {
                return Some(id);
            }
            busy.add(id);
        }
        let view = View { chooser: self, excluded, busy: &Excluded::nobody(), now, heed_failures: false };
        view.choose(client, client_port)
    }
}

/// The directory of one service that needs not be found.
fn directory(seed: u64) -> Box<Directory> {
    let half = DirectoryHalf {
        entries: [ServiceEntry::default(); DIRECTORY_ENTRIES],
        displacement: [0; DIRECTORY_BUCKETS],
        interfaces: [Interface::default(); MAX_INTERFACES],
        hash_seed: 0,
        interface_multiplier: 0,
        reserved: 0,
        spare: [0; 6],
    };
    // Jiffies here are quarters of a second.
    let clock_multiplier = 1 << 24;
    Box::new(Directory { active: 0, reserved: 0, seed, clock_multiplier, spare: [0; 5], halves: [half; 2] })
}

/// Shares the slots among all backends; who is out is passed over when it is looked into.
fn table(pool: &Pool, seed: u64) -> Box<[u16]> {
    let mut members: Vec<(maglev::Member, BackendId)> = pool
        .ids()
        .map(|id| {
            let config = pool.config(id);
            // Two backends may differ in nothing but their port: what the table goes by is a digest of all of it.
            let digest = Sha256::digest(config.endpoint.to_string());
            let address = Address::from(*digest.first_chunk::<16>().unwrap_or(&[0; 16]));
            (maglev::Member { address, weight: config.weight }, id)
        })
        .collect();
    members.sort_by_key(|(member, id)| (member.address, *id));
    let (members, ids): (Vec<maglev::Member>, Vec<BackendId>) = members.into_iter().unzip();
    let mut table = vec![NO_BACKEND; SLOTS as usize];
    maglev::build(seed, &members, &mut table, &mut vec![Turn::default(); members.len()]);
    table.iter().map(|&position| ids.get(usize::from(position)).map_or(NO_BACKEND, |id| id.0)).collect()
}

/// The round of turns of all backends.
fn round(pool: &Pool) -> Box<[u16]> {
    let weights: Vec<u16> = pool.ids().map(|id| pool.config(id).weight).collect();
    let mut round = [0; RING_TURNS];
    let length = ring::build(&weights, &mut round, &mut vec![0; weights.len()]);
    round[..length].into()
}

/// The tables as they stand for one connection.
struct View<'a> {
    chooser: &'a Chooser,
    excluded: &'a Excluded,
    /// Those that somebody else tries just now.
    busy: &'a Excluded,
    /// Milliseconds.
    now: u64,
    heed_failures: bool,
}

/// A backend's record, of which only these bits count here.
const fn record(flags: u64) -> Backend {
    Backend {
        word: backend_flags::IN_USE | flags,
        ifindex: 0,
        vlan: 0,
        generation: 0,
        service: 0,
        reserved: 0,
        address: Address { words: [0; 4] },
        health_since: 0,
        spare: [0; 2],
    }
}

static SERVING: Backend = record(backend_flags::SERVING | backend_flags::USABLE);
static USABLE: Backend = record(backend_flags::USABLE);
static OUT: Backend = record(0);

impl View<'_> {
    fn choose(&self, client: IpAddr, client_port: u16) -> Option<BackendId> {
        let address = Address::from(client);
        let ports = Ports { source: client_port.to_be(), destination: 0 };
        let chooser = self.chooser;
        let flow = Flow { service: &chooser.service, client: &address, ports };
        let index = if client.is_unspecified() || chooser.turns_without_memory {
            select::by_turn(self, flow.service).map(|chosen| chosen.index)
        } else if address.is_v4() {
            select::choose::<TrackKeyV4, _>(self, &chooser.directory, flow, true, || true).map(|c| c.index)
        } else {
            select::choose::<TrackKeyV6, _>(self, &chooser.directory, flow, true, || true).map(|c| c.index)
        };
        index.map(BackendId)
    }

    fn standing(&self, index: u16) -> Standing {
        let id = BackendId(index);
        if self.excluded.contains(id) || self.busy.contains(id) {
            return Standing::Out;
        }
        self.chooser.pool.standing(id, self.now, self.heed_failures)
    }

    fn serves(&self, index: u16) -> bool {
        self.standing(index) == Standing::Serving
    }

    fn recall(&self, key: Key) -> Option<Remembered<'_>> {
        let memory = &self.chooser.memory;
        memory.recall(&key).map(|tracked| Remembered { memory, key, tracked })
    }
}

impl Tables for View<'_> {
    type Memory<'m>
        = Remembered<'m>
    where
        Self: 'm;

    fn directory(&self) -> Option<(&Directory, &DirectoryHalf)> {
        let [half, _] = &self.chooser.directory.halves;
        Some((&self.chooser.directory, half))
    }

    fn backend(&self, index: u16) -> Option<&Backend> {
        Some(match self.standing(index) {
            Standing::Serving => &SERVING,
            Standing::Usable => &USABLE,
            Standing::Out => &OUT,
        })
    }

    /// The slot, or one in its stead whose owner serves: always the same one while the same backends are out.
    fn slot(&self, _service: u16, _half: u32, slot: u32) -> Option<Slot> {
        let table = &self.chooser.table;
        let stands_in = |attempt: u32| table[((slot + attempt * STRIDE) % SLOTS) as usize];
        let owner = (0..TRIES).map(stands_in).find(|&owner| self.serves(owner));
        let anybody = || self.chooser.pool.ids().map(|id| id.0).find(|&index| self.serves(index));
        owner.or_else(anybody).map(Slot::owned_by)
    }

    /// The next turn of somebody who serves: who does not loses its turn, and the others keep their order.
    fn take_turn(&self, _service: u16, _half: u32) -> Option<u16> {
        let round = &self.chooser.round;
        let next = || {
            let taken = self.chooser.taken.fetch_add(1, Relaxed);
            round.get(ring::place(taken, round.len() as u32)?).copied()
        };
        (0..round.len()).filter_map(|_| next()).find(|&index| self.serves(index))
    }

    fn recall_v4(&self, key: &TrackKeyV4) -> Option<Remembered<'_>> {
        self.recall(Key::V4(*key))
    }

    fn recall_v6(&self, key: &TrackKeyV6) -> Option<Remembered<'_>> {
        self.recall(Key::V6(*key))
    }

    fn remember_v4(&self, key: &TrackKeyV4, value: &Tracked) {
        self.chooser.memory.remember(Key::V4(*key), *value);
    }

    fn remember_v6(&self, key: &TrackKeyV6, value: &Tracked) {
        self.chooser.memory.remember(Key::V6(*key), *value);
    }

    fn loop_filter(&self, _index: usize) -> u64 {
        0
    }

    fn is_backend_mac(&self, _key: u64) -> bool {
        false
    }

    fn jiffies(&self) -> u64 {
        self.now / 1000 * 4
    }

    /// Slots and turns name backends of this very pool: nothing to puzzle over.
    fn puzzled(&self, _puzzle: Puzzle) {}
}

/// A remembered choice.
struct Remembered<'a> {
    memory: &'a Memory,
    key: Key,
    tracked: Tracked,
}

impl tables::Memory for Remembered<'_> {
    fn read(&self) -> Tracked {
        self.tracked
    }

    fn touch(&self, seen: u32) {
        self.memory.remember(self.key, Tracked { seen, ..self.tracked });
    }

    fn replace(&self, value: Tracked) {
        self.memory.remember(self.key, value);
    }
}

#[cfg(test)]
mod tests;
