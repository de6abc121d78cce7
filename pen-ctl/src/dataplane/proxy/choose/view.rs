//! The tables of `pen_common`, as they stand for one connection.

use pen_common::abi::{Backend, Directory, DirectoryHalf, SLOTS, Slot, TrackKeyV4, TrackKeyV6, Tracked};
use pen_common::tables::{self, Puzzle, Tables};

use super::{Chooser, Excluded, Rules};
use crate::dataplane::Scheduler;
use crate::dataplane::proxy::memory::{Key, Memory};
use crate::dataplane::proxy::pool::{BackendId, Pool, Standing};
use crate::dataplane::proxy::tier::Tier;

/// How many slots are looked at for one whose owner serves, before any that serves will do.
const TRIES: u32 = 64;
/// From one of these slots to the next: with a table whose size is prime, never the same one twice.
const STRIDE: u32 = 40_503;

/// The pool at one moment, seen by one connection.
pub(super) struct View<'a> {
    pub(super) chooser: &'a Chooser,
    pub(super) rules: &'a Rules,
    pub(super) pool: &'a Pool,
    /// Who shares newcomers.
    pub(super) tier: &'a Tier,
    pub(super) excluded: &'a Excluded,
    /// Those that somebody else tries just now.
    pub(super) busy: &'a Excluded,
    /// Milliseconds.
    pub(super) now: u64,
    pub(super) heed_failures: bool,
}

impl View<'_> {
    fn standing(&self, index: u16) -> Standing {
        let id = BackendId(index);
        if self.excluded.contains(id) || self.busy.contains(id) {
            return Standing::Out;
        }
        self.pool.place(id).map_or(Standing::Out, |place| place.standing(self.now, self.heed_failures))
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
    type Line<'m>
        = std::convert::Infallible
    where
        Self: 'm;

    fn directory(&self) -> Option<(&Directory, &DirectoryHalf)> {
        let [half, _] = &self.rules.directory.halves;
        Some((&self.rules.directory, half))
    }

    fn backend(&self, index: u16) -> Option<&Backend> {
        let place = self.pool.place(BackendId(index))?;
        Some(place.member.record(self.standing(index)))
    }

    /// The slot, or one in its stead whose owner serves: always the same one while the same backends are out.
    fn slot(&self, _service: u16, _half: u32, slot: u32) -> Option<Slot> {
        let stands_in = |attempt: u32| self.tier.owner((slot + attempt * STRIDE) % SLOTS);
        let owner = (0..TRIES).map(stands_in).find(|&owner| self.serves(owner));
        let anybody = || self.tier.numbers().find(|&index| self.serves(index));
        owner.or_else(anybody).map(Slot::owned_by)
    }

    fn take_turn(&self, _service: u16, _half: u32) -> Option<u16> {
        match self.rules.policy.scheduler {
            Scheduler::LeastConnections => {
                self.chooser.least_loaded(self.tier, self.pool, |index| self.serves(index))
            }
            // Also those without an address: they have no slot.
            Scheduler::Maglev | Scheduler::RoundRobin => {
                self.chooser.next_turn(self.tier, |index| self.serves(index))
            }
        }
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

    /// Jiffies here are quarters of a second, as the directory says.
    fn jiffies(&self) -> u64 {
        self.now / 250
    }

    /// Slots and turns name backends of this very pool: nothing to puzzle over.
    fn puzzled(&self, _puzzle: Puzzle) {}
}

/// A remembered choice.
pub(super) struct Remembered<'a> {
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
