//! What cargo and the tests that it ran have said: how many passed, which failed, and in which of their programs.

use std::collections::BTreeSet;

use super::Sum;

/// What was heard of one cargo command.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Tests by how they ended.
    pub(super) sum: Sum,
    /// Names of those that failed.
    pub(super) failures: Vec<String>,
    /// The programs that they failed in, as arguments of cargo.
    pub(super) targets: Vec<String>,
    /// The command succeeded.
    pub(super) ended_well: bool,
}

impl Heard {
    /// Takes a line in.
    pub(super) fn line(&mut self, line: &str) {
        self.sum += count(line);
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let named = line.trim().strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        self.targets.extend(named.filter(|words| words.starts_with("-p ")).map(str::to_owned));
    }

    /// Adds what was heard elsewhere of the same command.
    pub(super) fn join(&mut self, other: Heard) {
        self.sum += other.sum;
        self.failures.extend(other.failures);
        self.targets.extend(other.targets);
    }

    /// Whether all that failed are tests whose names are known, of programs that test whole programs, each name one's.
    pub(super) fn is_about_time(&self) -> bool {
        let whole = self.targets.iter().all(|target| target.contains(" --test "));
        let named: BTreeSet<&String> = self.failures.iter().collect();
        let all = named.len() == self.failures.len() && self.sum.failed == named.len() as u64;
        whole && all && !self.targets.is_empty()
    }

    /// The sum, in which a command that fails without naming a test counts as one that failed.
    pub(super) fn sum(&self, heading: &str) -> Sum {
        let mut sum = self.sum.clone();
        if !self.ended_well && sum.failed == 0 {
            println!("step failed: {heading}");
            sum.failed = 1;
        }
        sum
    }
}

/// What a line says: `test result: ok. 4 passed; 0 failed; …`, or that a test was skipped.
fn count(line: &str) -> Sum {
    if line.contains("skipped: needs") {
        return Sum { skipped: 1, ..Sum::default() };
    }
    let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
        return Sum::default();
    };
    let number = |what: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(what));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    Sum { passed: number(" passed"), failed: number(" failed"), ..Sum::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Heard {
        let mut heard = Heard::default();
        text.lines().for_each(|line| heard.line(line));
        heard
    }

    #[test]
    fn results_are_counted_from_what_cargo_prints() {
        let line = "test result: FAILED. 14 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.2s";
        assert_eq!(count(line), Sum { passed: 14, failed: 2, ..Sum::default() });
        assert_eq!(count("test a ... skipped: needs root").skipped, 1);
        assert_eq!(count("running 3 tests"), Sum::default());
    }

    #[test]
    fn who_failed_and_where_is_known() {
        let heard = heard(
            "test soak::bytes ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n\
             error: 1 target failed:\n    `-p pen-ctl --test proxy_soak`",
        );
        assert_eq!(
            (heard.failures.as_slice(), heard.targets.as_slice()),
            (&["soak::bytes".to_owned()][..], &["-p pen-ctl --test proxy_soak".to_owned()][..])
        );
        assert!(heard.is_about_time());
    }

    #[test]
    fn what_knows_no_time_is_not_tried_again() {
        let part = heard(
            "test hash::spreads ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n    `-p pen-common --lib`",
        );
        assert!(!part.is_about_time());
    }

    #[test]
    fn a_step_that_ends_without_naming_what_failed_is_not_about_tests_and_counts() {
        let aborted = heard("error: could not compile\n    `-p pen-ctl --lib`");
        assert_eq!(aborted.sum("tests").failed, 1);
        let died = heard("test one ... FAILED\n    `-p pen-ctl --lib`");
        assert!(!died.is_about_time(), "a program that died has told only of some");
    }
}
