//! `cargo xtask bench --veth`: packets per second from a client to the balancer and back, beside a bare reflector.
//!
//! Client and balancer are network namespaces that pairs of veth interfaces join, with a native XDP program on each
//! end. The kernel sends live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`) out of the client's end; at the other end the
//! balancer's program, or the floor of another pair, returns them (`XDP_TX`); back at the client's end they are counted.
//! Sending, balancing and counting share one CPU: so the rate says what a packet costs altogether. Each round visits
//! every row in turn, and rows compare within one run only.

use std::time::Duration;

use serde::Serialize;

use super::bed::{Bed, Seat, Sent, Wire};
use super::cases::{self, Case, Program};
use super::{BenchError, report::median};
use crate::lab;
use crate::lab::sys;

/// Interfaces of the balancer's pair, and of the floors' pairs.
const BALANCED: &str = "pen0";
const REFLECTED: &str = "f1";
const LOOKED_UP: &str = "f2";

/// How to measure over veth.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Measure packets per second over veth interfaces with native XDP, beside a bare reflector
    #[arg(long, conflicts_with_all = ["proxy", "health", "as_unit"])]
    pub(super) veth: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each row is measured.
    pub rounds: u32,
    /// Packets of each row and round.
    pub packets: u32,
    /// The CPU that does it all.
    pub cpu: usize,
}

/// One kind of traffic.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Million packets per second that came back, the median of the rounds.
    pub mpps: f64,
    /// The same in parts of the reflector's of the same round, the median again.
    pub ratio: f64,
    /// Packets sent in all rounds.
    pub sent: u64,
    /// Of these, how many did not come back.
    pub lost: u64,
    /// How many the balancer counted as forwarded.
    pub forwarded: u64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The reflector first, then the balancer's paths.
    pub rows: Vec<Row>,
}

/// Measures and prints what it found.
pub(super) fn main(plan: &Plan, json: bool) -> Result<(), BenchError> {
    sys::catch_interrupts();
    let report = run(plan, |at| {
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
            "\nFrom the client's veth to the balancer's and back, native XDP on both ends, all on one CPU. ratio: to the\n\
             reflector, which swaps the MACs (f1), in the same round. f2: with one hit in an LRU more. lost: sent, and not\n\
             counted back at the client."
        );
    }
    Ok(())
}

/// Runs the benchmark; `tell` hears where it is. The calling thread is in the client's network namespace afterwards,
/// and on that CPU.
///
/// # Errors
/// Something could not be made or measured, the balancer's count is not what it sent back, or it was interrupted.
pub fn run(plan: &Plan, mut tell: impl FnMut(&str)) -> Result<Report, BenchError> {
    let mut bed = Bed::with_seats(plan.cpu, &[Seat::at(BALANCED)])?;
    bed.attach_floor("f1", REFLECTED)?;
    bed.attach_floor("f2", LOOKED_UP)?;
    let [balanced, reflected, looked_up] = bed.move_to_client([BALANCED, REFLECTED, LOOKED_UP])?;
    let cases = cases::over_veth(bed.our_mac());
    let mut samples: Vec<_> = cases.iter().map(|(_, case)| (case.name, Vec::new())).collect();
    for round in 1..=plan.rounds {
        tell(&format!("round {round} of {}", plan.rounds));
        for ((program, case), (_, rounds)) in cases.iter().zip(&mut samples) {
            if sys::interrupted() {
                return Err(lab::Error::Interrupted.into());
            }
            let wire = match program {
                Program::F1 => &reflected,
                Program::F2 => &looked_up,
                _ => &balanced,
            };
            let sent = measure(&mut bed, case, wire, plan.packets)?;
            check(*program, case, plan.packets, &sent)?;
            rounds.push(sent);
        }
    }
    Ok(Report::new(&samples, plan.packets))
}

/// One row once: warms up (which also inserts every client), then sends.
fn measure(bed: &mut Bed, case: &Case, wire: &Wire, packets: u32) -> Result<Sent, BenchError> {
    bed.aim(case)?;
    bed.plan(case, 1)?;
    bed.send(case, wire, case.warm_up())?;
    bed.plan(case, cases::STRIDE)?;
    bed.send(case, wire, packets)
}

/// What the balancer counted is no more than was sent, and no less than came back.
fn check(program: Program, case: &Case, packets: u32, sent: &Sent) -> Result<(), BenchError> {
    let plausible = if program == Program::Pen { sent.returned..=u64::from(packets) } else { 0..=0 };
    if plausible.contains(&sent.forwarded) {
        return Ok(());
    }
    let why = format!("of {packets} sent, {} came back, {} were forwarded", sent.returned, sent.forwarded);
    Err(BenchError::of(&format!("row {}", case.name))(why))
}

impl Report {
    fn new(samples: &[(&'static str, Vec<Sent>)], packets: u32) -> Self {
        let reflector = samples.first().map_or(&[][..], |(_, rounds)| rounds.as_slice());
        let rows = samples.iter().map(|(name, rounds)| {
            let each = || rounds.iter().map(Sent::mpps);
            let ratios = each().zip(reflector).map(|(mpps, reflector)| mpps / reflector.mpps());
            let sent = u64::from(packets) * rounds.len() as u64;
            Row {
                name,
                mpps: median(&each().collect::<Vec<_>>()),
                ratio: median(&ratios.collect::<Vec<_>>()),
                sent,
                lost: sent - rounds.iter().map(|one| one.returned).sum::<u64>(),
                forwarded: rounds.iter().map(|one| one.forwarded).sum(),
            }
        });
        Self { rows: rows.collect() }
    }

    /// Aligned text.
    fn table(&self) -> String {
        let mut text = format!("{:<18}{:>8}{:>8}{:>12}{:>10}\n", "path", "Mpps", "ratio", "sent", "lost");
        for row in &self.rows {
            text += &format!(
                "{:<18}{:>8.3}{:>8.3}{:>12}{:>10}\n",
                row.name, row.mpps, row.ratio, row.sent, row.lost
            );
        }
        text
    }
}

impl Sent {
    /// Million packets per second that came back.
    fn mpps(&self) -> f64 {
        self.returned as f64 / self.time.max(Duration::from_nanos(1)).as_secs_f64() / 1e6
    }
}
