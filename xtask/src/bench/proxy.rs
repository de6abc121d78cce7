//! `cargo xtask bench --proxy`: `pen-ctl proxy` beside HAProxy, nginx and classic pen, from one interleaved run.
//!
//! Everything goes over the loopback of a network namespace made for it. The proxy under test has one worker and a
//! processor for itself; clients and backends, threads of this process, share another one. So a proxy's rate is bounded
//! by the clients' processor too, and says less than the processor time that it spends on each connection, request,
//! byte or datagram. Each round visits every proxy in turn for every measure, so that a noisy moment hits all of them,
//! and begins with another one, so that nobody always comes after the same one.
//!
//! Reading order: `measure` (what is noted, under what `load`) → `rivals` (who is started how) → `process` → `place`
//! and `servers` → `report`.

mod load;
mod measure;
mod place;
mod poller;
mod process;
mod report;
mod rivals;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use super::{BenchError, prepare};
use crate::lab::{self, needs, sys};
pub use measure::Measure;
use place::Place;
use report::Samples;
pub use report::{Failures, Median, Report, Row};
pub use rivals::Subject;

/// Idle connections whose memory is measured.
const IDLE: usize = 9_000;

/// How to measure the proxy.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Measure `pen-ctl proxy` beside HAProxy, nginx and classic pen rather than packets
    #[arg(long, conflicts_with = "packets")]
    pub(super) proxy: bool,
    /// With --proxy: seconds of each step
    #[arg(long, requires = "proxy", default_value_t = 1.0)]
    seconds: f64,
    /// With --proxy: only these measures
    #[arg(long, requires = "proxy", value_delimiter = ',')]
    only: Vec<Measure>,
    /// With --proxy: measure this pen-ctl rather than build one
    #[arg(long, requires = "proxy", value_name = "PATH")]
    pub(super) pen_ctl: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `pen-ctl` to measure.
    pub pen_ctl: PathBuf,
    /// What is measured.
    pub measures: Vec<Measure>,
    /// How often each is.
    pub rounds: u32,
    /// How long each step counts.
    pub step: Duration,
    /// The processor that proxies have for themselves.
    pub cpu: usize,
    /// Idle connections whose memory is measured.
    pub idle: usize,
}

/// Builds what is needed, runs the benchmark and prints what it found.
pub(super) fn main(rounds: u32, cpu: usize, json: bool, options: &Options) -> Result<(), BenchError> {
    let pen_ctl = options.pen_ctl.clone().map_or_else(prepare::pen_ctl, Ok)?;
    let measures = if options.only.is_empty() { Measure::ALL.into() } else { options.only.clone() };
    let step = Duration::try_from_secs_f64(options.seconds).map_err(BenchError::of("--seconds"))?;
    let plan = Plan { pen_ctl, measures, rounds, step, cpu, idle: IDLE };
    sys::catch_interrupts();
    let report = run(&plan, |at| {
        if !json {
            eprint!("\r{at:<60}");
        }
    })?;
    if json {
        println!("{}", serde_json::to_string(&report).map_err(BenchError::of("print the report"))?);
    } else {
        eprint!("\r{:<60}\r", "");
        print!("{}", report.table());
        println!(
            "\nOne worker each, on a CPU of its own; clients and backends share another one. Direct: without a proxy.\n\
             pen : best rival is above 1 where pen is better. {} idle connections.",
            report.idle_connections
        );
    }
    Ok(())
}

/// Runs the benchmark; `tell` hears where it is.
///
/// # Errors
/// Something could not be made or started, or ended unexpectedly; it was interrupted; a rival is missing though
/// `PEN_TEST_REQUIRE_ALL=1`.
pub fn run(plan: &Plan, mut tell: impl FnMut(&str) + Send) -> Result<Report, BenchError> {
    let mut subjects = present()?;
    let lab = Place::network()?;
    let namespace = lab.client.namespace.clone();
    namespace.run(|| {
        let place = Place::new(lab, plan.cpu, plan.idle)?;
        let mut samples = Samples::default();
        for round in 1..=plan.rounds {
            for &measure in &plan.measures {
                for &subject in subjects.iter().filter(|&&subject| measure.suits(subject)) {
                    if sys::interrupted() {
                        return Err(lab::Error::Interrupted.into());
                    }
                    tell(&format!("round {round} of {}: {measure:?}, {}", plan.rounds, subject.name()));
                    samples.add(measure, subject, measure.take(&place, plan, subject)?);
                }
            }
            // Nobody is always the one who comes after the same other one.
            subjects.rotate_left(1);
        }
        Ok(Report::new(&samples, plan.rounds, plan.idle))
    })
}

/// Who is on this machine; says who is not, and where to get it.
fn present() -> Result<Vec<Subject>, BenchError> {
    let mut present = Vec::new();
    for subject in Subject::ALL {
        match subject.missing() {
            None => present.push(subject),
            Some(need) if needs::all_required() => {
                return Err(BenchError::of("PEN_TEST_REQUIRE_ALL=1, but this needs")(need));
            }
            Some(need) => eprintln!("bench: {} is left out: needs {need}", subject.name()),
        }
    }
    Ok(present)
}
