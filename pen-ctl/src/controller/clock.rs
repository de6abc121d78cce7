//! What time it is and how much memory is left: injected, so that tests decide.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send {
    /// Seconds since the Unix epoch.
    fn unix_seconds(&self) -> u64;
    /// Time since the controller started; never goes back.
    fn uptime(&self) -> Duration;
}

/// This machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Uptime counts from here.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Bytes the kernel could still give without swapping (`MemAvailable`, proc(5)).
pub(super) fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
