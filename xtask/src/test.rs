//! `cargo xtask test`: every test there is, those on namespaces one after the other, and one sum of it all.
//!
//! Tests of whole programs wait for real time-outs and for what a shared machine gets done in between. A few that fail are
//! therefore run once more, each alone: they are named in the sum, so that they are looked into, and who fails again has
//! failed. Tests of parts know no time, and are not tried again.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::AddAssign;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use crate::lab::needs;
use heard::Heard;

mod heard;

/// Tests of one step that may be run once more: where more fail, it is not chance.
const MOST_AGAIN: usize = 3;

/// What became of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Tests passed, skipped ones among them.
    pub passed: u64,
    /// Tests failed, and steps that failed without naming a test.
    pub failed: u64,
    /// Tests that said they lack something.
    pub skipped: u64,
    /// Tests that passed only when they were run once more.
    pub unsteady: u64,
    /// Names of those that were run once more.
    pub tried_again: Vec<String>,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.unsteady += other.unsteady;
        self.tried_again.extend(other.tried_again);
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
    sum += step("pen-ctl, which the tests on namespaces run", "build --package pen-ctl");
    for (heading, words) in [
        ("tests on this host", "test --no-fail-fast --package pen-common --package pen-ctl"),
        ("the task runner's own tests", "test --no-fail-fast --package xtask --lib --bins"),
        // Each makes a network of its own and waits for real time-outs: side by side they would disturb each other.
        ("tests on namespaces", "test --no-fail-fast --package xtask --test * -- --test-threads=1"),
    ] {
        sum += tested(heading, words);
    }
    sum
}

impl Sum {
    /// Says how many passed and failed; the last line is for machines too.
    pub fn report(&self) -> ExitCode {
        if self.skipped > 0 {
            println!(
                "\n{} of the tests that passed were skipped for want of something; see above",
                self.skipped
            );
        }
        if self.unsteady > 0 {
            let names = self.tried_again.join(", ");
            println!("\n{} of the tests that passed did so only when run once more: {names}", self.unsteady);
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs one cargo command, shows what it prints, and counts the tests in it.
pub(crate) fn step(heading: &str, words: &str) -> Sum {
    println!("\n== {heading}: cargo {words}");
    cargo(words.split_whitespace()).sum(heading)
}

/// Runs the tests of one cargo command, and those few that fail once more.
fn tested(heading: &str, words: &str) -> Sum {
    println!("\n== {heading}: cargo {words}");
    let first = cargo(words.split_whitespace());
    if !(1..=MOST_AGAIN).contains(&first.failures.len()) || !first.is_about_time() {
        return first.sum(heading);
    }
    let mut sum = first.sum(heading);
    sum.tried_again.clone_from(&first.failures);
    for target in &first.targets {
        println!("\n== once more, each alone: {} of {target}", first.failures.join(", "));
        let words = ["test"].into_iter().chain(target.split_whitespace()).chain([
            "--",
            "--test-threads=1",
            "--exact",
        ]);
        let again = cargo(words.chain(first.failures.iter().map(String::as_str)));
        // A program without any of them has failed in another way: it died. Who is skipped now has not passed.
        let died = u64::from(again.sum.passed + again.sum.failed == 0);
        let passed = again.sum.passed.saturating_sub(again.sum.skipped);
        sum.failed = sum.failed.saturating_sub(passed) + died;
        sum.passed += passed;
        sum.unsteady += passed;
    }
    sum
}

/// Runs one cargo command and shows what it prints.
fn cargo<'a>(words: impl Iterator<Item = &'a str>) -> Heard {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let child = Command::new(cargo)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            println!("cargo does not start: {error}");
            return Heard::default();
        }
    };
    let errors = child.stderr.take();
    let errors =
        thread::spawn(move || errors.map_or_else(Heard::default, |from| pass_on(from, std::io::stderr())));
    let mut heard = child.stdout.take().map_or_else(Heard::default, |from| pass_on(from, std::io::stdout()));
    heard.join(errors.join().unwrap_or_default());
    heard.ended_well = child.wait().is_ok_and(|status| status.success());
    heard
}

/// Copies line by line and listens.
fn pass_on(from: impl Read, mut to: impl Write) -> Heard {
    let mut heard = Heard::default();
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        heard.line(&line);
        // Nobody reading is no reason to stop the tests.
        let _ = writeln!(to, "{line}");
    }
    heard
}
