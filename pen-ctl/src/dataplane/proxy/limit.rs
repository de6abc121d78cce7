//! File descriptors: as many as the system allows, and what is said when they run out.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Milliseconds without a shortage after which it is over.
const OVER_AFTER: u64 = 1000;

/// Raises the number of descriptors this process may have to the most it may ask for; returns what it may have now,
/// `None` if that is without limit.
pub fn raise_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // Some systems report more than they grant; the old limit stands then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// Whether an error says that this process or the system has run out of something that closing connections frees.
pub fn is_shortage(error: &io::Error) -> bool {
    let scarce = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOSPC];
    Errno::from_io_error(error).is_some_and(|errno| scarce.contains(&errno))
}

/// Whether there is a shortage, as all workers see it: it is said once when it begins and once when it is over.
#[derive(Debug, Default)]
pub struct Shortage {
    lasts: AtomicBool,
    /// Milliseconds of the pool's clock when it was met last.
    met: AtomicU64,
}

impl Shortage {
    /// It was met at `now`.
    pub fn met(&self, error: &io::Error, now: u64) {
        self.met.store(now, Relaxed);
        if !self.lasts.swap(true, Relaxed) {
            let limit = getrlimit(Resource::Nofile).current;
            warn!(
                limit,
                "no new connections for now: {error}; those that are open go on, and new ones wait until some have \
                 ended; raise the limit (`ulimit -n`, LimitNOFILE=) if this is not an attack"
            );
        }
    }

    /// A connection was accepted at `now`.
    pub fn not_met(&self, now: u64) {
        if self.lasts.load(Relaxed)
            && now.saturating_sub(self.met.load(Relaxed)) >= OVER_AFTER
            && self.lasts.swap(false, Relaxed)
        {
            info!("new connections are accepted again");
        }
    }
}
