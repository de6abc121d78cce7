//! When newcomers come faster than memory is worth: in a flood nobody is remembered anew, and slots alone decide.
//!
//! What counts is how many newcomers there would be to remember in a second, remembered or not: on this CPU, and on all
//! together, which each CPU looks at now and then. Who was remembered before stays so, because a flood inserts little before
//! it is noticed, and nothing once it is; and it is over only after some quiet seconds, so that it gains nothing by pausing.

use crate::abi::inserts;
use crate::tables::{Line, Tables};

/// Seconds without too many newcomers after which a flood is over.
pub const CALM: u32 = 10;
/// Newcomers of one CPU from one look at those of all to the next.
const LOOK_EVERY: u32 = 32;

/// How many newcomers a second are a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// More than this on one CPU.
    pub per_cpu: u32,
    /// More than this on all of them together.
    pub in_all: u32,
}

/// Counts a newcomer that should be remembered; whether it is not to be, as it comes in a flood: what
/// [`Tables::suppresses`] does. `now` is the second of the data plane's clock.
#[inline(always)]
pub fn suppresses<T: Tables>(tables: &T, limits: Limits, now: u32) -> bool {
    let Some(own) = tables.own_inserts() else { return false };
    let pace = own.word(inserts::PACE);
    let newcomers = if (pace >> 32) as u32 == now { (pace as u32).saturating_add(1) } else { 1 };
    own.set_word(inserts::PACE, u64::from(now) << 32 | u64::from(newcomers));
    let mut until = own.word(inserts::UNTIL) as u32;
    let looks = newcomers % LOOK_EVERY == 1;
    if newcomers > limits.per_cpu || (looks && too_many(tables, limits.in_all, newcomers, now)) {
        until = now.wrapping_add(CALM);
        own.set_word(inserts::UNTIL, u64::from(until));
    }
    // The clock may wrap: what is further ahead than half its range is past.
    if !(1..1 << 31).contains(&until.wrapping_sub(now)) {
        return false;
    }
    own.set_word(inserts::LAST, u64::from(now));
    own.set_word(inserts::SUPPRESSED, own.word(inserts::SUPPRESSED) + 1);
    true
}

/// Tells all CPUs how many more newcomers this one had; whether they are too many together.
#[inline(always)]
fn too_many<T: Tables>(tables: &T, in_all: u32, newcomers: u32, now: u32) -> bool {
    let Some(all) = tables.all_inserts() else { return false };
    let more = u64::from(newcomers.min(LOOK_EVERY));
    let pace = all.word(inserts::PACE);
    let together = if (pace >> 32) as u32 == now {
        all.add(inserts::PACE, more).wrapping_add(more)
    } else {
        // A second begins. CPUs that begin it at once forget a few of each other's.
        all.set_word(inserts::PACE, u64::from(now) << 32 | more);
        more
    };
    together as u32 > in_all
}

#[cfg(test)]
mod tests;
