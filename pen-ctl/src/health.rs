//! Health of backends: checks that go on by themselves and tell when a verdict, or why it stands, changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::background::Background;
use crate::check::{Check, Pace};
use crate::dataplane::{BackendAddress, HealthStatus, ServiceKey};
use crate::metrics::timings::Timings;
use crate::surroundings::{Advice, Event, Ground, Hop, Probe};
use agent::Memory;
use along::Explanation;
use ask::{Outcome, Question};
use judge::Judge;
use permits::Permits;
use place::{Place, Places, Whereabouts};

mod again;
mod agent;
mod along;
mod ask;
mod connect;
mod datagram;
mod dns;
mod exec;
mod http;
mod icmp;
mod judge;
mod permits;
pub(crate) mod place;
mod smtp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

/// The detail of a backend that is not checked, and so is held to be up; and how the words on one begin that cannot be.
pub(crate) const NOT_CHECKED: &str = "not checked";

/// Checks backends for as long as it lives.
pub(crate) struct Health {
    running: BTreeMap<(ServiceKey, BackendAddress), Running>,
    events: mpsc::Sender<Event>,
    permits: Permits,
    timings: Timings,
    /// Where VIPs are asked.
    places: watch::Receiver<Places>,
}

struct Running {
    check: Check,
    hop: watch::Sender<Hop>,
    verdict: watch::Receiver<HealthStatus>,
    _task: Background,
}

impl Health {
    /// Nothing is checked yet.
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        places: watch::Receiver<Places>,
        timings: Timings,
    ) -> Self {
        Self::with_permits(events, places, timings, Permits::new())
    }

    fn with_permits(
        events: mpsc::Sender<Event>,
        places: watch::Receiver<Places>,
        timings: Timings,
        permits: Permits,
    ) -> Self {
        Self { running: BTreeMap::new(), events, permits, places, timings }
    }

    /// Check exactly these from now on; must be called inside a tokio runtime.
    pub(crate) fn probe(&mut self, probes: Vec<Probe>) {
        let mut before = std::mem::take(&mut self.running);
        for probe in probes {
            let id = (probe.key, probe.address);
            let running = match before.remove(&id) {
                Some(running) if running.check == probe.check => {
                    running.hop.send_replace(probe.hop);
                    running
                }
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
        let (hop, wherever) = watch::channel(probe.hop.clone());
        let check = probe.check.clone();
        let judge = Judge::new(probe.initial, check.pace);
        let (events, advice) = (self.events.clone(), Advice::default());
        let whereabouts = Whereabouts { hop: wherever, places: self.places.clone() };
        let checker =
            Checker { judge, advice, explanation: None, told: None, verdict: sender, events, probe };
        let task = Background::spawn(checker.run(whereabouts, self.permits.clone(), self.timings.clone()));
        Running { check, hop, verdict, _task: task }
    }
}

/// One backend's check.
struct Checker {
    probe: Probe,
    judge: Judge,
    /// What its agent asked for.
    advice: Advice,
    /// Why its VIP does not answer, as far as that was found out.
    explanation: Option<Explanation>,
    /// What was last told: the verdict, what stands in for its detail, the advice.
    told: Option<(HealthStatus, String, Advice)>,
    verdict: watch::Sender<HealthStatus>,
    events: mpsc::Sender<Event>,
}

impl Checker {
    async fn run(mut self, mut whereabouts: Whereabouts, permits: Permits, timings: Timings) {
        let Probe { key, address, check, .. } = &self.probe;
        let backend = endpoint(*address, check.port);
        let question = Question { service: *key, backend, check: check.clone(), agent: Memory::default() };
        let pace = check.pace;
        let started = Instant::now();
        let mut due = started;
        loop {
            let place = whereabouts.now();
            if let Place::Unknown(why) = place {
                self.take(Outcome::Unable(why), started.elapsed()).await;
                if !whereabouts.changed().await {
                    return;
                }
                due = Instant::now();
                continue;
            }
            let Some(permit) = permits.acquire(&question.check.kind).await else { return };
            timings.check_began(due.elapsed());
            let outcome = along::ask(&question, &place).await;
            timings.check_ended(outcome.name());
            self.hear(&question, &place, outcome, started).await;
            drop(permit);
            due = (due + jittered(&pace)).max(Instant::now());
            tokio::time::sleep_until(due).await;
        }
    }

    /// Judges what came of a check, and finds out why if a VIP does not answer: that takes time, in which a backend that is
    /// held to be up would get clients.
    async fn hear(&mut self, question: &Question, place: &Place, outcome: Outcome, started: Instant) {
        let now = started.elapsed();
        let urgent = self.judge.verdict() == HealthStatus::Up;
        if urgent {
            self.take(along::explained(&outcome, self.explanation.as_ref()), now).await;
        }
        self.explanation = along::explain(question, place, &outcome).await;
        match along::explained(&outcome, self.explanation.as_ref()) {
            outcome if !urgent => self.take(outcome, now).await,
            Outcome::Failure(why, None) => {
                let status = self.judge.verdict();
                self.tell(status, ground_of_failure(status), &why.clone(), why).await;
            }
            _ => {}
        }
    }

    /// Judges what came of a check, `now` after the first one began.
    async fn take(&mut self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Success(answer, took) => {
                self.advice = answer.advice.unwrap_or(self.advice);
                let detail = format!("{} in {:.1} ms", answer.what, took.as_secs_f64() * 1000.0);
                match (self.judge.judge(true, now), self.judge.held(now)) {
                    (HealthStatus::Up, _) => {
                        self.tell(HealthStatus::Up, Ground::Result, &answer.what, detail).await;
                    }
                    // Whoever answers well has not failed: the words are about what it waits for.
                    (status, None) => {
                        let rise = self.probe.check.pace.rise;
                        let detail =
                            format!("recovering: {detail}; up after {rise} good checks in a row (rise)");
                        self.tell(status, Ground::Recovering, "rising", detail).await;
                    }
                    (status, Some(hold)) => {
                        let time = humantime::format_duration(hold.time);
                        let why = format!(
                            "held down for {time}: it went down {} times in short order (max_hold)",
                            hold.downs
                        );
                        let detail = format!("{why}; answers again: {detail}");
                        self.tell(status, Ground::Recovering, &why, detail).await;
                    }
                }
            }
            Outcome::Failure(why, held) => {
                self.advice = held.map_or(self.advice, |held| held.advice);
                if held.is_some_and(|held| held.planned) {
                    self.judge.expect_down();
                }
                let status = self.judge.judge(false, now);
                self.tell(status, ground_of_failure(status), &why.clone(), why).await;
            }
            Outcome::Unable(why) => {
                let detail = format!("{NOT_CHECKED}: {why}");
                self.tell(self.judge.verdict(), Ground::Unasked, &why, detail).await;
            }
        }
    }

    /// Tells the controller, unless it would hear nothing new: `essence` is the detail without what always varies.
    async fn tell(&mut self, status: HealthStatus, ground: Ground, essence: &str, detail: String) {
        self.verdict.send_replace(status);
        let telling = (status, essence.to_owned(), self.advice);
        if self.told.as_ref() == Some(&telling) {
            return;
        }
        self.told = Some(telling);
        let (key, address, advice) = (self.probe.key, self.probe.address, self.advice);
        // The controller is gone: so are we in a moment.
        let _ = self.events.send(Event::Health { key, address, status, detail, ground, advice }).await;
    }
}

/// What words on a failure are about, where the verdict after it is that.
fn ground_of_failure(status: HealthStatus) -> Ground {
    if status == HealthStatus::Up { Ground::Failing } else { Ground::Result }
}

/// Where a backend is asked: on the port to check, or on its Unix socket; its own address where no port is asked.
fn endpoint(address: BackendAddress, port: Option<u16>) -> BackendAddress {
    match (address.ip(), port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port).into(),
        (_, None) | (None, _) => address,
    }
}

fn jittered(pace: &Pace) -> Duration {
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    let jitter = f64::from(pace.jitter) / 100.0;
    pace.interval.mul_f64(1.0 - jitter + 2.0 * jitter * random)
}
