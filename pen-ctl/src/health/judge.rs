//! From results to a verdict: rise and fall, and how long one that keeps going down is held down. Time comes from outside.

use std::time::Duration;

use crate::check::Pace;
use crate::dataplane::HealthStatus;

/// In intervals: a backend that goes down again within so much of coming up keeps going down.
const SHORT_LIFE: u32 = 60;
/// In intervals: how long it is held down the second time; twice as long each time after that.
const FIRST_HOLD: u32 = 10;

/// Why one is held down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    /// How often it went down in a short while.
    pub(super) downs: u32,
    /// For how long it is held down, from when it went down.
    pub(super) time: Duration,
}

/// Judges one backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    verdict: HealthStatus,
    pace: Pace,
    /// Results in a row that contradict the verdict.
    against: u32,
    /// When it came up; `None` = before this judge.
    up_since: Option<Duration>,
    /// How often it went down, each time but the first after a short life.
    downs: u32,
    /// Until when it is held down.
    held_until: Duration,
    /// Somebody wants it to go down, or wanted it when it did.
    planned: bool,
}

impl Judge {
    /// Starts from `verdict`: from `unknown` the first result decides; any other stands until `rise` successes or
    /// `fall` failures in a row say otherwise (0 counts as 1).
    pub(super) fn new(verdict: HealthStatus, pace: Pace) -> Self {
        Self {
            verdict,
            pace,
            against: 0,
            up_since: None,
            downs: 0,
            held_until: Duration::ZERO,
            planned: false,
        }
    }

    /// Takes one result, that came at `now`, and returns the verdict after it.
    pub(super) fn judge(&mut self, success: bool, now: Duration) -> HealthStatus {
        let result = if success { HealthStatus::Up } else { HealthStatus::Down };
        let needed = match self.verdict {
            HealthStatus::Unknown => 1,
            HealthStatus::Up => self.pace.fall,
            HealthStatus::Down => self.pace.rise,
        };
        if result == self.verdict {
            self.against = 0;
            // One that is well after all goes down another time.
            self.planned &= !success;
            return self.verdict;
        }
        self.against = self.against.saturating_add(1);
        if self.against >= needed && !(success && now < self.held_until) {
            match (success, self.verdict) {
                // Its life goes on.
                (true, _) if self.planned => self.planned = false,
                (true, _) => self.up_since = Some(now),
                (false, HealthStatus::Up) if !self.planned => self.hold(now),
                (false, _) => {}
            }
            self.verdict = result;
            self.against = 0;
        }
        self.verdict
    }

    /// Somebody wants it to be down: if it is up, going down now is no failure of its, and neither counts as one that keeps
    /// going down nor ends its life.
    pub(super) fn expect_down(&mut self) {
        self.planned |= self.verdict == HealthStatus::Up;
    }

    /// The verdict so far.
    pub(super) fn verdict(&self) -> HealthStatus {
        self.verdict
    }

    /// Whether it is held down at `now`, and why.
    pub(super) fn held(&self, now: Duration) -> Option<Hold> {
        let held = self.verdict == HealthStatus::Down && now < self.held_until;
        held.then(|| Hold { downs: self.downs, time: self.hold_time() })
    }

    /// It has just gone down.
    fn hold(&mut self, now: Duration) {
        let short = self.pace.interval.saturating_mul(SHORT_LIFE).max(2 * self.hold_time());
        let lived = self.up_since.map(|since| now.saturating_sub(since));
        self.downs = if lived.is_some_and(|lived| lived < short) { self.downs.saturating_add(1) } else { 1 };
        self.held_until = now + self.hold_time();
    }

    fn hold_time(&self) -> Duration {
        let Some(doublings) = self.downs.checked_sub(2) else { return Duration::ZERO };
        let times = FIRST_HOLD.saturating_mul(2_u32.saturating_pow(doublings));
        self.pace.interval.saturating_mul(times).min(self.pace.max_hold)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use HealthStatus::{Down, Unknown, Up};

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(rise: u32, fall: u32) -> Pace {
        Pace { rise, fall, ..Pace::default() }
    }

    /// Verdicts after results that come a second apart, nobody being held down.
    fn verdicts(start: HealthStatus, rise: u32, fall: u32, results: &[bool]) -> Vec<HealthStatus> {
        let mut judge = Judge::new(start, Pace { max_hold: Duration::ZERO, ..pace(rise, fall) });
        results.iter().zip(1..).map(|(result, now)| judge.judge(*result, now * SECOND)).collect()
    }

    #[test]
    fn the_first_result_decides_from_unknown_only() {
        assert_eq!(verdicts(Unknown, 3, 3, &[true]), [Up]);
        assert_eq!(verdicts(Unknown, 3, 3, &[false]), [Down]);
        assert_eq!(verdicts(Down, 3, 3, &[true, true, true]), [Down, Down, Up]);
        assert_eq!(verdicts(Up, 3, 3, &[false, false, false]), [Up, Up, Down]);
    }

    #[test]
    fn a_contrary_result_breaks_the_row() {
        assert_eq!(verdicts(Up, 2, 2, &[false, true, false, true, false, false]), [Up, Up, Up, Up, Up, Down]);
    }

    /// How long it stays down each time, when it answers again at once and goes down a second after it is up.
    fn stays(judge: &mut Judge, now: &mut Duration, times: usize) -> Vec<u64> {
        let step = |judge: &mut Judge, success, now: &mut Duration| {
            *now += SECOND;
            judge.judge(success, *now)
        };
        let stay = |_| {
            while step(judge, false, now) == Up {}
            let since = *now;
            while step(judge, true, now) == Down {}
            (*now - since).as_secs()
        };
        (0..times).map(stay).collect()
    }

    #[test]
    fn one_that_keeps_going_down_is_held_down_longer_each_time_up_to_a_bound() {
        let mut judge = Judge::new(Up, Pace { max_hold: 60 * SECOND, ..pace(2, 1) });
        let mut now = Duration::ZERO;
        assert_eq!(stays(&mut judge, &mut now, 6), [2, 10, 20, 40, 60, 60]);
        now += 1000 * SECOND;
        assert_eq!(stays(&mut judge, &mut now, 2), [2, 10], "a long life is a new beginning");
    }

    #[test]
    fn one_that_is_held_down_says_so_until_its_time_is_over() {
        let mut judge = Judge::new(Up, pace(1, 1));
        assert_eq!((judge.judge(false, SECOND), judge.held(SECOND)), (Down, None));
        judge.judge(true, 2 * SECOND);
        assert_eq!(
            (judge.judge(false, 3 * SECOND), judge.held(3 * SECOND)),
            (Down, Some(Hold { downs: 2, time: 10 * SECOND }))
        );
        assert_eq!(judge.judge(true, 12 * SECOND), Down);
        assert_eq!((judge.held(13 * SECOND), judge.judge(true, 13 * SECOND)), (None, Up));
    }

    #[test]
    fn successes_while_it_is_held_down_count_for_rise() {
        let mut judge = Judge::new(Up, pace(3, 1));
        let mut now = Duration::ZERO;
        assert_eq!(stays(&mut judge, &mut now, 2), [3, 10], "up with the first good check after its time");
    }

    #[test]
    fn going_down_as_planned_is_no_failure_however_often() {
        let mut judge = Judge::new(Up, pace(1, 2));
        let mut now = Duration::ZERO;
        let planned = |judge: &mut Judge, now: &mut Duration| {
            // Its last word may be followed by silence.
            judge.expect_down();
            for _ in 0..2 {
                *now += SECOND;
                judge.judge(false, *now);
            }
            assert_eq!((judge.verdict(), judge.held(*now)), (Down, None));
            *now += SECOND;
            assert_eq!(judge.judge(true, *now), Up);
        };
        for _ in 0..5 {
            planned(&mut judge, &mut now);
        }
        assert_eq!(stays(&mut judge, &mut now, 1), [1], "the first failure is the first");
        planned(&mut judge, &mut now);
        assert_eq!(stays(&mut judge, &mut now, 1), [10], "and the second in short order is the second");
    }

    #[test]
    fn a_plan_that_was_dropped_excuses_nothing() {
        let mut judge = Judge::new(Up, pace(1, 2));
        let mut now = Duration::ZERO;
        stays(&mut judge, &mut now, 1);
        judge.expect_down();
        judge.judge(false, now + SECOND);
        judge.judge(true, now + 2 * SECOND);
        now += 2 * SECOND;
        assert_eq!(stays(&mut judge, &mut now, 1), [10]);
    }

    proptest! {
        /// Nobody held down, the verdict is what the latest unbroken row that was long enough said.
        #[test]
        fn the_latest_row_that_was_long_enough_stands(
            start in prop_oneof![Just(Up), Just(Down)],
            rise in 1_u32..5,
            fall in 1_u32..5,
            results in proptest::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut expected = start;
            for end in 1..=results.len() {
                let row = |wanted: bool| results[..end].iter().rev().take_while(|r| **r == wanted).count();
                if row(true) >= rise as usize { expected = Up; }
                if row(false) >= fall as usize { expected = Down; }
                prop_assert_eq!(*verdicts(start, rise, fall, &results[..end]).last().unwrap(), expected);
            }
        }

        /// Whenever results come: never up without `rise` successes in a row, never down without `fall` failures in a
        /// row, the first result after `unknown` apart; and nobody who answers is held down for longer than `max_hold`.
        #[test]
        fn no_verdict_changes_without_its_row_and_no_hold_is_longer_than_its_bound(
            start in prop_oneof![Just(Up), Just(Down), Just(Unknown)],
            rise in 1_u32..5,
            fall in 1_u32..5,
            max_hold in 0_u64..100,
            results in proptest::collection::vec((any::<bool>(), 0_u64..200), 1..200),
        ) {
            let max_hold = Duration::from_secs(max_hold);
            let mut judge = Judge::new(start, Pace { max_hold, ..pace(rise, fall) });
            let (mut now, mut went_down) = (Duration::ZERO, Duration::ZERO);
            let (mut row, mut last) = (0, None);
            for (success, later) in results {
                now += Duration::from_secs(later);
                row = if last == Some(success) { row + 1 } else { 1 };
                last = Some(success);
                let (before, after) = (judge.verdict(), judge.judge(success, now));
                match (before, after) {
                    (Unknown, after) => prop_assert_eq!(after == Up, success),
                    (Down, Up) => prop_assert!(row >= rise),
                    (Up, Down) => {
                        prop_assert!(row >= fall);
                        went_down = now;
                    }
                    (Down, Down) if success && row >= rise => prop_assert!(now < went_down + max_hold),
                    _ => {}
                }
            }
        }
    }
}
