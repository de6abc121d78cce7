//! `cargo xtask bench --health`: how many checks one processor carries, and how soon a dead backend gets no packet.

mod failover;
mod rate;

use serde::Serialize;

use super::{BenchError, prepare};
use crate::lab::sys;

/// How to measure health checks.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Measure health checks: how many one CPU carries, and how soon a dead backend gets no packet any more
    #[arg(long, conflicts_with_all = ["packets", "proxy"])]
    pub(super) health: bool,
    /// With --health: how often a backend dies, in each of two ways
    #[arg(long, requires = "health", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    trials: u32,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// Checks under full load.
    rate: rate::Rate,
    /// From the death of a backend that refuses then, to its last packet.
    refuses: failover::Times,
    /// The same where it is silent then.
    silent: failover::Times,
}

/// Measures and prints what it found.
pub(super) fn main(cpu: usize, json: bool, options: &Options) -> Result<(), BenchError> {
    sys::catch_interrupts();
    let pen_ctl = prepare::pen_ctl()?;
    let tell = |text: String| {
        if !json {
            eprint!("\r{text:<60}");
        }
    };
    let rate = rate::measure(&pen_ctl, cpu, &tell)?;
    let [refuses, silent] = failover::measure(&pen_ctl, options.trials, &tell)?;
    let report = Report { rate, refuses, silent };
    if json {
        println!("{}", serde_json::to_string(&report).map_err(BenchError::of("print the report"))?);
    } else {
        eprint!("\r{:<60}\r", "");
        print!("{}{}{}", report.rate, report.refuses, report.silent);
    }
    Ok(())
}
