//! `cargo xtask bench --pool`: from a request that changes who serves to the flipped table, and to the answer.
//!
//! The state is kept in memory, so that no time of a disk is in it; the rest is a controller as it runs anywhere.

mod change;
mod flip;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::report::median;
use super::{BenchError, prepare};
use crate::lab::controller::Controller;
use crate::lab::{self, Lab, sys};
use change::Change;
use flip::Table;

/// From one change to the next: as when people or other programs make them, not in a burst.
const PAUSE: Duration = Duration::from_millis(100);
/// The services' address; each has a port of its own.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 1);

/// How to measure changes of a pool.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Measure how soon a change of who serves is in force, of 10 and of 1,000 backends
    #[arg(long, conflicts_with_all = ["packets", "proxy", "health"])]
    pub(super) pool: bool,
    /// With --pool: changes of each pool
    #[arg(long, requires = "pool", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    changes: u32,
    /// With --pool: milliseconds from one change to the next; 0 = the next as soon as one is answered
    #[arg(long, requires = "pool", value_name = "MS", default_value_t = PAUSE.as_millis() as u64)]
    pause: u64,
}

/// Services whose pool is changed, and how many backends each has, in the same controller.
const POOLS: [&[u16]; 3] = [&[10], &[1000], &[10, 1000]];
const TRACKING: [&str; 2] = ["full", "transitions"];

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
}

/// What was found of one service.
#[derive(Debug, Serialize)]
struct Row {
    /// Its tracking.
    tracking: &'static str,
    /// How many backends it has.
    backends: u16,
    /// How many others the same controller has.
    others: u16,
    changes: usize,
    /// From the request to the flipped table, in milliseconds.
    flip_ms: Spread,
    /// From the request to the answer.
    answer_ms: Spread,
}

#[derive(Debug, Serialize)]
struct Spread {
    median: f64,
    max: f64,
}

impl Spread {
    fn of(times: &[Duration]) -> Self {
        let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        Self { median: median(&times), max: times.iter().copied().fold(0.0, f64::max) }
    }
}

/// Measures and prints what it found.
pub(super) fn main(json: bool, options: &Options) -> Result<(), BenchError> {
    sys::catch_interrupts();
    let pen_ctl = prepare::pen_ctl()?;
    let tell = |text: String| {
        if !json {
            eprint!("\r{text:<60}");
        }
    };
    let mut rows = Vec::new();
    for tracking in TRACKING {
        for pools in POOLS {
            rows.extend(measure(&pen_ctl, tracking, pools, options, &tell)?);
        }
    }
    let report = Report { rows };
    if json {
        println!("{}", serde_json::to_string(&report).map_err(BenchError::of("print the report"))?);
    } else {
        eprint!("\r{:<60}\r", "");
        print!("{report}");
    }
    Ok(())
}

/// Starts a controller with a service for each of `pools` and changes the first.
fn measure(
    pen_ctl: &Path,
    tracking: &'static str,
    pools: &[u16],
    options: &Options,
    tell: &dyn Fn(String),
) -> Result<Option<Row>, BenchError> {
    let Some((&backends, others)) = pools.split_first() else { return Ok(None) };
    let others = others.iter().sum();
    let what = format!("tracking {tracking}, {backends} backends beside {others}");
    tell(format!("{what}: starting"));
    let lab = Lab::build(&lab::Plan { prefix: "pen-bench", balancers: 1, backends: 0, clients: 1 })?;
    let mut pen = start(&lab, pen_ctl, tracking, pools)?;
    let table = Table::find(pen.bpffs(), VIP, port(0))?;
    let (mut flips, mut answers) = (Vec::new(), Vec::new());
    // The first one finds nothing ready: it does not count.
    for number in 0..=options.changes {
        if sys::interrupted() {
            return Err(lab::Error::Interrupted.into());
        }
        tell(format!("{what}: change {number} of {}", options.changes));
        let change = Change::nth(number, backends);
        let taken = change.make(&pen.socket(), &name(0), &table)?;
        if number > 0 {
            flips.push(taken.flip);
            answers.push(taken.answer);
        }
        sleep(Duration::from_millis(options.pause));
    }
    pen.kill();
    let (flip_ms, answer_ms) = (Spread::of(&flips), Spread::of(&answers));
    Ok(Some(Row { tracking, backends, others, changes: flips.len(), flip_ms, answer_ms }))
}

fn start(lab: &Lab, pen_ctl: &Path, tracking: &str, pools: &[u16]) -> Result<Controller, BenchError> {
    let mut pen = Controller::prepare(lab, 0, pen_ctl)?;
    let state = pen.state_dir();
    lab.mount_tmpfs(&state.file_name().unwrap_or_default().to_string_lossy())?;
    let mut text = "interfaces = [\"eth0\"]\n".to_owned();
    for (number, &backends) in pools.iter().enumerate() {
        let all: Vec<String> = (0..backends)
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                let (address, mac) =
                    (change::address(n), format!("02:70:65:6e:{:02x}:{low:02x}", 0x10 + high));
                format!("{{ address = \"{address}\", mac = \"{mac}\" }}")
            })
            .collect();
        text.push_str(&format!(
            "[[service]]\nname = \"{}\"\nvip = \"{VIP}:{}/tcp\"\ntracking = \"{tracking}\"\n\
             health = {{ kind = \"none\" }}\nbackend = [{}]\n",
            name(number),
            port(number),
            all.join(", ")
        ));
    }
    let file = lab.directory().join("pool.toml");
    std::fs::write(&file, text).map_err(BenchError::of("write the configuration"))?;
    pen.start(&format!("-c {}", file.display()))?;
    pen.await_status("all to serve", |status| {
        let mut backends = status.services.iter().flat_map(|service| &service.backends);
        status.services.len() == pools.len() && backends.all(|backend| backend.serving)
    })?;
    Ok(pen)
}

fn name(number: usize) -> String {
    format!("s{number}")
}

fn port(number: usize) -> u16 {
    80 + number as u16
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<44}{:>18}{:>18}",
            "from the request, ms: median (max)", "to the flip", "to the answer"
        )?;
        for Row { tracking, backends, others, flip_ms, answer_ms, .. } in &self.rows {
            let beside = if *others > 0 { format!(", beside {others} more") } else { String::new() };
            let pool = format!("tracking {tracking}, {backends} backends{beside}");
            writeln!(f, "{pool:<44}{:>18}{:>18}", flip_ms.to_string(), answer_ms.to_string())?;
        }
        Ok(())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ({:.1})", self.median, self.max)
    }
}

/// Waits until something is so; the moment at which it was seen to be.
fn moment(until: impl Fn() -> bool) -> Option<Instant> {
    /// Short enough to be no part of what is measured, long enough to leave the processor to others.
    const LOOK: Duration = Duration::from_micros(20);
    const PATIENCE: Duration = Duration::from_secs(10);
    let end = Instant::now() + PATIENCE;
    loop {
        let now = Instant::now();
        if until() {
            return Some(now);
        }
        if now > end {
            return None;
        }
        sleep(LOOK);
    }
}
