//! A lock on a file or a directory, for as long as it is held.

use std::fs::{File, TryLockError};

/// An flock(2) that ends with this, or with the process.
#[derive(Debug)]
pub struct HeldLock(File);

impl HeldLock {
    /// Takes the lock on an open file.
    ///
    /// # Errors
    /// Somebody else has it, and the file to read who; or it cannot be locked.
    pub fn take(file: File) -> Result<Self, (File, TryLockError)> {
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(error) => Err((file, error)),
        }
    }

    /// What is locked.
    pub const fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for HeldLock {
    /// Closing would not do: a child process that was forked a moment ago shares the lock until it execs.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_go_has_let_go_although_a_child_still_has_the_file() {
        let home = tempfile::tempdir().unwrap();
        let open = || File::open(home.path()).unwrap();
        let held = HeldLock::take(open()).unwrap();
        let childs = held.file().try_clone().unwrap();
        let (_, refused) = HeldLock::take(open()).unwrap_err();
        assert!(matches!(refused, TryLockError::WouldBlock), "{refused:?}");
        drop(held);
        HeldLock::take(open()).unwrap();
        drop(childs);
    }
}
