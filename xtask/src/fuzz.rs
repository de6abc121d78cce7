//! `cargo xtask fuzz`: the fuzz targets of the packet path, side by side, for some time.
//!
//! Each starts from the corpus that is kept beside it, and writes what it finds worth keeping elsewhere: the kept ones stay as
//! they are. An input that breaks a rule fails the step, and is printed with the path of the file that holds it. Who has not
//! what fuzzing takes replays the corpora, which are tests for the stable compiler.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use clap::Args;

use crate::build_ebpf::root;
use crate::lab::needs;
use crate::test::Sum;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// Its name.
    name: &'static str,
    /// The crate it is in, from the repository's root.
    crate_dir: &'static str,
    /// Bytes of an input at most.
    longest: u32,
    /// Only root can load programs.
    needs_root: bool,
}

const TARGETS: [Target; 3] = [
    Target { name: "parser", crate_dir: "pen-common/fuzz", longest: 512, needs_root: false },
    Target { name: "pipeline", crate_dir: "pen-common/fuzz", longest: 2048, needs_root: false },
    Target { name: "parity", crate_dir: "xtask/fuzz", longest: 2048, needs_root: true },
];
/// Where all of them are built: not among what the workspace builds, from its root.
const TARGET_DIR: &str = "pen-common/fuzz/target";
/// How long each runs in CI, in seconds.
const SECONDS: u32 = 60;
/// An input that takes longer than so many seconds is a failure: it hangs.
const HANG: u32 = 20;
/// Lines of what a target printed that are shown when it failed.
const SHOWN: usize = 40;

/// What `cargo xtask fuzz` takes.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// These targets [default: all]
    #[arg(value_name = "TARGET", value_parser = ["parser", "pipeline", "parity"])]
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
}

/// Runs those that were asked for, says how it went and how many passed and failed.
pub fn main(args: &FuzzArgs) -> ExitCode {
    let asked =
        |target: &Target| args.targets.is_empty() || args.targets.iter().any(|name| name == target.name);
    fuzz(&TARGETS.into_iter().filter(asked).collect::<Vec<_>>(), args.seconds).report()
}

/// Runs all of them, as CI does.
pub fn run() -> Sum {
    fuzz(&TARGETS, SECONDS)
}

/// Runs them at the same time. Each counts as one test.
fn fuzz(targets: &[Target], seconds: u32) -> Sum {
    println!("\n== fuzzing for {seconds} s");
    let mut sum = Sum::default();
    // All are built before one is started, and started before one is waited for.
    let built: Vec<&Target> = targets.iter().filter(|target| target.prepared(&mut sum)).collect();
    let started: Vec<_> = built.into_iter().map(|target| (target, target.start(seconds))).collect();
    for (target, child) in started {
        let ended = child.and_then(|mut child| child.wait());
        sum += target.outcome(ended.is_ok_and(|status| status.success()));
    }
    sum
}

fn passed() -> Sum {
    Sum { passed: 1, ..Sum::default() }
}

fn failed() -> Sum {
    Sum { failed: 1, ..Sum::default() }
}

/// `cargo fuzz` with the nightly compiler.
fn cargo_fuzz() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]).current_dir(root()).stdin(Stdio::null());
    // What this program was built with is not what those are built with.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

impl Target {
    /// What it takes and is not there.
    fn missing(&self) -> Option<String> {
        let answers = cargo_fuzz().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !answers.is_ok_and(|status| status.success()) {
            return Some("rustup's nightly compiler and cargo-fuzz (rustup toolchain install nightly; cargo install cargo-fuzz)".to_owned());
        }
        needs::missing_program(&[("c++", "g++")]).or_else(|| needs::missing().filter(|_| self.needs_root))
    }

    /// `cargo fuzz` with this word, for this target. Without a sanitizer: there is no unsafe code to watch, and the
    /// library would have to be built for it.
    fn command(&self, word: &str) -> Command {
        let mut command = cargo_fuzz();
        command.args([word, "--sanitizer", "none", "--fuzz-dir", self.crate_dir]);
        command.args(["--target-dir", TARGET_DIR, self.name]);
        command
    }

    /// Builds it; where that cannot be, says why (cargo says what is wrong) and counts it.
    fn prepared(&self, sum: &mut Sum) -> bool {
        if let Some(need) = self.missing() {
            println!("{}: skipped: needs {need}; its corpus is replayed by the tests", self.name);
            *sum += if needs::all_required() { failed() } else { Sum { skipped: 1, ..passed() } };
            return false;
        }
        let built = self.command("build").env("CARGO_TERM_QUIET", "true").status();
        let built = built.is_ok_and(|status| status.success());
        if !built {
            println!("{}: FAILED: it does not build", self.name);
            *sum += failed();
        }
        built
    }

    /// Where what it prints goes, and below it what it finds worth keeping.
    fn scratch(&self) -> PathBuf {
        root().join(TARGET_DIR).join("scratch").join(self.name)
    }

    fn log(&self) -> PathBuf {
        self.scratch().join("log")
    }

    /// Starts it: new inputs go into the first directory.
    fn start(&self, seconds: u32) -> io::Result<Child> {
        let found = self.scratch().join("corpus");
        fs::create_dir_all(&found)?;
        let log = File::create(self.log())?;
        let mut command = self.command("run");
        command.arg(found).arg(root().join(self.crate_dir).join("corpus").join(self.name)).args([
            "--".to_owned(),
            format!("-max_total_time={seconds}"),
            format!("-max_len={}", self.longest),
            format!("-timeout={HANG}"),
            "-print_final_stats=1".to_owned(),
        ]);
        command.stdout(log.try_clone()?).stderr(log).spawn()
    }

    /// Says how it went.
    fn outcome(&self, well: bool) -> Sum {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        if well && let Some(executed) = executed(&log) {
            println!("{}: ok, {executed} inputs", self.name);
            return passed();
        }
        let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('#')).collect();
        println!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
        let input = broken_by(&log).map_or_else(|| Path::new("none").to_owned(), PathBuf::from);
        println!("{}: FAILED; input: {}; all it said: {}", self.name, input.display(), self.log().display());
        failed()
    }
}

/// How many inputs it ran, as libFuzzer says in the end.
fn executed(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?.trim().parse().ok()
}

/// The file of the input that broke a rule, as libFuzzer says.
fn broken_by(log: &str) -> Option<&str> {
    log.lines().find_map(|line| Some(line.split_once("Test unit written to ")?.1.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let well = "#2 INITED\nDone 12 runs in 1 second(s)\nstat::number_of_executed_units: 12\nstat::x: 1\n";
        assert_eq!((executed(well), broken_by(well)), (Some(12), None));
        let badly = "==1== ERROR: libFuzzer: deadly signal\n\
                     artifact_prefix='/a/'; Test unit written to /a/crash-1\nBase64: AA==\n";
        assert_eq!((executed(badly), broken_by(badly)), (None, Some("/a/crash-1")));
    }

    #[test]
    fn every_target_has_a_corpus_and_a_program() {
        for target in TARGETS {
            let place = root().join(target.crate_dir);
            assert!(place.join("fuzz_targets").join(format!("{}.rs", target.name)).is_file(), "{target:?}");
            let corpus = fs::read_dir(place.join("corpus").join(target.name)).unwrap();
            assert!((20..300).contains(&corpus.count()), "{target:?}: the corpus is gone, or too large");
        }
    }
}
