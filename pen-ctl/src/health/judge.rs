//! From results to a verdict: rise and fall, and nothing else.

use crate::dataplane::HealthStatus;

/// Judges one backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    verdict: HealthStatus,
    rise: u32,
    fall: u32,
    /// Results in a row that contradict the verdict.
    against: u32,
}

impl Judge {
    /// Starts from `verdict`: from `unknown` the first result decides; any other stands until `rise` successes or
    /// `fall` failures in a row say otherwise (0 counts as 1).
    pub(super) fn new(verdict: HealthStatus, rise: u32, fall: u32) -> Self {
        Self { verdict, rise, fall, against: 0 }
    }

    /// Takes one result and returns the verdict after it.
    pub(super) fn judge(&mut self, success: bool) -> HealthStatus {
        let result = if success { HealthStatus::Up } else { HealthStatus::Down };
        let needed = match self.verdict {
            HealthStatus::Unknown => 1,
            HealthStatus::Up => self.fall,
            HealthStatus::Down => self.rise,
        };
        if result == self.verdict {
            self.against = 0;
        } else {
            self.against += 1;
        }
        if self.against > 0 && self.against >= needed {
            self.verdict = result;
            self.against = 0;
        }
        self.verdict
    }

    /// The verdict so far.
    pub(super) fn verdict(&self) -> HealthStatus {
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use HealthStatus::{Down, Unknown, Up};

    fn verdicts(start: HealthStatus, rise: u32, fall: u32, results: &[bool]) -> Vec<HealthStatus> {
        let mut judge = Judge::new(start, rise, fall);
        results.iter().map(|result| judge.judge(*result)).collect()
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

    proptest! {
        /// The verdict is what the latest unbroken row that was long enough said.
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
    }
}
