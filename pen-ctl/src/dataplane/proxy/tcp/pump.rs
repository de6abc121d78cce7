//! Moves bytes one way, from one end of a connection to the other, as far as both ends let it.
//!
//! Nothing is read that cannot be written or held: a slow reader stops its writer, as it would without a proxy between.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::buffers::{Buffer, Kit};
use crate::dataplane::proxy::count::Count;

/// Reads in one go before other connections have theirs.
const READS: u32 = 8;
/// Reads that must fill the buffer, one after the other, before a direction counts as bulk.
#[cfg(target_os = "linux")]
const PROOF: u8 = 2;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    /// Its socket.
    pub(crate) socket: OwnedFd,
    /// A read may yield something.
    pub(crate) readable: bool,
    /// A write may go through.
    pub(crate) writable: bool,
    /// Its peer has ended or died: everything is to be read to the end, however little a read yields.
    pub(crate) hung_up: bool,
}

impl End {
    /// An end of which nothing is known.
    pub(crate) fn new(socket: OwnedFd) -> End {
        End { socket, readable: false, writable: false, hung_up: false }
    }
}

/// What was read and is not written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Buffer),
    #[cfg(target_os = "linux")]
    Piped(super::buffers::Pipe, usize),
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Way {
    held: Held,
    /// The sender has ended: there is nothing more to read.
    pub(crate) ended: bool,
    /// That was passed on to the receiver.
    pub(crate) passed_on: bool,
    /// The sender died (reset, timeout): so must the receiver.
    pub(crate) torn: bool,
    /// The receiver died: it takes nothing any more.
    pub(crate) broken: bool,
    /// How many reads in a row filled the buffer.
    bulk: u8,
}

/// What became of an attempt to read or write.
enum Attempt {
    /// It did something.
    Done,
    /// It would have to wait.
    Wait,
}

impl Way {
    /// Moves what can be moved; true if there is more to do at once, after others had their turn.
    pub(crate) fn pump(&mut self, from: &mut End, to: &mut End, kit: &mut Kit, count: &Count) -> bool {
        for _ in 0..READS {
            if self.broken || self.torn {
                return false;
            }
            if !self.is_empty() {
                if !to.writable {
                    return false;
                }
                self.flush(to, kit);
                continue;
            }
            if self.ended || !from.readable || !to.writable {
                return false;
            }
            if let Attempt::Wait = self.read(from, to, kit, count) {
                return false;
            }
        }
        true
    }

    /// Whether everything that was read was written.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.held, Held::Nothing)
    }

    /// Gives back what it borrowed.
    pub(crate) fn release(&mut self, kit: &mut Kit) {
        // A pipe with bytes in it is of no use any more.
        if let Held::Bytes(buffer) = std::mem::take(&mut self.held) {
            kit.give_back(buffer);
        }
    }

    /// Writes what is held.
    fn flush(&mut self, to: &mut End, kit: &mut Kit) {
        match &mut self.held {
            Held::Nothing => {}
            Held::Bytes(buffer) => match send(&to.socket, buffer.rest(), SendFlags::NOSIGNAL) {
                Ok(written) => {
                    buffer.advance(written);
                    if buffer.rest().is_empty() {
                        self.release(kit);
                    }
                }
                Err(errno) => self.not_written(errno, to),
            },
            #[cfg(target_os = "linux")]
            Held::Piped(pipe, left) => match super::splice::pour(&pipe.exit, &to.socket, *left) {
                Ok(written) => {
                    *left -= written;
                    if *left == 0
                        && let Held::Piped(pipe, _) = std::mem::take(&mut self.held)
                    {
                        kit.give_pipe_back(pipe);
                    }
                }
                Err(errno) => self.not_written(errno, to),
            },
        }
    }

    /// Reads once, and writes what it can of it.
    fn read(&mut self, from: &mut End, to: &mut End, kit: &mut Kit, count: &Count) -> Attempt {
        #[cfg(target_os = "linux")]
        if self.bulk >= PROOF
            && let Some(pipe) = kit.pipe()
        {
            return self.splice(from, pipe, kit, count);
        }
        match recv(&from.socket, &mut *kit.scratch, RecvFlags::empty()) {
            Ok((_, 0)) => self.ended = true,
            Ok((_, read)) => {
                count.add(read as u64);
                let full = read == kit.scratch.len();
                self.bulk = if full { self.bulk.saturating_add(1) } else { 0 };
                // Less than there was room for: there is no more, and the next bytes will be told (epoll(7), Q9).
                from.readable = full || from.hung_up;
                self.write(read, to, kit);
            }
            Err(errno) => return self.not_read(errno, from),
        }
        Attempt::Done
    }

    /// Writes so many bytes of the scratch buffer, and holds what does not go through.
    fn write(&mut self, length: usize, to: &mut End, kit: &mut Kit) {
        let mut written = 0;
        while written < length && to.writable && !self.broken {
            match send(&to.socket, &kit.scratch[written..length], SendFlags::NOSIGNAL) {
                Ok(more) => written += more,
                Err(errno) => self.not_written(errno, to),
            }
        }
        if written < length && !self.broken {
            self.held = Held::Bytes(kit.hold(written, length));
        }
    }

    /// Fills a pipe from the sender; [`Way::flush`] empties it.
    #[cfg(target_os = "linux")]
    fn splice(
        &mut self,
        from: &mut End,
        pipe: super::buffers::Pipe,
        kit: &mut Kit,
        count: &Count,
    ) -> Attempt {
        match super::splice::fill(&from.socket, &pipe.entrance) {
            Ok(0) => self.ended = true,
            Ok(read) => {
                count.add(read as u64);
                if read < super::buffers::READ / 4 {
                    self.bulk = 0;
                }
                self.held = Held::Piped(pipe, read);
                return Attempt::Done;
            }
            Err(errno) => {
                kit.give_pipe_back(pipe);
                return self.not_read(errno, from);
            }
        }
        kit.give_pipe_back(pipe);
        Attempt::Done
    }

    fn not_read(&mut self, errno: Errno, from: &mut End) -> Attempt {
        match errno {
            Errno::INTR => return Attempt::Done,
            Errno::AGAIN => from.readable = false,
            _ => self.torn = true,
        }
        Attempt::Wait
    }

    fn not_written(&mut self, errno: Errno, to: &mut End) {
        match errno {
            Errno::INTR => {}
            Errno::AGAIN => to.writable = false,
            _ => {
                self.broken = true;
                // What it sent before it died is still there to be read.
                to.readable = true;
                to.hung_up = true;
            }
        }
    }
}
