//! Where there is no splice(2): nobody gets a pipe, and all bytes go through this process.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// There are none.
#[derive(Debug)]
pub(crate) enum Pipe {}

/// Never any.
#[derive(Debug, Default)]
pub(crate) struct Pipes;

impl Pipes {
    /// None.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        None
    }

    /// Nobody has one to give.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        match pipe {}
    }

    /// There is nothing to close.
    pub(crate) fn close(&mut self) {}
}

/// Nobody has a pipe to fill.
pub(crate) fn fill(_socket: &OwnedFd, pipe: &Pipe) -> Result<usize, Errno> {
    match *pipe {}
}

/// Nobody has a pipe to empty.
pub(crate) fn pour(pipe: &Pipe, _socket: &OwnedFd, _length: usize) -> Result<usize, Errno> {
    match *pipe {}
}

/// Nothing is ever told.
pub(crate) fn is_no_news(_errno: Errno) -> bool {
    true
}
