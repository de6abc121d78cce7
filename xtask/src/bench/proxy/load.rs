//! Load generators: each a loop on one thread that works until it is told to end, and counts what it has done.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(super) mod bulk;
pub(super) mod connections;
pub(super) mod datagrams;
pub(super) mod idle;
pub(super) mod paced;
pub(super) mod requests;

/// How often a generator with nothing to do looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);
/// How long a proxy may take for what it should do at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a generator has done so far; whether it is to end.
#[derive(Debug, Default)]
pub(super) struct Progress {
    done: AtomicU64,
    failed: AtomicU64,
    counts: AtomicBool,
    stopped: AtomicBool,
}

impl Progress {
    /// So much more was done.
    fn add(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// Something failed that should not have.
    fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// What was done so far.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// What failed so far.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The warm-up is over, or what counted is.
    pub(super) fn set_counts(&self, counts: bool) {
        self.counts.store(counts, Ordering::Relaxed);
    }

    /// Whether what is done now counts.
    fn counts(&self) -> bool {
        self.counts.load(Ordering::Relaxed)
    }

    /// Tells the generator to end.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// A connection for many small requests that never waits.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
