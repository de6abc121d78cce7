//! Moves bytes between sockets by way of a pipe, inside the kernel: splice(2).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::buffers::KEPT;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
/// Bytes asked for that a pipe holds; what an unprivileged process may have (`fs.pipe-max-size`).
const PIPE: usize = 512 * 1024;

/// A pipe through which bytes go from socket to socket without being copied into this process.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Where they come out.
    exit: OwnedFd,
    /// Where they go in.
    entrance: OwnedFd,
}

/// Empty pipes that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Pipes(Vec<Pipe>);

impl Pipes {
    /// An empty pipe; `None` if there are no descriptors for it.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.0.pop() {
            return Some(pipe);
        }
        let (exit, entrance) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // A smaller one does as well: a user may have only so many pages in pipes (pipe(7)).
        let _ = fcntl_setpipe_size(&entrance, PIPE);
        Some(Pipe { exit, entrance })
    }

    /// Takes a pipe back, which must be empty.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        if self.0.len() < KEPT {
            self.0.push(pipe);
        }
    }

    /// Closes them: descriptors are short.
    pub(crate) fn close(&mut self) {
        self.0.clear();
    }
}

/// From a socket into an empty pipe. `AGAIN` then means that the socket has nothing.
pub(crate) fn fill(socket: &OwnedFd, pipe: &Pipe) -> Result<usize, Errno> {
    splice(socket, None, &pipe.entrance, None, PIPE, FLAGS)
}

/// From a pipe that holds at least `length` bytes into a socket. `AGAIN` then means that the socket has no room.
pub(crate) fn pour(pipe: &Pipe, socket: &OwnedFd, length: usize) -> Result<usize, Errno> {
    splice(&pipe.exit, None, socket, None, length, FLAGS)
}

/// Whether a failure to fill a pipe says nothing about the socket: it has nothing just now, or this is not the way to get
/// it (splice(2), errors; `PERM` and `NOSYS` are what filters of system calls answer). A connection dies of none of them.
pub(crate) fn is_no_news(errno: Errno) -> bool {
    use Errno as E;
    matches!(errno, E::AGAIN | E::INTR | E::INVAL | E::NOMEM | E::NOSYS | E::PERM)
}
