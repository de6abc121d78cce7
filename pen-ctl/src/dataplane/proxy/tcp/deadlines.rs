//! When something has taken too long: cheap to set for every connection, because hardly any is ever met.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Deadlines of sessions. Those that were set with the same patience come in order, so each patience has a queue.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeMap<Duration, VecDeque<Deadline>>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// The session.
    pub(super) key: usize,
    /// What it is about: a session has a new number for each.
    pub(super) serial: u32,
    /// When.
    pub(super) due: Instant,
}

impl Deadlines {
    /// Sets one, `patience` from now; returns when that is, if such a time can be.
    pub(super) fn set(
        &mut self,
        now: Instant,
        patience: Duration,
        key: usize,
        serial: u32,
    ) -> Option<Instant> {
        let due = now.checked_add(patience)?;
        self.0.entry(patience).or_default().push_back(Deadline { key, serial, due });
        Some(due)
    }

    /// Drops those that nobody cares about any more, where they have become many more than those that can matter.
    pub(super) fn tidy(&mut self, most: usize, matters: impl Fn(&Deadline) -> bool) {
        for queue in self.0.values_mut().filter(|queue| queue.len() > 2 * most + 1024) {
            queue.retain(&matters);
        }
    }

    /// Takes one that is due by now, and drops those before it that nobody cares about any more.
    pub(super) fn take(&mut self, now: Instant, matters: impl Fn(&Deadline) -> bool) -> Option<Deadline> {
        for queue in self.0.values_mut() {
            while let Some(first) = queue.front().copied() {
                let due = first.due <= now;
                if matters(&first) && !due {
                    break;
                }
                queue.pop_front();
                if due && matters(&first) {
                    return Some(first);
                }
            }
        }
        self.0.retain(|_, queue| !queue.is_empty());
        None
    }

    /// Takes over all of another's, which were set later.
    pub(super) fn append(&mut self, later: &mut Deadlines) {
        for (patience, mut queue) in std::mem::take(&mut later.0) {
            self.0.entry(patience).or_default().append(&mut queue);
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|queue| queue.front()).map(|first| first.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_when_it_is_due_and_never_when_nobody_cares() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut deadlines = Deadlines::default();
        deadlines.set(start, 5 * second, 1, 1);
        deadlines.set(start, second, 2, 2);
        deadlines.set(start + second, second, 3, 3);
        deadlines.set(start, second, 4, 4);
        let cared = |deadline: &Deadline| deadline.key != 4;
        assert_eq!(deadlines.next(), Some(start + second));
        assert_eq!(deadlines.take(start, cared), None);
        let taken = |deadlines: &mut Deadlines, now| deadlines.take(now, cared).map(|taken| taken.key);
        assert_eq!(taken(&mut deadlines, start + second), Some(2));
        assert_eq!(taken(&mut deadlines, start + second), None);
        assert_eq!(deadlines.next(), Some(start + 2 * second));
        assert_eq!(taken(&mut deadlines, start + 9 * second), Some(3));
        assert_eq!(taken(&mut deadlines, start + 9 * second), Some(1));
        assert_eq!(taken(&mut deadlines, start + 9 * second), None);
        assert_eq!(deadlines.next(), None);
    }
}
