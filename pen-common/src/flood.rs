//! When newcomers come faster than memory is worth: in a flood nobody is remembered anew, and slots alone decide.
//!
//! What counts is how many newcomers there would be to remember in a second, remembered or not: on this CPU, and on all
//! together, which each CPU looks at now and then. Who was remembered before stays so, because a flood inserts little before
//! it is noticed, and nothing once it is; and it is over only after some quiet seconds, so that it gains nothing by pausing.
//! While nobody is remembered, all packets of who came meanwhile look like newcomers': so that those do not keep a flood up,
//! each CPU notes who came in this second, two in a word, of which the older gives way.

use crate::abi::{NEWCOMER_LINES, inserts};
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

/// Who came: a hash of what would be remembered, and whether it is asked for by name.
#[inline(always)]
pub const fn who(hash: u64, is_asked_for: bool) -> u64 {
    hash & !1 | is_asked_for as u64
}

/// Whether this second has had too many already: whoever is new now is neither remembered nor noted, unless he is asked for by
/// name. `now` is the second of the data plane's clock. (Where another CPU's clock is in the next one already, who comes as this
/// one looks at all may be noted although this said that he is not: he counts once less, if he comes again.)
#[inline(always)]
pub fn had_too_many<T: Tables>(tables: &T, now: u32) -> bool {
    tables.own_inserts().is_some_and(|own| was_noticed(own.word(inserts::UNTIL) as u32, now))
}

/// Whether who is not remembered came in this second of a flood already, to this CPU, and was let in: no newcomer a second
/// time. `who` is of [`who`], `now` the second of the data plane's clock. Once this second has had too many, one more or less
/// is all the same, and only who is asked for by name is looked for.
#[inline(always)]
pub fn came_before<T: Tables>(tables: &T, who: u64, now: u32) -> bool {
    let Some((line, word)) = place(tables, who, now) else { return false };
    let (noted, tag) = (line.word(word), tag(who, now));
    noted as u32 == tag || (noted >> 32) as u32 == tag
}

/// Notes who came in a flood, for [`came_before`].
#[inline(always)]
pub fn note<T: Tables>(tables: &T, who: u64, now: u32) {
    if let Some((line, word)) = place(tables, who, now) {
        line.set_word(word, line.word(word) << 32 | u64::from(tag(who, now)));
    }
}

/// The line and the word of it in which `who` is noted; `None` if he is not, because there is no flood, or because this second
/// had too many and he is not asked for by name.
#[inline(always)]
fn place<T: Tables>(tables: &T, who: u64, now: u32) -> Option<(T::Line<'_>, u32)> {
    let until = tables.own_inserts()?.word(inserts::UNTIL) as u32;
    if !is_after(until, now) || who & 1 == 0 && was_noticed(until, now) {
        return None;
    }
    Some((tables.newcomers((who >> 54) as u32 & (NEWCOMER_LINES - 1))?, (who >> 51) as u32 & 7))
}

/// Whether a flood that lasts until then was noticed, or noticed again, in this second.
#[inline(always)]
const fn was_noticed(until: u32, now: u32) -> bool {
    until == now.wrapping_add(CALM)
}

/// What one of some is known by for a second: never 0, which is nobody.
#[inline(always)]
const fn tag(who: u64, now: u32) -> u32 {
    now << 24 | who as u32 & 0xff_fffe | 1
}

/// Counts a newcomer that should be remembered; whether it is not to be, as it comes in a flood: what
/// [`Tables::suppresses`] does. `now` is the second of the data plane's clock.
#[inline(always)]
pub fn suppresses<T: Tables>(tables: &T, limits: Limits, now: u32) -> bool {
    let Some(own) = tables.own_inserts() else { return false };
    let pace = own.word(inserts::PACE);
    let newcomers = if (pace >> 32) as u32 == now { (pace as u32).saturating_add(1) } else { 1 };
    own.set_word(inserts::PACE, u64::from(now) << 32 | u64::from(newcomers));
    if newcomers > limits.per_cpu {
        own.set_word(inserts::UNTIL, u64::from(now.wrapping_add(CALM)));
    }
    if newcomers % LOOK_EVERY == 1 {
        // Who comes again counts here once there were too many, and is no business of others.
        let more = if newcomers > limits.per_cpu { 0 } else { newcomers.min(LOOK_EVERY) };
        let until = look(tables, limits.in_all, more, now);
        if is_after(until, own.word(inserts::UNTIL) as u32) {
            own.set_word(inserts::UNTIL, u64::from(until));
        }
    }
    if !is_after(own.word(inserts::UNTIL) as u32, now) {
        return false;
    }
    own.set_word(inserts::LAST, u64::from(now));
    own.set_word(inserts::SUPPRESSED, own.word(inserts::SUPPRESSED) + 1);
    true
}

/// Tells all CPUs how many more newcomers this one had; until when nobody is to be remembered because of all together. So
/// who was not remembered by one CPU is not by the next either, should his packets come there.
#[inline(always)]
fn look<T: Tables>(tables: &T, in_all: u32, more: u32, now: u32) -> u32 {
    let Some(all) = tables.all_inserts() else { return now };
    let more = u64::from(more);
    let pace = all.word(inserts::PACE);
    let together = if (pace >> 32) as u32 == now {
        all.add(inserts::PACE, more).wrapping_add(more)
    } else {
        // A second begins. CPUs that begin it at once forget a few of each other's.
        all.set_word(inserts::PACE, u64::from(now) << 32 | more);
        more
    };
    if together as u32 > in_all {
        all.set_word(inserts::UNTIL, u64::from(now.wrapping_add(CALM)));
    }
    all.word(inserts::UNTIL) as u32
}

/// Whether a second is after another. The clock may wrap: what is further ahead than half its range is past.
#[inline(always)]
const fn is_after(one: u32, other: u32) -> bool {
    let ahead = one.wrapping_sub(other);
    ahead != 0 && ahead < 1 << 31
}

#[cfg(test)]
mod tests;
