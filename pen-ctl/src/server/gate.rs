//! Counts connections: how many there may be, in all and of one caller, with room left for those who may write.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::Limits;
use super::peer::Peer;

/// Who is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    User(Option<u32>),
    Address(IpAddr),
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// There are as many as there may be.
    Everywhere,
    /// The caller has as many as one may have.
    ForCaller,
}

/// Admits connections.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Of those who may only look.
    readers: usize,
    by_caller: HashMap<Caller, usize>,
}

/// A connection that was admitted; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    caller: Caller,
    reader: bool,
    counts: Arc<Mutex<Counts>>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Takes a place for a connection. Those who may write find one while others flood: what is kept for them is
    /// given to nobody else, and the share of one caller is not theirs to keep to.
    pub(super) fn admit(&self, peer: Peer) -> Result<Pass, Full> {
        let caller = peer.address.map_or(Caller::User(peer.uid), |address| Caller::Address(address.ip()));
        let reader = peer.may_write().is_err();
        let for_readers = self.limits.connections.saturating_sub(self.limits.kept_for_writers);
        let mut counts = lock(&self.counts);
        if counts.all >= self.limits.connections || (reader && counts.readers >= for_readers) {
            return Err(Full::Everywhere);
        }
        let own = counts.by_caller.get(&caller).copied().unwrap_or(0);
        if reader && own >= self.limits.per_caller {
            return Err(Full::ForCaller);
        }
        counts.all += 1;
        counts.readers += usize::from(reader);
        counts.by_caller.insert(caller, own + 1);
        Ok(Pass { caller, reader, counts: self.counts.clone() })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        counts.readers -= usize::from(self.reader);
        match counts.by_caller.get_mut(&self.caller) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(counts.by_caller.remove(&self.caller)),
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Peer {
        Peer { uid: Some(uid), address: None }
    }

    #[test]
    fn readers_share_what_writers_leave_and_nobody_else_takes_the_writers_room() {
        let limits = Limits { connections: 10, kept_for_writers: 3, per_caller: 4, ..Limits::LOCAL };
        let gate = Gate::new(limits);
        let mut first: Vec<Pass> = (0..4).map(|_| gate.admit(user(90_001)).unwrap()).collect();
        assert_eq!(gate.admit(user(90_001)).unwrap_err(), Full::ForCaller);
        let _second: Vec<Pass> = (0..3).map(|_| gate.admit(user(90_002)).unwrap()).collect();
        assert_eq!(gate.admit(user(90_002)).unwrap_err(), Full::Everywhere);
        let _root: Vec<Pass> = (0..3).map(|_| gate.admit(user(0)).unwrap()).collect();
        assert_eq!(gate.admit(user(0)).unwrap_err(), Full::Everywhere);
        // A place that is given back is anybody's who may have one more.
        first.pop();
        assert!(gate.admit(user(90_002)).is_ok());
        first.clear();
        assert!(gate.admit(user(90_001)).is_ok());
    }

    #[test]
    fn remote_addresses_are_counted_without_their_ports_and_none_of_them_writes() {
        let limits = Limits { connections: 9, per_caller: 1, ..Limits::NETWORK };
        let gate = Gate::new(limits);
        let at = |text: &str| Peer { uid: None, address: Some(text.parse().unwrap()) };
        let _one = gate.admit(at("192.0.2.1:1000")).unwrap();
        assert_eq!(gate.admit(at("192.0.2.1:1001")).unwrap_err(), Full::ForCaller);
        assert!(gate.admit(at("192.0.2.2:1000")).is_ok());
    }
}
