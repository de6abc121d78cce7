//! What the pipeline looks up and remembers: the maps, seen from a packet.

use crate::abi::{Backend, Directory, DirectoryHalf, Slot, TrackKeyV4, TrackKeyV6, Tracked};

/// The tables a packet's fate depends on. Lookups never fail loudly: what is not there is `None`.
pub trait Tables {
    /// A remembered choice that can be read and changed in place.
    type Memory<'a>: Memory
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
