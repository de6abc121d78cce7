//! Which backend each client was given: a table of bounded size that forgets who was not seen for longest, roughly.
//!
//! Each shard keeps two generations. What is new or seen again is in the young one; when that is full it becomes the old
//! one, and what was the old one is forgotten. So a shard holds at most its size, and who comes back in time stays.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};

use pen_common::abi::{Address, TrackKeyV4, TrackKeyV6, Tracked};

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

impl Key {
    /// The key of a client, or of its flow from that port (network byte order; 0 = all of its flows).
    pub fn of(client: IpAddr, client_port: u16) -> Key {
        match client {
            IpAddr::V4(v4) => Key::V4(TrackKeyV4 {
                client: u32::from_ne_bytes(v4.octets()),
                client_port,
                ..TrackKeyV4::default()
            }),
            IpAddr::V6(_) => {
                let client = Address::from(client).words;
                Key::V6(TrackKeyV6 { client, client_port, ..TrackKeyV6::default() })
            }
        }
    }

    /// 0 for IPv4, 1 for IPv6.
    const fn family(&self) -> usize {
        match self {
            Key::V4(_) => 0,
            Key::V6(_) => 1,
        }
    }

    /// The client, and the port of its flow (network byte order; 0 = all of its flows).
    pub fn client(&self) -> (IpAddr, u16) {
        match self {
            Key::V4(key) => (Ipv4Addr::from(key.client.to_ne_bytes()).into(), key.client_port),
            Key::V6(key) => (Address { words: key.client }.to_ip(), key.client_port),
        }
    }
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
    /// What came and what was taken out, by family.
    churn: [Churn; 2],
}

/// How many entries came into a table and were taken out of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Entries that were made.
    pub inserted: u64,
    /// Entries that were forgotten because somebody wanted that.
    pub deleted: u64,
}

impl Memory {
    /// A table for `clients` at most (at least one a shard and generation).
    pub fn new(clients: usize) -> Memory {
        let size = (clients / (2 * SHARDS)).max(1);
        let shard = |_| {
            let (young, old) = (HashMap::new(), HashMap::new());
            Mutex::new(Shard { young, old, size, churn: Default::default() })
        };
        Memory { shards: (0..SHARDS).map(shard).collect(), hasher: RandomState::new() }
    }

    /// What is remembered under a key.
    pub fn recall(&self, key: &Key) -> Option<Tracked> {
        self.with(key, |shard| shard.young.get(key).or_else(|| shard.old.get(key)).copied())
    }

    /// Remembers something under a key, in place of what was there.
    pub fn remember(&self, key: Key, tracked: Tracked) {
        self.with(&key, |shard| {
            let mut known = shard.young.contains_key(&key);
            if shard.young.len() >= shard.size && !known {
                known = shard.old.contains_key(&key);
                shard.old = std::mem::take(&mut shard.young);
            }
            known |= shard.old.remove(&key).is_some();
            shard.young.insert(key, tracked);
            shard.churn[key.family()].inserted += u64::from(!known);
        });
    }

    /// Shows all that is remembered to `keep`, which says of each whether it stays, until it says [`None`]. Nobody waits
    /// meanwhile: what comes or changes during that may be seen as it was or as it is, and stays.
    pub fn review(&self, mut keep: impl FnMut(&Key, Tracked) -> Option<bool>) {
        for shard in &self.shards {
            let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
            let all: Vec<(Key, Tracked)> = {
                let Shard { young, old, .. } = &*lock();
                young.iter().chain(old).map(|(key, tracked)| (*key, *tracked)).collect()
            };
            let mut forgotten = Vec::new();
            let on = all.iter().try_for_each(|(key, tracked)| {
                let stays = keep(key, *tracked);
                if stays == Some(false) {
                    forgotten.push((*key, *tracked));
                }
                stays.map(|_| ())
            });
            let Shard { young, old, churn, .. } = &mut *lock();
            for (key, tracked) in forgotten {
                for generation in [&mut *young, &mut *old] {
                    if generation.get(&key) == Some(&tracked) {
                        generation.remove(&key);
                        churn[key.family()].deleted += 1;
                    }
                }
            }
            if on.is_none() {
                return;
            }
        }
    }

    /// How many can be remembered.
    pub fn size(&self) -> usize {
        self.shards.iter().map(|shard| 2 * shard.lock().unwrap_or_else(PoisonError::into_inner).size).sum()
    }

    /// What came and what was taken out, by family: IPv4, IPv6.
    pub fn churn(&self) -> [Churn; 2] {
        let mut sum = [Churn::default(); 2];
        for shard in &self.shards {
            add(&mut sum, shard.lock().unwrap_or_else(PoisonError::into_inner).churn);
        }
        sum
    }

    /// The same with how many are remembered, of one moment for each that is remembered.
    pub fn census(&self) -> [(Churn, usize); 2] {
        let (mut sum, mut used) = ([Churn::default(); 2], [0; 2]);
        for shard in &self.shards {
            let Shard { young, old, churn, .. } = &*shard.lock().unwrap_or_else(PoisonError::into_inner);
            young.keys().chain(old.keys()).for_each(|key| used[key.family()] += 1);
            add(&mut sum, *churn);
        }
        let ([v4, v6], [used_v4, used_v6]) = (sum, used);
        [(v4, used_v4), (v6, used_v6)]
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

fn add(sum: &mut [Churn; 2], parts: [Churn; 2]) {
    for (sum, part) in sum.iter_mut().zip(parts) {
        sum.inserted += part.inserted;
        sum.deleted += part.deleted;
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
    fn whoever_is_reviewed_can_be_forgotten_and_the_review_ended() {
        let memory = Memory::new(10_000);
        (0..1000).for_each(|client| memory.remember(key(client), tracked((client % 3) as u16)));
        memory.review(|_, Tracked { backend, .. }| Some(backend != 0));
        assert_eq!(memory.len(), 666);
        assert_eq!((memory.recall(&key(3)), memory.recall(&key(4))), (None, Some(tracked(1))));
        let mut seen = 0;
        memory.review(|_, _| {
            seen += 1;
            (seen < 5).then_some(false)
        });
        assert_eq!((seen, memory.census().map(|(_, used)| used)), (5, [662, 0]));
    }

    #[test]
    fn what_was_made_is_there_or_deleted_or_gave_way() {
        let memory = Memory::new(2 * SHARDS * 10);
        for client in 0..5_000 {
            memory.remember(key(client), tracked(1));
            memory.remember(key(client), tracked(2));
        }
        memory.review(|_, _| Some(false));
        assert_eq!(memory.churn()[0].inserted, 5_000, "who moved is no other");
        assert!((1..=1280).contains(&memory.churn()[0].deleted), "{:?}", memory.churn());
        assert_eq!((memory.len(), memory.churn()[1]), (0, Churn::default()));
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
