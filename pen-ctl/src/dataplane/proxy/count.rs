//! What was counted: by each worker for itself, without locks, and summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

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

/// What one worker counts, in cache lines of its own (two: processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct OfWorker<T>(pub T);

/// What one worker counted of one backend.
#[derive(Debug, Default)]
pub struct BackendCounts {
    /// Connections (UDP: sessions) that were established.
    pub connections: Count,
    /// Connections that were refused or not answered in time.
    pub failures: Count,
    /// Datagrams from clients.
    pub datagrams: Count,
    /// Bytes from clients.
    pub received: Count,
    /// Bytes to clients.
    pub sent: Count,
}

/// What one worker counted of one service.
#[derive(Debug, Default)]
pub struct ServiceCounts {
    /// Clients accepted, those that the access list refused left out.
    pub accepted: Count,
    /// Clients that no backend would have.
    pub turned_away: Count,
    /// Clients (of UDP, datagrams) that the access list refused.
    pub denied: Count,
}

/// What all workers counted of a backend, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Connections (UDP: sessions) so far.
    pub connections: u64,
    /// Connections that were refused or not answered in time.
    pub failures: u64,
    /// Datagrams from clients.
    pub datagrams: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
}

impl Totals {
    /// Sums what the workers counted of one backend.
    pub fn of(counts: &[OfWorker<BackendCounts>]) -> Totals {
        counts.iter().fold(Totals::default(), |sum, OfWorker(counts)| {
            sum.plus(Totals {
                connections: counts.connections.get(),
                failures: counts.failures.get(),
                datagrams: counts.datagrams.get(),
                received: counts.received.get(),
                sent: counts.sent.get(),
            })
        })
    }

    /// Has a worker go on from them. Only before it has to do with the backend.
    pub fn put(self, counts: &BackendCounts) {
        counts.connections.add(self.connections);
        counts.failures.add(self.failures);
        counts.datagrams.add(self.datagrams);
        counts.received.add(self.received);
        counts.sent.add(self.sent);
    }

    /// The sum of both.
    pub fn plus(self, other: Totals) -> Totals {
        Totals {
            connections: self.connections.wrapping_add(other.connections),
            failures: self.failures.wrapping_add(other.failures),
            datagrams: self.datagrams.wrapping_add(other.datagrams),
            received: self.received.wrapping_add(other.received),
            sent: self.sent.wrapping_add(other.sent),
        }
    }
}
