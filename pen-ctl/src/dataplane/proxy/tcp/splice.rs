//! Moves bytes between a socket and a pipe inside the kernel: splice(2).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use super::buffers::PIPE;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// From a socket into an empty pipe. `AGAIN` then means that the socket has nothing.
pub(crate) fn fill(socket: &OwnedFd, entrance: &OwnedFd) -> Result<usize, Errno> {
    splice(socket, None, entrance, None, PIPE, FLAGS)
}

/// From a pipe that holds at least `length` bytes into a socket. `AGAIN` then means that the socket has no room.
pub(crate) fn pour(exit: &OwnedFd, socket: &OwnedFd, length: usize) -> Result<usize, Errno> {
    splice(exit, None, socket, None, length, FLAGS)
}
