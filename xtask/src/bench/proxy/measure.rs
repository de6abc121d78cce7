//! The measures: what each has clients do, and what is noted of it.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::super::BenchError;
use super::Plan;
use super::load::{Progress, bulk, connections, datagrams, idle, paced, requests};
use super::place::Place;
use super::process::Target;
use super::report::Metric;
use super::rivals::{Protocol, Subject};
use crate::lab::{self, sys};

/// What part of a step passes before anything counts.
const WARM_UP: f64 = 0.25;
/// How long the first request may take, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until a proxy has settled after its connections have become idle.
const SETTLE: Duration = Duration::from_millis(300);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Measure {
    /// Open connections, one request each
    Connections,
    /// Ask on connections that stay
    Requests,
    /// Ask at a moderate, fixed pace
    Latency,
    /// Receive streams without end
    Bulk,
    /// Ask over UDP
    Datagrams,
    /// Keep connections open, and be silent
    Idle,
}

/// What was noted in one step.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The numbers.
    pub(super) samples: Vec<(Metric, f64)>,
    /// What failed: connections, requests; datagrams lost.
    pub(super) failed: u64,
}

impl Measure {
    /// All of them, in the order in which they are taken.
    pub const ALL: [Self; 6] =
        [Self::Connections, Self::Requests, Self::Latency, Self::Bulk, Self::Datagrams, Self::Idle];

    /// What its clients speak.
    pub(super) fn protocol(self) -> Protocol {
        if self == Self::Datagrams { Protocol::Udp } else { Protocol::Tcp }
    }

    /// Whether a subject can be measured so.
    pub(super) fn suits(self, subject: Subject) -> bool {
        subject.speaks(self.protocol()) && (self != Self::Idle || subject != Subject::Direct)
    }

    /// Takes it once: starts the subject, has clients work, ends it.
    pub(super) fn take(self, place: &Place, plan: &Plan, subject: Subject) -> Result<Taken, BenchError> {
        let mut target = Target::start(place, &plan.pen_ctl, subject, self)?;
        let step = plan.step;
        let taken = match self {
            Self::Connections => {
                rate(&target, step, connections::run, Metric::CONNECTIONS, Metric::CONNECTIONS_CPU)
            }
            Self::Requests => rate(&target, step, requests::run, Metric::REQUESTS, Metric::REQUESTS_CPU),
            Self::Datagrams => rate(&target, step, datagrams::run, Metric::DATAGRAMS, Metric::DATAGRAMS_CPU),
            Self::Bulk => rate(&target, step, bulk::run, Metric::BULK, Metric::BULK_CPU),
            Self::Latency => latency(&target, step),
            Self::Idle => memory(&target, plan.idle),
        };
        let failed = BenchError::of(&format!("measure {self:?} of {}", subject.name()));
        // That it ended explains more than what its clients met.
        target.check().map_err(BenchError::of(subject.name()))?;
        place.check()?;
        taken.map_err(failed)
    }
}

/// How often something was done, and what the proxy spent on each time.
fn rate(
    target: &Target,
    step: Duration,
    generator: fn(SocketAddr, &Progress) -> io::Result<()>,
    each: Metric,
    cpu: Metric,
) -> io::Result<Taken> {
    let (counted, ()) = watch(target, step, |progress| generator(target.address, progress))?;
    let mut samples = vec![(each, counted.done as f64 * each.scale / counted.elapsed.as_secs_f64())];
    samples.extend(counted.spent(target, cpu));
    Ok(Taken { samples, failed: counted.failed })
}

/// How long answers take while there is little to do, and what the proxy spends then.
fn latency(target: &Target, step: Duration) -> io::Result<Taken> {
    let (counted, mut latencies) = watch(target, step, |progress| paced::run(target.address, progress))?;
    latencies.sort_unstable();
    let percentile = |part: usize, metric: Metric| {
        let latency = latencies.get(latencies.len() * part / 100);
        let latency = latency.ok_or_else(|| io::Error::other("nothing was answered in time"))?;
        io::Result::Ok((metric, latency.as_secs_f64() * metric.scale))
    };
    let mut samples = vec![percentile(50, Metric::P50)?, percentile(99, Metric::P99)?];
    samples.extend(counted.spent(target, Metric::PACED_CPU));
    Ok(Taken { samples, failed: counted.failed })
}

/// What idle connections take.
fn memory(target: &Target, connections: usize) -> io::Result<Taken> {
    let before = target.memory()?;
    let open = idle::open(target.address, connections)?;
    thread::sleep(SETTLE);
    let after = target.memory()?;
    drop(open);
    let bytes = [(Metric::IDLE_GROWTH, after.saturating_sub(before)), (Metric::IDLE_TOTAL, after)];
    let samples = bytes.map(|(metric, bytes)| (metric, bytes as f64 * metric.scale));
    Ok(Taken { samples: samples.into(), failed: 0 })
}

/// What was counted in the part of a step that counts.
struct Counted {
    elapsed: Duration,
    done: u64,
    failed: u64,
    /// Processor time of the proxy.
    cpu: Duration,
}

impl Counted {
    /// What the proxy, if there is one, spent on each.
    fn spent(&self, target: &Target, metric: Metric) -> Option<(Metric, f64)> {
        let each = self.cpu.as_secs_f64() * metric.scale / self.done as f64;
        target.is_proxy().then_some((metric, each))
    }
}

/// Has a generator work for a step.
fn watch<T: Send>(
    target: &Target,
    step: Duration,
    generator: impl FnOnce(&Progress) -> io::Result<T> + Send,
) -> io::Result<(Counted, T)> {
    let progress = Progress::default();
    thread::scope(|scope| {
        let generator = scope.spawn(|| generator(&progress));
        let counted = count(target, step, &progress);
        progress.stop();
        let made = generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let counted = counted?;
        if counted.done == 0 {
            return Err(io::Error::other("nothing came through"));
        }
        Ok((counted, made))
    })
}

fn count(target: &Target, step: Duration, progress: &Progress) -> io::Result<Counted> {
    pause(step.mul_f64(WARM_UP))?;
    let patience = Instant::now() + PATIENCE;
    while progress.done() == 0 && Instant::now() < patience {
        pause(Duration::from_millis(10))?;
    }
    let (cpu, begin, done, failed) = (target.cpu()?, Instant::now(), progress.done(), progress.failed());
    progress.set_counts(true);
    pause(step)?;
    progress.set_counts(false);
    Ok(Counted {
        elapsed: begin.elapsed(),
        done: progress.done() - done,
        failed: progress.failed() - failed,
        cpu: target.cpu()?.saturating_sub(cpu),
    })
}

/// Sleeps so long, unless it is interrupted.
fn pause(time: Duration) -> io::Result<()> {
    let end = Instant::now() + time;
    loop {
        if sys::interrupted() {
            return Err(io::Error::other(lab::Error::Interrupted));
        }
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return Ok(()),
            left => thread::sleep(left.min(Duration::from_millis(50))),
        }
    }
}
