//! What was counted: by each worker for itself, without locks, and summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::choose::Chooser;
use super::endpoint::Endpoint;

/// A number that one thread counts up and others read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it. Only one thread may: a plain load and store, no locked instruction.
    pub fn add(&self, number: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(number), Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counted of one backend.
#[derive(Debug, Default)]
pub struct BackendCounts {
    /// Connections that were established.
    pub connections: Count,
    /// Connections that were refused or not answered in time.
    pub failures: Count,
    /// Bytes from clients.
    pub received: Count,
    /// Bytes to clients.
    pub sent: Count,
}

/// What one worker counted.
#[derive(Debug)]
pub struct Counts {
    /// Clients accepted.
    pub accepted: Count,
    /// Clients that no backend would have.
    pub turned_away: Count,
    /// By backend.
    pub backends: Box<[BackendCounts]>,
}

impl Counts {
    /// For a pool of so many backends.
    pub fn new(backends: usize) -> Counts {
        Counts {
            accepted: Count::default(),
            turned_away: Count::default(),
            backends: (0..backends).map(|_| BackendCounts::default()).collect(),
        }
    }
}

/// What all workers counted, and how things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Clients accepted.
    pub accepted: u64,
    /// Clients that no backend would have.
    pub turned_away: u64,
    /// Clients remembered.
    pub remembered: usize,
    /// The backends, in the order they were given.
    pub backends: Vec<BackendStatistics>,
}

/// The same of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendStatistics {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whether its last connection failed, so that it is left out for a while.
    pub failing: bool,
    /// Connections now.
    pub open: u32,
    /// Connections so far.
    pub connections: u64,
    /// Connections that were refused or not answered in time.
    pub failures: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
}

impl Statistics {
    /// Sums what the workers counted.
    pub fn sum<'a>(chooser: &Chooser, workers: impl Iterator<Item = &'a Counts> + Clone) -> Statistics {
        let pool = chooser.pool();
        let backends = pool.ids().map(|id| {
            let each = workers.clone().filter_map(|counts| counts.backends.get(usize::from(id.0)));
            let total = |count: fn(&BackendCounts) -> &Count| each.clone().map(|c| count(c).get()).sum();
            BackendStatistics {
                endpoint: pool.config(id).endpoint.clone(),
                failing: pool.is_suspect(id),
                open: pool.connections(id),
                connections: total(|counts| &counts.connections),
                failures: total(|counts| &counts.failures),
                received: total(|counts| &counts.received),
                sent: total(|counts| &counts.sent),
            }
        });
        Statistics {
            accepted: workers.clone().map(|counts| counts.accepted.get()).sum(),
            turned_away: workers.clone().map(|counts| counts.turned_away.get()).sum(),
            remembered: chooser.remembered(),
            backends: backends.collect(),
        }
    }
}
