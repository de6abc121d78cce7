//! The backends of a service, what is known of each, and whether it may get a connection.
//!
//! Health is *passive*: what connections meet. A backend that refuses or does not answer is left out for a while; then
//! one connection tries it, and only when that one succeeds do others follow.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::endpoint::Endpoint;

/// A backend's number: its place in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u16);

/// What is asked of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// 1 to 1000.
    pub weight: u16,
    /// Connections at once from which on only clients that it had before get there.
    pub soft_limit: Option<u32>,
    /// Connections at once from which on nobody gets there.
    pub hard_limit: Option<u32>,
}

/// Whom a backend may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everybody.
    Serving,
    /// Clients it had before.
    Usable,
    /// Nobody.
    Out,
}

/// A backend as all workers see it.
#[derive(Debug)]
struct Member {
    config: BackendConfig,
    connections: AtomicU32,
    /// Milliseconds of the pool's clock until which it is left out; 0: nothing is held against it.
    out_until: AtomicU64,
}

/// All backends of a service.
#[derive(Debug)]
pub struct Pool {
    members: Box<[Member]>,
    /// Milliseconds for which a failure counts.
    out_for: u64,
}

impl Pool {
    /// A pool in which a failure counts for `out_for`.
    pub fn new(backends: Vec<BackendConfig>, out_for: Duration) -> Pool {
        let members = backends.into_iter().map(|config| Member {
            config,
            connections: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
        });
        Pool { members: members.collect(), out_for: u64::try_from(out_for.as_millis()).unwrap_or(u64::MAX) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// All backends, in the order they were given.
    pub fn ids(&self) -> impl Iterator<Item = BackendId> + use<> {
        (0..self.members.len() as u16).map(BackendId)
    }

    /// What was asked of a backend of this pool.
    pub fn config(&self, id: BackendId) -> &BackendConfig {
        &self.member(id).config
    }

    /// Its connections now.
    pub fn connections(&self, id: BackendId) -> u32 {
        self.member(id).connections.load(Relaxed)
    }

    /// Whom it may get at `now` (milliseconds of the pool's clock); without `heed_failures` as if it had never failed.
    pub fn standing(&self, id: BackendId, now: u64, heed_failures: bool) -> Standing {
        let Some(member) = self.members.get(usize::from(id.0)) else { return Standing::Out };
        let connections = member.connections.load(Relaxed);
        let reached = |limit: Option<u32>| limit.is_some_and(|limit| connections >= limit);
        if heed_failures && member.out_until.load(Relaxed) > now || reached(member.config.hard_limit) {
            Standing::Out
        } else if reached(member.config.soft_limit) {
            Standing::Usable
        } else {
            Standing::Serving
        }
    }

    /// Makes sure that only one connection at a time tries a backend that has failed: false for who comes second.
    pub fn may_try(&self, id: BackendId, now: u64) -> bool {
        let out_until = &self.member(id).out_until;
        let until = out_until.load(Relaxed);
        until == 0 || out_until.compare_exchange(until, now + self.out_for, Relaxed, Relaxed).is_ok()
    }

    /// Counts a connection in; false when the backend is full.
    pub fn enter(&self, id: BackendId) -> bool {
        let member = self.member(id);
        let before = member.connections.fetch_add(1, Relaxed);
        let room = member.config.hard_limit.is_none_or(|limit| before < limit);
        if !room {
            self.leave(id);
        }
        room
    }

    /// Counts a connection out.
    pub fn leave(&self, id: BackendId) {
        self.member(id).connections.fetch_sub(1, Relaxed);
    }

    /// A connection was refused or not answered in time. True if nothing was held against the backend before.
    pub fn failed(&self, id: BackendId, now: u64) -> bool {
        self.member(id).out_until.swap(now + self.out_for, Relaxed) == 0
    }

    /// A connection succeeded. True if something was held against the backend before.
    pub fn succeeded(&self, id: BackendId) -> bool {
        let out_until = &self.member(id).out_until;
        // Nearly always nothing to write: the line stays in every worker's cache.
        out_until.load(Relaxed) != 0 && out_until.swap(0, Relaxed) != 0
    }

    /// Whether something is held against a backend.
    pub fn is_suspect(&self, id: BackendId) -> bool {
        self.member(id).out_until.load(Relaxed) != 0
    }

    fn member(&self, id: BackendId) -> &Member {
        &self.members[usize::from(id.0)]
    }
}
