//! What a worker's connections borrow while they hold bytes: buffers, and pipes for splice(2).

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

/// Bytes read at once, and so held at most in each direction of a connection.
pub(crate) const READ: usize = 64 * 1024;
/// Buffers and pipes that are kept for the next one who needs them.
const KEPT: usize = 64;

/// What belongs to one worker.
#[derive(Debug)]
pub(crate) struct Kit {
    /// Where bytes are read into; what can be written at once never leaves it.
    pub(crate) scratch: Box<[u8]>,
    spare: Vec<Vec<u8>>,
    #[cfg(target_os = "linux")]
    pipes: Vec<Pipe>,
}

impl Default for Kit {
    fn default() -> Kit {
        Kit {
            scratch: vec![0; READ].into(),
            spare: Vec::new(),
            #[cfg(target_os = "linux")]
            pipes: Vec::new(),
        }
    }
}

/// Bytes that wait to be written.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    written: usize,
}

impl Buffer {
    /// What is left to write.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So many were written.
    pub(crate) fn advance(&mut self, written: usize) {
        self.written += written;
    }
}

impl Kit {
    /// Keeps a part of what was read.
    pub(crate) fn hold(&mut self, from: usize, to: usize) -> Buffer {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(&self.scratch[from..to]);
        Buffer { bytes, written: 0 }
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        if self.spare.len() < KEPT {
            self.spare.push(buffer.bytes);
        }
    }
}

/// A pipe through which bytes go from socket to socket without being copied into this process.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Where they come out.
    pub(crate) exit: OwnedFd,
    /// Where they go in.
    pub(crate) entrance: OwnedFd,
}

/// Bytes asked for that a pipe holds; what an unprivileged process may have (`fs.pipe-max-size`).
#[cfg(target_os = "linux")]
pub(crate) const PIPE: usize = 512 * 1024;

#[cfg(target_os = "linux")]
impl Kit {
    /// An empty pipe; `None` if there are no descriptors for it.
    pub(crate) fn pipe(&mut self) -> Option<Pipe> {
        use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
        if let Some(pipe) = self.pipes.pop() {
            return Some(pipe);
        }
        let (exit, entrance) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // A smaller one does as well: a user may have only so many pages in pipes (pipe(7)).
        let _ = fcntl_setpipe_size(&entrance, PIPE);
        Some(Pipe { exit, entrance })
    }

    /// Takes a pipe back, which must be empty.
    pub(crate) fn give_pipe_back(&mut self, pipe: Pipe) {
        if self.pipes.len() < KEPT {
            self.pipes.push(pipe);
        }
    }

    /// Closes the pipes that nobody uses: descriptors are short.
    pub(crate) fn close_pipes(&mut self) {
        self.pipes.clear();
    }
}

#[cfg(not(target_os = "linux"))]
impl Kit {
    /// There are none here.
    pub(crate) fn close_pipes(&mut self) {}
}
