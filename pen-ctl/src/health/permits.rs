//! How many checks are under way at once. Programs have a limit of their own, so that those that hang neither delay checks of
//! other kinds nor fill the machine with processes.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::check::Kind;

/// File descriptors left to the rest of the controller.
const FILES_FOR_OTHERS: u64 = 256;
/// Checks under way at once, at most: more would only crowd this host's own queues.
const CHECKS_AT_ONCE: u64 = 8192;
/// Programs that run at once, at most: one is a process, and may be an interpreter of tens of MiB. Those that end within
/// 50 ms make more than a thousand checks a second with it.
const PROGRAMS_AT_ONCE: usize = 64;

/// Permits to begin a check; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Permits {
    /// One for each connection, or program, that may be open.
    checks: Arc<Semaphore>,
    /// One for each program that may run.
    programs: Arc<Semaphore>,
}

impl Permits {
    /// As many as `run` got file descriptors for.
    pub(super) fn new() -> Self {
        Self::with(connections_at_once(), PROGRAMS_AT_ONCE)
    }

    pub(super) fn with(checks: usize, programs: usize) -> Self {
        Self { checks: Arc::new(Semaphore::new(checks)), programs: Arc::new(Semaphore::new(programs)) }
    }

    #[cfg(test)]
    pub(super) fn programs_left(&self) -> usize {
        self.programs.available_permits()
    }

    /// Waits until a check of that kind may begin; it may take until this is dropped. Never `None`.
    pub(super) async fn acquire(&self, kind: &Kind) -> Option<Permit<'_>> {
        // First, so that whoever waits for it holds nothing that others need.
        let program = match kind {
            Kind::Exec(_) => Some(self.programs.acquire().await.ok()?),
            _ => None,
        };
        Some(Permit { _check: self.checks.acquire().await.ok()?, _program: program })
    }
}

/// One check may be under way.
pub(super) struct Permit<'a> {
    _check: SemaphorePermit<'a>,
    _program: Option<SemaphorePermit<'a>>,
}

/// How many connections may be open at once, with what `run` got of file descriptors.
fn connections_at_once() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let at_once = (files.saturating_sub(FILES_FOR_OTHERS) / 2).clamp(16, CHECKS_AT_ONCE);
    usize::try_from(at_once).unwrap_or(16)
}
