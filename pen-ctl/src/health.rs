//! Health of backends: checks that go on by themselves and tell when a verdict, or why it stands, changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::background::Background;
use crate::dataplane::{HealthStatus, ServiceKey};
use crate::surroundings::{Check, Event, Probe};
use judge::Judge;
use tcp::Outcome;

mod judge;
mod tcp;
#[cfg(test)]
mod tests;

/// File descriptors left to the rest of the controller.
const FILES_FOR_OTHERS: u64 = 256;
/// Checks under way at once, at most: more would only crowd this host's own queues.
const CHECKS_AT_ONCE: u64 = 8192;
/// By how much the time between checks varies, up and down, so that they do not fall into step.
const JITTER: f64 = 0.05;

/// Checks backends for as long as it lives.
pub(crate) struct Health {
    running: BTreeMap<(ServiceKey, IpAddr), Running>,
    events: mpsc::Sender<Event>,
    /// One permit for each connection that may be open.
    permits: Arc<Semaphore>,
}

struct Running {
    check: Check,
    verdict: watch::Receiver<HealthStatus>,
    _task: Background,
}

impl Health {
    /// Nothing is checked yet.
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self::with_connections(events, connections_at_once())
    }

    fn with_connections(events: mpsc::Sender<Event>, at_once: usize) -> Self {
        Self { running: BTreeMap::new(), events, permits: Arc::new(Semaphore::new(at_once)) }
    }

    /// Check exactly these from now on; must be called inside a tokio runtime.
    pub(crate) fn probe(&mut self, probes: Vec<Probe>) {
        let mut before = std::mem::take(&mut self.running);
        for probe in probes {
            let id = (probe.key, probe.address);
            let running = match before.remove(&id) {
                Some(running) if running.check == probe.check => running,
                Some(other) => {
                    let verdict = *other.verdict.borrow();
                    drop(other);
                    self.begin(Probe { initial: verdict, ..probe })
                }
                None => self.begin(probe),
            };
            self.running.insert(id, running);
        }
    }

    fn begin(&self, probe: Probe) -> Running {
        let (sender, verdict) = watch::channel(probe.initial);
        let check = probe.check.clone();
        let checker = Checker { told: None, verdict: sender, events: self.events.clone(), probe };
        Running { check, verdict, _task: Background::spawn(checker.run(self.permits.clone())) }
    }
}

/// One backend's check.
struct Checker {
    probe: Probe,
    /// The verdict and what stands in for its detail, as last told.
    told: Option<(HealthStatus, String)>,
    verdict: watch::Sender<HealthStatus>,
    events: mpsc::Sender<Event>,
}

impl Checker {
    async fn run(mut self, permits: Arc<Semaphore>) {
        let (port, interval, timeout, judge) = match self.probe.check {
            Check::None => return self.tell(HealthStatus::Up, "", "not checked".into()).await,
            Check::Tcp { port, interval, timeout, rise, fall } => {
                (port, interval, timeout, Judge::new(self.probe.initial, rise, fall))
            }
        };
        let backend = SocketAddr::new(self.probe.address, port);
        let (mut judge, mut due) = (judge, Instant::now());
        loop {
            let Ok(permit) = permits.acquire().await else { return };
            let outcome = tcp::connect(backend, timeout).await;
            drop(permit);
            match outcome {
                Outcome::Success(time) => {
                    let detail = format!("connected in {:.1} ms", time.as_secs_f64() * 1000.0);
                    match judge.judge(true) {
                        HealthStatus::Up => self.tell(HealthStatus::Up, "connected", detail).await,
                        // Down until `rise` successes in a row: else the reason would contradict itself.
                        status => {
                            self.tell(
                                status,
                                "rising",
                                format!("{detail}; not serving until that was so often enough (rise)"),
                            )
                            .await
                        }
                    }
                }
                Outcome::Failure(why) => self.tell(judge.judge(false), &why.clone(), why).await,
                Outcome::Unable(why) => {
                    let detail = format!("not checked: {why}");
                    self.tell(judge.verdict(), &detail.clone(), detail).await;
                }
            }
            due = (due + jittered(interval)).max(Instant::now());
            tokio::time::sleep_until(due).await;
        }
    }

    /// Tells the controller, unless it would hear nothing new: `essence` is the detail without what always varies.
    async fn tell(&mut self, status: HealthStatus, essence: &str, detail: String) {
        self.verdict.send_replace(status);
        if self.told.as_ref().is_some_and(|(s, e)| *s == status && e == essence) {
            return;
        }
        self.told = Some((status, essence.to_owned()));
        let event = Event::Health { key: self.probe.key, address: self.probe.address, status, detail };
        // The controller is gone: so are we in a moment.
        let _ = self.events.send(event).await;
    }
}

fn jittered(interval: Duration) -> Duration {
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

/// How many connections may be open at once, with what `run` got of file descriptors.
fn connections_at_once() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let at_once = (files.saturating_sub(FILES_FOR_OTHERS) / 2).clamp(16, CHECKS_AT_ONCE);
    usize::try_from(at_once).unwrap_or(16)
}
