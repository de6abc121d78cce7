//! The backends of a service at one moment: what is asked of each, what is known of each, and whether it may get a
//! connection.
//!
//! A [`Pool`] never changes; whatever is asked anew makes a new one, which shares the [`Member`]s that stay. Health here
//! is *passive*: what connections meet. A backend that refuses or does not answer is left out for a while; then one
//! connection tries it, and only when that one succeeds do others follow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use pen_common::abi::{Address, Backend, backend_flags};

use super::count::{BackendCounts, OfWorker};
use super::endpoint::Endpoint;
use super::tier::{Digest, Share, Tier, digest};

/// A backend's number: its place in the pool, the same in every pool of its service for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u16);

/// What is asked of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// 1 to 1000.
    pub weight: u16,
    /// What it is there for.
    pub role: Role,
    /// Connections at once from which on only clients that it had before get there.
    pub soft_limit: Option<u32>,
    /// Connections at once from which on nobody gets there.
    pub hard_limit: Option<u32>,
}

impl BackendConfig {
    /// A backend that serves, with nothing but defaults.
    pub fn new(endpoint: Endpoint) -> BackendConfig {
        BackendConfig { endpoint, weight: 1, role: Role::Serving, soft_limit: None, hard_limit: None }
    }
}

/// What a backend is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Newcomers, and the clients it has.
    Serving,
    /// Newcomers while connections to everybody who serves fail, lowest number first; and the clients it has.
    Standby(u16),
    /// The clients it has.
    Keeping,
    /// Nobody.
    Out,
}

/// Whom a backend may get just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everybody.
    Serving,
    /// Clients it had before.
    Usable,
    /// Nobody.
    Out,
}

/// A backend as all workers see it, for as long as it is there.
#[derive(Debug)]
pub struct Member {
    id: BackendId,
    endpoint: Endpoint,
    digest: Digest,
    /// Its record as `pen_common` reads it, by [`Standing`].
    records: [Backend; 3],
    connections: AtomicU32,
    /// Milliseconds of the proxy's clock until which it is left out; 0: nothing is held against it.
    out_until: AtomicU64,
    /// What its last failure was.
    why: Mutex<String>,
    counts: Box<[OfWorker<BackendCounts>]>,
}

impl Member {
    /// A backend that nothing is known of. `generation` tells it from whoever had its number before.
    pub fn new(id: BackendId, generation: u16, endpoint: Endpoint, workers: usize) -> Member {
        let record = |flags| Backend {
            word: backend_flags::IN_USE | flags,
            ifindex: 0,
            vlan: 0,
            generation,
            service: 0,
            reserved: 0,
            address: Address { words: [0; 4] },
            health_since: 0,
            spare: [0; 2],
        };
        let usable = backend_flags::USABLE;
        Member {
            id,
            digest: digest(&endpoint),
            endpoint,
            records: [record(usable | backend_flags::SERVING), record(usable), record(0)],
            connections: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
            why: Mutex::default(),
            counts: (0..workers).map(|_| OfWorker::default()).collect(),
        }
    }

    /// Its number.
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// Tells it from whoever had its number before.
    pub fn generation(&self) -> u16 {
        self.records[0].generation
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its connections now.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// What each worker counted of it.
    pub fn counts(&self) -> &[OfWorker<BackendCounts>] {
        &self.counts
    }

    /// What that worker counts of it.
    pub fn count(&self, worker: usize) -> &BackendCounts {
        &self.counts[worker].0
    }

    /// Counts a connection out.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// A connection failed at `now` (milliseconds): for `out_for` more it gets nobody. True if nothing was held against
    /// it before.
    pub fn failed(&self, now: u64, out_for: u64, why: &str) -> bool {
        let first = self.out_until.swap(now.saturating_add(out_for).max(1), Relaxed) == 0;
        let mut last = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != why {
            why.clone_into(&mut last);
        }
        first
    }

    /// A connection succeeded. True if something was held against it before.
    pub fn succeeded(&self) -> bool {
        // Nearly always nothing to write: the line stays in every worker's cache.
        self.out_until.load(Relaxed) != 0 && self.out_until.swap(0, Relaxed) != 0
    }

    /// Why it is passed over at `now` (milliseconds of the proxy's clock): later the next newcomer tries it.
    pub fn left_out(&self, now: u64) -> Option<String> {
        if self.out_until.load(Relaxed) > now { self.trouble() } else { None }
    }

    /// What is held against it.
    pub fn trouble(&self) -> Option<String> {
        let suspect = self.out_until.load(Relaxed) != 0;
        suspect.then(|| self.why.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Its record where it stands so.
    pub(super) fn record(&self, standing: Standing) -> &Backend {
        &self.records[standing as usize]
    }
}

/// A backend's place in a pool.
#[derive(Clone, Debug)]
pub struct Place {
    /// Who has it.
    pub member: Arc<Member>,
    /// What it is there for.
    pub role: Role,
    weight: u16,
    soft_limit: u32,
    hard_limit: u32,
}

/// All backends of a service at one moment.
#[derive(Debug)]
pub struct Pool {
    /// By [`BackendId`]; numbers of those that have gone are free.
    places: Box<[Option<Place>]>,
    /// Who shares newcomers: those who serve, then each group that stands by.
    tiers: Box<[Arc<Tier>]>,
}

impl Pool {
    /// A pool of nobody.
    pub fn empty() -> Pool {
        Pool { places: Box::default(), tiers: Box::default() }
    }

    /// The pool that follows this one: with these backends, of which those that are there already stay who they are.
    /// `seed` keys the choice; `renew`: not even tables whose members are the same stay.
    pub fn next(
        &self,
        backends: &[BackendConfig],
        seed: u64,
        renew: bool,
        mut member: impl FnMut(BackendId, &Endpoint) -> Member,
    ) -> Pool {
        let mut places: Vec<Option<Place>> = vec![None; self.places.len()];
        let mut new = Vec::new();
        let mut known = HashMap::<&Endpoint, Vec<&Place>>::new();
        self.places().for_each(|place| known.entry(&place.member.endpoint).or_default().push(place));
        for config in backends {
            match known.get_mut(&config.endpoint).and_then(Vec::pop) {
                Some(place) => {
                    if place.role == Role::Out && config.role != Role::Out {
                        place.member.succeeded();
                    }
                    places[usize::from(place.member.id.0)] = Some(Place::new(place.member.clone(), config));
                }
                None => new.push(config),
            }
        }
        let mut from = 0;
        for config in new {
            // A number that somebody had until now is left alone once, so that nobody looks at the wrong one.
            let is_free = |number: &usize| places[*number].is_none() && self.place_at(*number).is_none();
            let number = (from..places.len()).find(is_free).unwrap_or(places.len());
            let Ok(id) = u16::try_from(number) else { break };
            if number == places.len() {
                places.push(None);
            }
            places[number] = Some(Place::new(Arc::new(member(BackendId(id), &config.endpoint)), config));
            from = number + 1;
        }
        let tiers = tiers(&places, seed, if renew { &[] } else { &self.tiers });
        Pool { places: places.into(), tiers }
    }

    /// Its backends, by number.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().flatten()
    }

    /// The backend of that number.
    pub fn place(&self, id: BackendId) -> Option<&Place> {
        self.place_at(usize::from(id.0))
    }

    /// The place of this very backend; `None` when it has gone.
    pub fn place_of(&self, member: &Arc<Member>) -> Option<&Place> {
        self.place(member.id).filter(|place| Arc::ptr_eq(&place.member, member))
    }

    /// Who shares newcomers, in the order in which they are asked.
    pub(super) fn tiers(&self) -> &[Arc<Tier>] {
        &self.tiers
    }

    fn place_at(&self, number: usize) -> Option<&Place> {
        self.places.get(number)?.as_ref()
    }
}

impl Place {
    fn new(member: Arc<Member>, config: &BackendConfig) -> Place {
        let limit = |limit: Option<u32>| limit.unwrap_or(u32::MAX);
        let BackendConfig { weight, role, soft_limit, hard_limit, .. } = *config;
        Place { member, role, weight, soft_limit: limit(soft_limit), hard_limit: limit(hard_limit) }
    }

    /// Whom it may get at `now` (milliseconds of the proxy's clock); without `heed_failures` as if it had never failed.
    pub fn standing(&self, now: u64, heed_failures: bool) -> Standing {
        let connections = self.member.connections();
        let failed = || heed_failures && self.member.out_until.load(Relaxed) > now;
        match self.role {
            Role::Out => Standing::Out,
            _ if connections >= self.hard_limit || failed() => Standing::Out,
            Role::Keeping => Standing::Usable,
            _ if connections >= self.soft_limit => Standing::Usable,
            Role::Serving | Role::Standby(_) => Standing::Serving,
        }
    }

    /// Makes sure that only one connection at a time tries a backend that has failed: false for who comes second. With
    /// `out_for` 0 its time is simply over: where no answer is due, none could tell that it is back.
    pub fn may_try(&self, now: u64, out_for: u64) -> bool {
        let out_until = &self.member.out_until;
        let until = out_until.load(Relaxed);
        let next = if out_for == 0 { 0 } else { now.saturating_add(out_for) };
        until == 0 || out_until.compare_exchange(until, next, Relaxed, Relaxed).is_ok() || out_for == 0
    }

    /// Counts a connection in; false when the backend is full.
    pub fn enter(&self) -> bool {
        let room = self.member.connections.fetch_add(1, Relaxed) < self.hard_limit;
        if !room {
            self.member.leave();
        }
        room
    }

    /// Its connections by its weight: less means that it has more room. Comparable among backends.
    pub(super) fn load(&self) -> u64 {
        (u64::from(self.member.connections()) << 20) / u64::from(self.weight.max(1))
    }
}

/// Groups who serve and who stands by; a group that is as it was keeps its table.
fn tiers(places: &[Option<Place>], seed: u64, before: &[Arc<Tier>]) -> Box<[Arc<Tier>]> {
    let group = |place: &Place| match place.role {
        Role::Serving => Some(None),
        Role::Standby(priority) => Some(Some(priority)),
        Role::Keeping | Role::Out => None,
    };
    let mut groups = BTreeMap::<Option<u16>, Vec<Share>>::new();
    for place in places.iter().flatten() {
        let share = |place: &Place| Share::new(place.member.id, place.member.digest, place.weight);
        if let Some(group) = group(place) {
            groups.entry(group).or_default().push(share(place));
        }
    }
    let tier = |shares: Vec<Share>| {
        let as_before = before.iter().find(|tier| tier.is_of(&shares)).cloned();
        as_before.unwrap_or_else(|| Arc::new(Tier::build(seed, shares)))
    };
    groups.into_values().map(tier).collect()
}
