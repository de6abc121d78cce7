//! `cargo xtask bench`: nanoseconds per packet of each path, beside floor programs, from one interleaved run; with
//! `--proxy`, the userspace [`proxy`] beside others; with `--health`, how soon a dead backend gets no packet any more;
//! with `--pool`, how soon a change of who serves is in force; with `--as-unit`, what the shipped unit's capabilities cost;
//! with `--veth`, packets per second over [`veth`].
//!
//! A harness program restores the frame, gives it the next client's address and tail-calls the program to be timed;
//! the kernel runs that many times over (`BPF_PROG_TEST_RUN`) and says how long it took. What the harness costs is in
//! every row, so ratios are net of F0, which does nothing. Rounds visit every row in turn, so that a noisy moment
//! hits all of them.

mod as_unit;
mod bed;
mod cases;
mod cpu;
mod frames;
mod health;
mod pool;
mod prepare;
pub mod proxy;
mod report;
mod rights;
pub mod veth;

use std::process::ExitCode;
use std::time::Duration;

use crate::lab;
use bed::Bed;
use cases::{Case, Group, MANY};
use report::Report;

/// Fewest rounds that a median is worth anything of.
pub const LEAST_ROUNDS: u32 = 9;

/// How to run the benchmark.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Interleaved rounds, 9 or more; the table shows their minimum and median.
    #[arg(long, default_value_t = LEAST_ROUNDS, value_parser = clap::value_parser!(u32).range(i64::from(LEAST_ROUNDS)..))]
    rounds: u32,
    /// Packets of each row and round.
    #[arg(long, default_value_t = 2 * MANY, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// CPU to run on; with --proxy, the one of the proxies alone.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
    /// Everything is built: measure
    #[arg(long, hide = true)]
    prepared: bool,
    #[command(flatten)]
    proxy: proxy::Options,
    #[command(flatten)]
    health: health::Options,
    #[command(flatten)]
    as_unit: as_unit::Options,
    #[command(flatten)]
    veth: veth::Options,
    #[command(flatten)]
    pool: pool::Options,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The network or the file system to work in could not be made.
    #[error("{0}")]
    Lab(#[from] lab::Error),
    /// Something failed on the way.
    #[error("{what}: {why}")]
    Failed {
        /// What failed, on what.
        what: String,
        /// Why.
        why: String,
    },
    /// Capabilities are missing that the program needs.
    #[error("the kernel refuses the program without {}", .missing.join(" and "))]
    NoPrivilege {
        /// Their names.
        missing: Vec<&'static str>,
    },
    /// A program did something else than the row is about.
    #[error(
        "row {row}: the program returned {got} rather than {want}: this row would measure something else"
    )]
    WrongPath {
        /// The row.
        row: String,
        /// XDP action returned.
        got: u32,
        /// XDP action that the row is about.
        want: u32,
    },
}

impl BenchError {
    /// For `map_err`: names what failed.
    fn of<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Self + use<E> {
        let what = what.to_owned();
        move |why| Self::Failed { what, why: why.to_string() }
    }
}

/// Runs the benchmark, prints what it found, and says how that went.
pub fn main(options: &Options) -> ExitCode {
    if let Some(missing) = lab::needs::missing() {
        eprintln!("bench: needs {missing}");
        return ExitCode::FAILURE;
    }
    let optimized = options.proxy.proxy || options.health.health || options.pool.pool;
    let done = if optimized && !options.prepared {
        Err(prepare::build_and_go_on(options.proxy.pen_ctl.is_none()))
    } else if options.proxy.proxy {
        proxy::main(options.rounds, options.cpu, options.json, &options.proxy)
    } else if options.health.health {
        health::main(options.cpu, options.json, &options.health)
    } else if options.as_unit.as_unit {
        as_unit::main(options)
    } else if options.veth.veth {
        let plan = veth::Plan { rounds: options.rounds, packets: options.packets, cpu: options.cpu };
        veth::main(&plan, options.json)
    } else if options.pool.pool {
        pool::main(options.json, &options.pool)
    } else {
        run(options)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), BenchError> {
    let mut bed = Bed::make(options.cpu)?;
    let mut samples = Vec::new();
    for Group { flood, cases } in cases::groups(bed.our_mac()) {
        bed.set_flood(flood)?;
        samples.extend(interleaved(&mut bed, &cases, options)?);
    }
    print(
        options,
        &Report::new(&samples),
        "f0: XDP_TX at once. f1: checks Ethernet+IPv4+TCP, swaps the MACs. f2: f1, one hit in a million-entry LRU, one\n\
         array read. _131k: 131,072 clients, visited in another order than inserted. tracked_*: affinity client, tracking\n\
         full. slot_*: affinity client, tracking transitions, no window. new_v4: every packet a new client, table full.\n\
         listed_*: tracked_v4 with an access list of 100 prefixes, or 100,000. limited_v4: tracked_v4 with a limit that is\n\
         not reached. flood_*: every packet a new client, suppressed; beside them a floor and tracked_v4_131k once more.",
    )
}

/// Prints a report as JSON, or as a table with a word on what its rows are.
fn print(options: &Options, report: &Report, rows: &str) -> Result<(), BenchError> {
    if options.json {
        println!("{}", serde_json::to_string(report).map_err(BenchError::of("print the report"))?);
    } else {
        eprintln!();
        print!("{}\n{rows}\n", report.table());
    }
    Ok(())
}

/// Every row once a round; gives each row's nanoseconds per packet, a round each.
fn interleaved(
    bed: &mut Bed,
    cases: &[Case],
    options: &Options,
) -> Result<Vec<(String, Vec<f64>)>, BenchError> {
    let mut samples: Vec<_> = cases.iter().map(|case| (case.name.to_owned(), Vec::new())).collect();
    for round in 1..=options.rounds {
        if !options.json {
            eprint!("\rround {round} of {}", options.rounds);
        }
        for (case, (_, rounds)) in cases.iter().zip(&mut samples) {
            rounds.push(measure(bed, case, options.packets)?.as_nanos() as f64);
        }
    }
    Ok(samples)
}

/// One row once: warms up (which also inserts every client), then times.
fn measure(bed: &mut Bed, case: &Case, packets: u32) -> Result<Duration, BenchError> {
    bed.aim(case)?;
    bed.plan(case, 1)?;
    bed.shoot(case, case.warm_up())?;
    bed.plan(case, cases::STRIDE)?;
    bed.shoot(case, packets)
}
