//! What the controller measures of itself while it runs: how long its work takes, and how its API answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the histograms' buckets, in seconds: from what nobody notices to what somebody should look at.
const BOUNDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Measured since the controller started; clones share it.
#[derive(Clone, Debug)]
pub struct Timings {
    /// When this was made: the controller's start, in seconds since the Unix epoch.
    started: f64,
    reconcile: Histogram,
    state_write: Histogram,
    check_lateness: Histogram,
    checks: Family<[(&'static str, &'static str); 1], Counter>,
    requests: Family<[(&'static str, u16); 1], Counter>,
}

impl Default for Timings {
    fn default() -> Self {
        Self::starting_at(SystemTime::now())
    }
}

impl Timings {
    /// Nothing was measured yet.
    pub fn starting_at(time: SystemTime) -> Self {
        Self {
            started: time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            reconcile: Histogram::new(BOUNDS),
            state_write: Histogram::new(BOUNDS),
            check_lateness: Histogram::new(BOUNDS),
            checks: Family::default(),
            requests: Family::default(),
        }
    }

    /// The desired state was compared with the data plane, and the difference carried out.
    pub fn reconciled(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    /// The state was made durable, or was found not to be writable.
    pub fn state_written(&self, took: Duration) {
        self.state_write.observe(took.as_secs_f64());
    }

    /// A health check began so long after it was due.
    pub fn check_began(&self, late: Duration) {
        self.check_lateness.observe(late.as_secs_f64());
    }

    /// A health check ended: `good`, `bad` or, where this host could not ask, `unable`.
    pub fn check_ended(&self, result: &'static str) {
        self.checks.get_or_create(&[("result", result)]).inc();
    }

    /// A request was answered with this HTTP status.
    pub fn answered(&self, status: u16) {
        self.requests.get_or_create(&[("code", status)]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "process_start_time_seconds",
            "When the controller started, since the Unix epoch",
            ConstGauge::new(self.started),
        );
        registry.register_with_unit(
            "pen_controller_reconcile_duration",
            "How long it took to compare the desired state with the data plane and to carry out the difference",
            Unit::Seconds,
            self.reconcile.clone(),
        );
        registry.register_with_unit(
            "pen_controller_state_write_duration",
            "How long it took to make a change durable (write, fsync, rename, fsync the directory)",
            Unit::Seconds,
            self.state_write.clone(),
        );
        registry.register_with_unit(
            "pen_health_check_lateness",
            "How long after it was due a health check began: more than a few milliseconds, and this host is too busy",
            Unit::Seconds,
            self.check_lateness.clone(),
        );
        registry.register(
            "pen_health_checks",
            "Health checks that ended since the controller started, by result (good, bad, unable)",
            self.checks.clone(),
        );
        registry.register(
            "pen_api_requests",
            "Requests answered since the controller started, by HTTP status",
            self.requests.clone(),
        );
    }
}
