//! File descriptors: as many as the system allows, and what is said when they run out.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, info, warn};

/// Milliseconds without a shortage after which it is over.
const OVER_AFTER: u64 = 1000;

/// Raises the number of descriptors this process may have, a leftover from `select`, to the most it may ask for
/// (getrlimit(2), `RLIMIT_NOFILE`); returns what it may have now, `None` if that is without limit.
pub fn raise_descriptors() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let (from, to) = (shown(current), shown(maximum));
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => debug!("open files: at most {to} (was {from})"),
        // Some systems report more than they grant; the old limit stands then.
        Err(error) => debug!("open files: at most {from}; {to} are refused: {error}"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let lower = maximum.map(|hard| hard - 1);
        setrlimit(Resource::Nofile, Rlimit { current: lower, maximum }).unwrap();
        assert_eq!(raise_descriptors(), maximum);
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: maximum, maximum });
    }
}
