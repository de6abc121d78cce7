//! Floods: how many newcomers are remembered a second before they are chosen for by slot alone, and whether that happens.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use pen_common::abi::{Directory, inserts};
use pen_common::flood::CALM;

use super::error::chain;
use super::maps::LineWords;
use super::{XdpPlane, failure};
use crate::dataplane::{DataPlaneError, FloodLimits, Suppression};

/// All CPUs together may remember this part of what a tracking table holds in a second: so that a flood takes more than that
/// long to drive out whom it finds there.
const PART_OF_TABLE: u32 = 8;

impl XdpPlane {
    /// Sets how many newcomers one CPU remembers a second; 0 = no limit, nor of all together. Packets see both numbers at once.
    pub(super) fn set_flood(&mut self, limit: u32) -> Result<(), DataPlaneError> {
        let word = self.flood_word(limit).map_err(|why| failure("set the limit of newcomers", why))?;
        self.flood_cell().store(word, Ordering::SeqCst);
        Ok(())
    }

    /// How many it is. Where somebody set the limit of all CPUs to another number than follows from it, one that nobody
    /// sets.
    pub(super) fn flood(&self) -> u32 {
        let word = self.flood_cell().load(Ordering::Acquire);
        let (limit, _) = halves(word);
        if self.flood_word(limit) == Ok(word) { limit } else { !limit }
    }

    /// What newcomers that were not remembered came to, on all CPUs.
    pub(super) fn read_suppression(&self) -> Result<Suppression, String> {
        let lines = self.maps.inserts.get(&0, 0).map_err(|error| chain(&error))?;
        let (per_cpu, in_all) = halves(self.flood_cell().load(Ordering::Acquire));
        Ok(told(&lines, self.second()?, FloodLimits { per_cpu, in_all }))
    }

    /// The last second of the data plane's clock in which a newcomer was not remembered.
    pub(super) fn last_suppressed(&self) -> Result<Option<u32>, String> {
        let lines = self.maps.inserts.get(&0, 0).map_err(|error| chain(&error))?;
        Ok(last(&lines, self.second()?))
    }

    /// The limits of one CPU and of all, as they stand next to each other.
    fn flood_word(&self, limit: u32) -> Result<u64, String> {
        let info = self.maps.track_v4.info().map_err(|error| chain(&error))?;
        let all = if limit == 0 { 0 } else { (info.max_entries() / PART_OF_TABLE).max(1) };
        let [[a, b, c, d], [e, f, g, h]] = [limit.to_ne_bytes(), all.to_ne_bytes()];
        Ok(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }

    fn flood_cell(&self) -> &AtomicU64 {
        &self.maps.directory.words()[offset_of!(Directory, flood_per_cpu) / 8]
    }
}

/// The limits of one CPU and of all.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

/// A word of a line of [`inserts`].
fn word(line: &LineWords, index: u32) -> u64 {
    line.get(index as usize).copied().unwrap_or_default()
}

/// How long ago a second was; 0 where a CPU is ahead of us.
fn ago(second: u32, now: u32) -> u32 {
    u32::try_from(now.wrapping_sub(second).cast_signed()).unwrap_or(0)
}

/// Lines of CPUs that did not remember somebody.
fn suppressing(lines: &[LineWords]) -> impl Iterator<Item = &LineWords> {
    lines.iter().filter(|line| word(line, inserts::SUPPRESSED) > 0)
}

fn last(lines: &[LineWords], now: u32) -> Option<u32> {
    suppressing(lines).map(|line| word(line, inserts::LAST) as u32).min_by_key(|second| ago(*second, now))
}

/// What the lines of all CPUs come to. A flood is on while a CPU remembers nobody (what it waits for is still to come) and
/// has met somebody since: from the first newcomer that is not remembered until no CPU would do so any more. Without limits
/// everybody is remembered at once, whatever CPUs wait for.
fn told(lines: &[LineWords], now: u32, limits: FloodLimits) -> Suppression {
    let suppresses = |line: &LineWords| {
        let until = word(line, inserts::UNTIL) as u32;
        until.wrapping_sub(now).cast_signed() > 0 && ago(word(line, inserts::LAST) as u32, now) <= CALM
    };
    let each = suppressing(lines).map(|line| word(line, inserts::SUPPRESSED));
    Suppression {
        active: limits != FloodLimits::default() && suppressing(lines).any(suppresses),
        newcomers: each.fold(0, u64::wrapping_add),
        last_seconds_ago: last(lines, now).map(|second| ago(second, now)),
        limits,
    }
}

// Both limits are stored at once.
const _: () = {
    assert!(offset_of!(Directory, flood_per_cpu).is_multiple_of(8));
    assert!(offset_of!(Directory, flood_in_all) == offset_of!(Directory, flood_per_cpu) + 4);
};

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FloodLimits = FloodLimits { per_cpu: 100, in_all: 50 };

    /// Whether a flood is on, how many were not remembered, and how long ago the last.
    fn seen(lines: &[LineWords], now: u32) -> (bool, u64, Option<u32>) {
        let Suppression { active, newcomers, last_seconds_ago, .. } = told(lines, now, LIMITS);
        (active, newcomers, last_seconds_ago)
    }

    fn line(until: u32, last: u32, suppressed: u64) -> LineWords {
        let mut line = LineWords::default();
        line[inserts::UNTIL as usize] = until.into();
        line[inserts::LAST as usize] = last.into();
        line[inserts::SUPPRESSED as usize] = suppressed;
        line
    }

    #[test]
    fn a_flood_is_on_from_the_first_who_is_not_remembered_until_no_cpu_waits_for_calm() {
        let quiet = LineWords::default();
        assert_eq!(seen(&[quiet, quiet], 500), (false, 0, None));
        assert_eq!(seen(&[quiet, line(510, 500, 1)], 500), (true, 1, Some(0)));
        let calm = [line(505, 497, 3), line(510, 500, 4)];
        assert_eq!(seen(&calm, 509), (true, 7, Some(9)));
        assert_eq!(seen(&calm, 510), (false, 7, Some(10)));
        // Over the limit, and nobody came since.
        assert!(!seen(&[line(510, 300, 4)], 505).0);
    }

    #[test]
    fn a_flood_is_over_at_once_where_its_limits_are_taken_away() {
        let lines = [line(510, 500, 4)];
        assert!(told(&lines, 501, LIMITS).active);
        let told = told(&lines, 501, FloodLimits::default());
        assert_eq!((told.active, told.newcomers, told.last_seconds_ago), (false, 4, Some(1)));
    }

    #[test]
    fn the_clock_may_wrap_and_another_cpu_may_be_ahead() {
        assert!(seen(&[line(4, u32::MAX - 5, 1)], u32::MAX).0);
        assert_eq!(seen(&[line(4, 1, 1)], 0).2, Some(0));
        assert_eq!(last(&[line(4, u32::MAX, 1), line(4, 1, 1), line(4, 9, 0)], 2), Some(1));
    }
}
