//! Grace periods: waited for ahead, so that the next change finds them over. One takes 5 to 20 ms, longer than all else
//! that a change takes.

use std::io;
use std::thread::{self, JoinHandle};

use super::sys;

/// Whether packets may still use what was flipped away or retired.
#[derive(Debug, Default)]
pub(super) struct Grace {
    /// Something was, since a grace period was last begun.
    owed: bool,
    /// A grace period that was begun after all else.
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl Grace {
    /// Something was flipped away or retired just now.
    pub(super) fn owe(&mut self) {
        self.owed = true;
    }

    /// Begins to wait for what is owed, and keeps nobody waiting.
    pub(super) fn begin(&mut self) {
        if self.owed {
            let waiting = thread::Builder::new().name("grace".to_owned()).spawn(sys::grace_period);
            // Where no thread is to be had, whoever needs the grace period waits for it himself.
            self.owed = waiting.is_err();
            self.under_way = waiting.ok();
        }
    }

    /// Returns once no packet uses any of it.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let begun = self.under_way.take().map(JoinHandle::join);
        if self.owed || begun.is_some_and(|waited| !matches!(waited, Ok(Ok(())))) {
            // Still owed if this fails.
            self.owed = true;
            sys::grace_period()?;
            self.owed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_a_grace_period_was_begun_is_owed_another() {
        let mut grace = Grace::default();
        grace.begin();
        assert!(grace.under_way.is_none(), "nothing was flipped yet");
        grace.owe();
        grace.begin();
        assert!(!grace.owed && grace.under_way.is_some());
        grace.owe();
        assert!(grace.owed, "the one under way began too early for this");
        grace.begin();
        assert!(!grace.owed && grace.under_way.is_some(), "one more was begun");
        grace.settle().unwrap();
        assert!(!grace.owed && grace.under_way.is_none());
    }

    #[test]
    fn a_grace_period_that_could_not_be_waited_for_is_waited_for_again() {
        let mut grace = Grace { owed: false, under_way: None };
        grace.under_way = Some(thread::spawn(|| Err(io::Error::from(io::ErrorKind::PermissionDenied))));
        grace.settle().unwrap();
        assert!(!grace.owed && grace.under_way.is_none());
    }
}
