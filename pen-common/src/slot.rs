//! A slot through its changes of owner: who had it before is kept for a while, so that flows from before stay there.
//!
//! A change opens a window. While it is *open*, what begins goes to the owner and everything else that is not
//! remembered to the previous owner; both are remembered. Once it is over, the slot is *closing*: memory still
//! decides, all else goes to the owner, until no memory in use names anybody else. Then the slot is unmarked, and with
//! tracking `transitions` its packets neither read nor write memory. The controller moves the phases; when it is dead,
//! they only last longer.

use crate::abi::{NO_BACKEND, Slot, slot_phase};

/// Where a slot is in a change of owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In none: the owner alone decides.
    Unmarked,
    /// Flows from before the change are told from those that begin by their packets.
    Open,
    /// Only remembered flows stay where they were.
    Closing,
}

impl Slot {
    /// Nobody's.
    pub const EMPTY: Self = Self::owned_by(NO_BACKEND);

    /// Owned by the backend of this index, unmarked.
    pub const fn owned_by(owner: u16) -> Self {
        Self { owner, previous: NO_BACKEND, window: slot_phase::UNMARKED }
    }

    /// The slot whose eight bytes, as they stand in the map, are this word.
    pub const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        Self {
            owner: u16::from_ne_bytes([a, b]),
            previous: u16::from_ne_bytes([c, d]),
            window: u32::from_ne_bytes([e, f, g, h]),
        }
    }

    /// Its eight bytes, as they stand in the map, as a word.
    pub const fn word(self) -> u64 {
        let ([a, b], [c, d]) = (self.owner.to_ne_bytes(), self.previous.to_ne_bytes());
        let [e, f, g, h] = self.window.to_ne_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    /// Its phase; one that nobody wrote counts as closing, in which memory decides.
    #[inline(always)]
    pub const fn phase(self) -> Phase {
        match self.window & slot_phase::MASK {
            slot_phase::UNMARKED => Phase::Unmarked,
            slot_phase::OPEN => Phase::Open,
            _ => Phase::Closing,
        }
    }

    /// Whom a packet goes to that nobody remembers, and whom if that one may not have it; `opens`: it is known to begin
    /// a flow.
    #[inline(always)]
    pub const fn candidates(self, opens: bool) -> [u16; 2] {
        match self.phase() {
            Phase::Open if !opens => [self.previous, self.owner],
            _ => [self.owner, self.previous],
        }
    }

    /// The slot once it is `owner`'s, with a window of `transition` seconds from `now` on if that changes anything for
    /// flows that there may be: where nobody owned it, there are none.
    ///
    /// A window that is open goes on with the previous owner it has, the oldest, even if that one is dead or owns the
    /// slot again; one that is closing gives way to a new one.
    #[must_use]
    pub const fn given_to(self, owner: u16, now: u32, transition: u32) -> Self {
        if owner == self.owner {
            return self;
        }
        let previous = match self.phase() {
            Phase::Unmarked if self.owner == NO_BACKEND => return Self::owned_by(owner),
            Phase::Open => self.previous,
            Phase::Unmarked | Phase::Closing => self.owner,
        };
        Self { owner, previous, window: slot_phase::OPEN }.until(now.wrapping_add(transition))
    }

    /// The slot with its owner as the previous one: for a previous owner that was dead while nothing could be remembered,
    /// so that flows which moved from it cannot be told from its own.
    #[must_use]
    pub const fn without_previous(self) -> Self {
        match self.phase() {
            Phase::Open => Self { previous: self.owner, ..self },
            Phase::Unmarked | Phase::Closing => self,
        }
    }

    /// The slot at `now`: closing if it was open and its window is over. `suppressed` is the last second in which something
    /// that should have been remembered was not: the window lasts at least one `transition` longer.
    #[must_use]
    pub const fn at(self, now: u32, suppressed: Option<u32>, transition: u32) -> Self {
        if !matches!(self.phase(), Phase::Open) {
            return self;
        }
        let lasting = match suppressed {
            Some(second) => self.lasting(second.wrapping_add(transition)),
            None => self,
        };
        if is_past(lasting.end(), now) {
            Self { window: slot_phase::CLOSING | lasting.end(), ..lasting }
        } else {
            lasting
        }
    }

    /// The slot once no memory in use names anybody but its owner.
    #[must_use]
    pub const fn closed(self) -> Self {
        match self.phase() {
            Phase::Closing => Self::owned_by(self.owner),
            Phase::Unmarked | Phase::Open => self,
        }
    }

    /// The low 30 bits of the second in which its window ends.
    pub const fn end(self) -> u32 {
        self.window & !slot_phase::MASK
    }

    const fn until(self, end: u32) -> Self {
        Self { window: self.window & slot_phase::MASK | end & !slot_phase::MASK, ..self }
    }

    /// Until that second, if its window ends earlier.
    const fn lasting(self, end: u32) -> Self {
        if is_past(self.end(), end) { self.until(end) } else { self }
    }
}

/// Whether a second of which the low 30 bits are known lies before another, or is the same: half the range, 17 years, is
/// what has passed.
const fn is_past(second: u32, now: u32) -> bool {
    now.wrapping_sub(second) & !slot_phase::MASK < 1 << 29
}

#[cfg(test)]
mod tests;
