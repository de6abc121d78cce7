//! Where first fragments went, so that later ones, which have no ports, follow them.
//!
//! A small table of lines, each of which holds the newest of those whose datagrams hash there: word by word, so that one
//! store remembers one and nobody sees half of it. Writing there costs a fraction of an insertion into a hash table of
//! the kernel, so that a flood of first fragments hurts nobody.

use crate::abi::{Address, FRAGMENT_LINES};
use crate::hash::{absorb, finish};
use crate::service::{TCP, UDP};
use crate::tables::{Line, Tables, WORDS};

/// Seconds that the rest of a datagram is waited for, as Linux does (`ipfrag_time` in its ip-sysctl document).
pub const TIMEOUT: u32 = 30;

/// Keeps these hashes apart from those that choose slots.
const SALT: u64 = 0x6672_6167_6d65_6e74;
/// Fields of a word: the second it was written in (its low bits), ports, backend and the like, and what tells datagrams
/// of one line apart. The lowest bit of the latter is always set: a word of zero is nobody's.
const SEEN: u64 = 0xff;
const PORT: u32 = 8;
const BACKEND: u32 = 24;
const GENERATION: u32 = 39;
const IS_UDP: u32 = 41;
const TAG: u32 = 42;
/// No backend: what the first fragment came to was none's.
const NOBODY: u16 = 0x7fff;

/// Which datagram a fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    line: u32,
    /// In its place in a word.
    tag: u64,
}

impl Id {
    /// By its addresses, its identification as it stands in the packet, and with IPv4 its protocol (RFC 791, 3.2). With IPv6
    /// that is 0: what later fragments say comes next does not count (RFC 8200, 4.5).
    #[inline(always)]
    pub const fn new(seed: u64, source: &Address, destination: &Address, id: u32, protocol: u8) -> Self {
        let ([high, low], [to_high, to_low]) = (source.halves(), destination.halves());
        let addresses = absorb(absorb(absorb(absorb(seed ^ SALT, high), low), to_high), to_low);
        let hash = finish(absorb(addresses, id as u64 | (protocol as u64) << 32));
        Self { line: hash as u32 & (FRAGMENT_LINES - 1), tag: (hash >> TAG | 1) << TAG }
    }
}

/// What a first fragment came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// Its destination port, wire order.
    pub port: u16,
    /// Its protocol: TCP or UDP.
    pub protocol: u8,
    /// The index of its backend; `None` where it was left to the local stack.
    pub backend: Option<u16>,
    /// The low bits of that backend's generation.
    generation: u8,
}

impl First {
    /// One that went to this backend of this generation.
    #[inline(always)]
    pub const fn to(port: u16, protocol: u8, backend: u16, generation: u16) -> Self {
        Self { port, protocol, backend: Some(backend), generation: generation as u8 & 3 }
    }

    /// One that was left to the local stack.
    #[inline(always)]
    pub const fn passed(port: u16, protocol: u8) -> Self {
        Self { port, protocol, backend: None, generation: 0 }
    }

    /// Whether its backend's index still means who it meant.
    #[inline(always)]
    pub const fn is_of_generation(&self, generation: u16) -> bool {
        generation as u8 & 3 == self.generation
    }

    #[inline(always)]
    fn word(self, id: Id, now: u32) -> u64 {
        u64::from(now) & SEEN
            | u64::from(self.port) << PORT
            | u64::from(self.backend.unwrap_or(NOBODY)) << BACKEND
            | u64::from(self.generation) << GENERATION
            | u64::from(self.protocol == UDP) << IS_UDP
            | id.tag
    }

    #[inline(always)]
    const fn of_word(word: u64) -> Self {
        let backend = (word >> BACKEND) as u16 & NOBODY;
        Self {
            port: (word >> PORT) as u16,
            protocol: if word >> IS_UDP & 1 == 0 { TCP } else { UDP },
            backend: if backend == NOBODY { None } else { Some(backend) },
            generation: (word >> GENERATION) as u8 & 3,
        }
    }
}

/// Remembers a first fragment.
#[inline(always)]
pub fn remember<T: Tables>(tables: &T, id: Id, first: First, now: u32) {
    tables.note_first(id.line, first.word(id, now), now);
}

/// What the first fragment of a datagram came to, if it is known and not too old.
#[inline(always)]
pub fn recall<T: Tables>(tables: &T, id: Id, now: u32) -> Option<First> {
    match tables.first(id.line, id.tag, now) {
        0 => None,
        word => Some(First::of_word(word)),
    }
}

/// Puts a word into a line, in the place of an older one of the same datagram, else of whichever is oldest: what
/// [`Tables::note_first`] does.
#[inline(always)]
pub fn put<T: Tables>(tables: &T, line: u32, word: u64, now: u32) {
    let Some(line) = tables.fragments(line) else { return };
    let (mut place, mut oldest) = (0, 0);
    for index in 0..WORDS {
        let other = line.word(index);
        // The same datagram's, and then an empty one, are older than any other.
        let age = match other {
            0 => 1 << 16,
            _ if other >> TAG == word >> TAG => 1 << 17,
            _ => age(other, now),
        };
        if age >= oldest {
            (place, oldest) = (index, age);
        }
    }
    line.set_word(place, word);
}

/// Finds the word of this tag in a line, if it is not too old, else 0: what [`Tables::first`] does.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, line: u32, tag: u64, now: u32) -> u64 {
    let Some(line) = tables.fragments(line) else { return 0 };
    for index in 0..WORDS {
        let word = line.word(index);
        if word >> TAG == tag >> TAG && age(word, now) <= TIMEOUT {
            return word;
        }
    }
    0
}

/// Seconds since a word was written; another CPU's clock may be a tick ahead.
#[inline(always)]
const fn age(word: u64, now: u32) -> u32 {
    let age = now.wrapping_sub(word as u32) & SEEN as u32;
    if age == SEEN as u32 { 0 } else { age }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostTables;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;

    fn id(number: u32) -> Id {
        let [source, destination] = [1, 2].map(|host| Address::from(Ipv4Addr::new(192, 0, 2, host)));
        Id::new(7, &source, &destination, number, UDP)
    }

    /// Numbers of datagrams that hash to one line.
    fn neighbors(count: usize) -> Vec<Id> {
        let line = id(0).line;
        (0..).map(id).filter(|one| one.line == line).take(count).collect()
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_is_recalled(port: u16, backend in 0..16_384u16, generation: u16, udp: bool) {
            let tables = HostTables::default();
            let protocol = if udp { UDP } else { TCP };
            for first in [First::to(port, protocol, backend, generation), First::passed(port, protocol)] {
                remember(&tables, id(5), first, 1000);
                prop_assert_eq!(recall(&tables, id(5), 1000), Some(first));
                prop_assert_eq!(recall(&tables, id(6), 1000), None);
            }
            prop_assert!(First::to(port, protocol, backend, generation).is_of_generation(generation));
            prop_assert!(!First::to(port, protocol, backend, generation).is_of_generation(generation.wrapping_add(1)));
        }
    }

    #[test]
    fn the_rest_is_waited_for_as_long_as_hosts_do() {
        let tables = HostTables::default();
        remember(&tables, id(1), First::passed(1, UDP), 250);
        assert!(recall(&tables, id(1), 250 + TIMEOUT).is_some());
        assert!(recall(&tables, id(1), 249).is_some(), "another CPU is a tick ahead");
        assert!(recall(&tables, id(1), 251 + TIMEOUT).is_none());
    }

    #[test]
    fn an_identification_that_is_used_again_means_the_newer_datagram() {
        let tables = HostTables::default();
        remember(&tables, id(1), First::to(1, UDP, 5, 0), 100);
        remember(&tables, id(1), First::to(2, TCP, 6, 0), 100);
        assert_eq!(recall(&tables, id(1), 100), Some(First::to(2, TCP, 6, 0)));
    }

    #[test]
    fn a_full_line_forgets_the_oldest() {
        let tables = HostTables::default();
        let ids = neighbors(WORDS as usize + 1);
        let times = [104, 107, 101, 103, 106, 105, 108, 102, 109];
        for (id, at) in ids.iter().zip(times) {
            remember(&tables, *id, First::passed(1, UDP), at);
        }
        let known: Vec<bool> = ids.iter().map(|id| recall(&tables, *id, 109).is_some()).collect();
        assert_eq!(known, [true, true, false, true, true, true, true, true, true]);
    }
}
