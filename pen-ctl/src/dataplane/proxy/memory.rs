//! Which backend each client was given: a table of bounded size that forgets who was not seen for longest, roughly.
//!
//! Each shard keeps two generations. What is new or seen again is in the young one; when that is full it becomes the old
//! one, and what was the old one is forgotten. So a shard holds at most its size, and who comes back in time stays.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use pen_common::abi::{TrackKeyV4, TrackKeyV6, Tracked};

/// Locks; connections of different clients seldom meet at one.
const SHARDS: usize = 64;

/// A client or flow of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// IPv4.
    V4(TrackKeyV4),
    /// IPv6.
    V6(TrackKeyV6),
}

/// The table.
#[derive(Debug)]
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    young: HashMap<Key, Tracked>,
    old: HashMap<Key, Tracked>,
    /// Entries of one generation at most.
    size: usize,
}

impl Memory {
    /// A table for `clients` at most (at least one a shard and generation).
    pub fn new(clients: usize) -> Memory {
        let size = (clients / (2 * SHARDS)).max(1);
        let shard = |_| Mutex::new(Shard { young: HashMap::new(), old: HashMap::new(), size });
        Memory { shards: (0..SHARDS).map(shard).collect(), hasher: RandomState::new() }
    }

    /// What is remembered under a key.
    pub fn recall(&self, key: &Key) -> Option<Tracked> {
        self.with(key, |shard| shard.young.get(key).or_else(|| shard.old.get(key)).copied())
    }

    /// Remembers something under a key, in place of what was there.
    pub fn remember(&self, key: Key, tracked: Tracked) {
        self.with(&key, |shard| {
            if shard.young.len() >= shard.size && !shard.young.contains_key(&key) {
                shard.old = std::mem::take(&mut shard.young);
            }
            shard.old.remove(&key);
            shard.young.insert(key, tracked);
        });
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        let of = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(of).sum()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, key: &Key, work: impl FnOnce(&mut Shard) -> T) -> T {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        // Nothing in here panics halfway through a change.
        work(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: u32) -> Key {
        Key::V4(TrackKeyV4 { client, ..TrackKeyV4::default() })
    }

    fn tracked(backend: u16) -> Tracked {
        Tracked { backend, generation: 0, seen: 0 }
    }

    #[test]
    fn a_flood_of_clients_never_fills_more_than_the_table_and_never_drives_out_who_keeps_coming() {
        let memory = Memory::new(10_000);
        memory.remember(key(u32::MAX), tracked(7));
        for client in 0..200_000 {
            memory.remember(key(client), tracked(1));
            assert_eq!(memory.recall(&key(u32::MAX)), Some(tracked(7)), "after {client}");
            memory.remember(key(u32::MAX), tracked(7));
        }
        assert!(memory.len() <= 10_000, "{}", memory.len());
        assert_eq!(memory.recall(&key(0)), None, "forgotten long ago");
        assert!((0..200_000).filter(|&client| memory.recall(&key(client)).is_some()).count() > 4_000);
    }

    #[test]
    fn who_moved_is_remembered_once_and_where_he_is_now() {
        let memory = Memory::new(2 * SHARDS);
        for backend in 0..10 {
            memory.remember(key(1), tracked(backend));
            assert_eq!(memory.recall(&key(1)), Some(tracked(backend)));
        }
        assert_eq!(memory.len(), 1);
    }
}
