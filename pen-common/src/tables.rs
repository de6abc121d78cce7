//! What the pipeline looks up and remembers: the maps, seen from a packet.

use core::convert::Infallible;

use crate::abi::{
    Address, Backend, Directory, DirectoryHalf, Limit, ServiceEntry, Slot, TrackKeyV4, TrackKeyV6, Tracked,
};
use crate::flood::{self, Limits};
use crate::fragment;
use crate::limit;

/// The tables a packet's fate depends on. Lookups never fail loudly: what is not there is `None`.
pub trait Tables: Sized {
    /// A remembered choice that can be read and changed in place.
    type Memory<'a>: Memory
    where
        Self: 'a;

    /// A line of words that CPUs share, or that is this CPU's.
    type Line<'a>: Line
    where
        Self: 'a;

    /// The directory, and the half of it that is in use as told by one read of `active`.
    fn directory(&self) -> Option<(&Directory, &DirectoryHalf)>;

    /// The backend of an index.
    fn backend(&self, index: u16) -> Option<&Backend>;

    /// A slot of a service's table in one of its halves (0 or 1); `slot` is below [`crate::abi::SLOTS`].
    fn slot(&self, service: u16, half: u32, slot: u32) -> Option<Slot>;

    /// Takes a turn of a service with round-robin, in one of its rounds (0 or 1): the backend whose turn it is.
    fn take_turn(&self, service: u16, half: u32) -> Option<u16>;

    /// What is remembered under an IPv4 key.
    fn recall_v4(&self, key: &TrackKeyV4) -> Option<Self::Memory<'_>>;

    /// What is remembered under an IPv6 key.
    fn recall_v6(&self, key: &TrackKeyV6) -> Option<Self::Memory<'_>>;

    /// Remembers something new under an IPv4 key, if there is room or something older to forget.
    fn remember_v4(&self, key: &TrackKeyV4, value: &Tracked);

    /// As [`Tables::remember_v4`], for IPv6.
    fn remember_v6(&self, key: &TrackKeyV6, value: &Tracked);

    // Tables that only choose backends have none of what follows.

    /// A line of [`crate::fragment`]; below [`crate::abi::FRAGMENT_LINES`].
    fn fragments(&self, _: u32) -> Option<Self::Line<'_>> {
        None
    }

    /// A line of a table of [`crate::limit`]'s buckets; below [`crate::abi::BUCKET_LINES`].
    fn buckets(&self, _: u32, _: u32) -> Option<Self::Line<'_>> {
        None
    }

    /// What this CPU wanted to insert: words of [`crate::abi::inserts`].
    fn own_inserts(&self) -> Option<Self::Line<'_>> {
        None
    }

    /// One of [`crate::abi::NEWCOMER_LINES`] lines of who came to this CPU in a flood.
    fn newcomers(&self, _: u32) -> Option<Self::Line<'_>> {
        None
    }

    /// What all CPUs did, as far as they told: only the first two of those words.
    fn all_inserts(&self) -> Option<Self::Line<'_>> {
        None
    }

    /// What the access list of a service says about an address of its VIP's family: a value of [`crate::abi::access`].
    fn listed(&self, _: &ServiceEntry, _: &Address) -> Option<u32> {
        None
    }

    /// [`crate::limit::take_token`]. This and the following are apart so that a data plane may compile them once rather than
    /// into each place that asks.
    fn take_token(&self, table: u32, limit: Limit, key: u64) -> bool {
        limit::take_token(self, table, limit, key)
    }

    /// [`crate::flood::suppresses`].
    fn suppresses(&self, limits: Limits, now: u32) -> bool {
        flood::suppresses(self, limits, now)
    }

    /// [`crate::flood::note`].
    fn note_newcomer(&self, who: u64, now: u32) {
        flood::note(self, who, now);
    }

    /// [`crate::flood::came_before`].
    fn came_before(&self, who: u64, now: u32) -> bool {
        flood::came_before(self, who, now)
    }

    /// [`crate::fragment::put`].
    fn note_first(&self, line: u32, word: u64, now: u32) {
        fragment::put(self, line, word, now);
    }

    /// [`crate::fragment::find`].
    fn first(&self, line: u32, tag: u64, now: u32) -> u64 {
        fragment::find(self, line, tag, now)
    }

    /// Counts a packet that was refused in a record ([`crate::abi::refused_record`]), and notes where it came from and when.
    fn refused(&self, _: u32, _: &Address, _: u32) {}

    /// Word `index` of the loop filter.
    fn loop_filter(&self, index: usize) -> u64;

    /// Whether a [`crate::mac::loop_key`] is that of a backend of its service: exact, asked only when the filter says maybe.
    fn is_backend_mac(&self, key: u64) -> bool;

    /// The kernel's jiffies, 64 bits.
    fn jiffies(&self) -> u64;

    /// Takes note of something rare and puzzling, to be logged once the packet's fate is sealed.
    fn puzzled(&self, puzzle: Puzzle);
}

/// A remembered choice in its place in the table.
pub trait Memory {
    /// What is remembered.
    fn read(&self) -> Tracked;

    /// Notes that it was used in this second.
    fn touch(&self, seen: u32);

    /// Remembers something else under the same key.
    fn replace(&self, value: Tracked);
}

/// Words of a [`Line`].
pub const WORDS: u32 = 8;

/// [`WORDS`] words in their place, next to each other in memory: one line of a CPU's cache.
pub trait Line {
    /// One of them.
    fn word(&self, index: u32) -> u64;

    /// Stores one.
    fn set_word(&self, index: u32, value: u64);

    /// Adds to one, at once for all CPUs; what it was.
    fn add(&self, index: u32, amount: u64) -> u64;

    /// Stores one that is still what it was, at once for all CPUs; `false`: it is not.
    fn replace(&self, index: u32, before: u64, after: u64) -> bool;
}

/// Of tables that have none.
impl Line for Infallible {
    fn word(&self, _: u32) -> u64 {
        match *self {}
    }

    fn set_word(&self, _: u32, _: u64) {}

    fn add(&self, _: u32, _: u64) -> u64 {
        match *self {}
    }

    fn replace(&self, _: u32, _: u64, _: u64) -> bool {
        match *self {}
    }
}

/// What should not happen, does no harm, and somebody should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Puzzle {
    /// A slot or turn names an index that is retired, or belongs to nobody or to another service's backend.
    RetiredIndex {
        /// The index.
        index: u16,
        /// The service whose slot or turn names it.
        service: u16,
    },
}
