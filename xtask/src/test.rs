//! `cargo xtask test`: every test there is, those on namespaces one after the other, and one sum of it all.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::AddAssign;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use crate::lab::needs;

/// What became of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Tests passed, skipped ones among them.
    pub passed: u64,
    /// Tests failed, and steps that failed without naming a test.
    pub failed: u64,
    /// Tests that said they lack something.
    pub skipped: u64,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs them all and says how many passed and failed.
pub fn main() -> ExitCode {
    let sum = run();
    sum.report()
}

/// Runs them all.
pub fn run() -> Sum {
    if let Some(need) = needs::missing() {
        println!("Tests on namespaces and in the kernel are skipped: they need {need}");
    }
    let mut sum = Sum::default();
    for (heading, words) in [
        ("pen-ctl, which the tests on namespaces run", "build --package pen-ctl"),
        ("tests on this host", "test --no-fail-fast --package pen-common --package pen-ctl"),
        ("the task runner's own tests", "test --no-fail-fast --package xtask --lib --bins"),
        // Each makes a network of its own and waits for real time-outs: side by side they would disturb each other.
        ("tests on namespaces", "test --no-fail-fast --package xtask --test * -- --test-threads=1"),
    ] {
        sum += step(heading, words);
    }
    sum
}

impl Sum {
    /// Says how many passed and failed; the last line is for machines too.
    pub fn report(self) -> ExitCode {
        if self.skipped > 0 {
            println!(
                "\n{} of the tests that passed were skipped for want of something; see above",
                self.skipped
            );
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs one cargo command, shows what it prints, and counts the tests in it.
pub(crate) fn step(heading: &str, words: &str) -> Sum {
    println!("\n== {heading}: cargo {words}");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let child = Command::new(cargo)
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let broken = Sum { failed: 1, ..Sum::default() };
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            println!("cargo does not start: {error}");
            return broken;
        }
    };
    let errors = child.stderr.take();
    let errors =
        thread::spawn(move || errors.map_or_else(Sum::default, |from| pass_on(from, std::io::stderr())));
    let mut sum = child.stdout.take().map_or_else(Sum::default, |from| pass_on(from, std::io::stdout()));
    sum += errors.join().unwrap_or(broken);
    let ended_well = child.wait().is_ok_and(|status| status.success());
    if !ended_well && sum.failed == 0 {
        println!("step failed: {heading}");
        sum += broken;
    }
    sum
}

/// Copies line by line and counts.
fn pass_on(from: impl Read, mut to: impl Write) -> Sum {
    let mut sum = Sum::default();
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        sum += count(&line);
        // Nobody reading is no reason to stop the tests.
        let _ = writeln!(to, "{line}");
    }
    sum
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
    Sum { passed: number(" passed"), failed: number(" failed"), skipped: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_from_what_cargo_prints() {
        let line = "test result: FAILED. 14 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.2s";
        assert_eq!(count(line), Sum { passed: 14, failed: 2, skipped: 0 });
        assert_eq!(count("test a ... skipped: needs root").skipped, 1);
        assert_eq!(count("running 3 tests"), Sum::default());
    }
}
