//! Moves bytes one way, from one end of a connection to the other, as far as both ends let it.
//!
//! Nothing is read that cannot be written or held: a slow reader stops its writer, as it would without a proxy between.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, send};

use super::buffers::{Buffer, Kit, READ};
use super::splice::{self, Pipe};
use crate::dataplane::proxy::count::Count;
use crate::dataplane::proxy::platform::{self, NO_SIGNAL};

/// Reads in one go before other connections have theirs.
const READS: u32 = 8;
/// Reads that must fill the buffer, one after the other, before a direction counts as bulk.
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
    /// Its peer has ended, and has not died: what is there to be read is the last of it.
    pub(crate) ends: bool,
    /// Its peer has sent urgent data: a read may stop short of what is there.
    pub(crate) urgent: bool,
}

impl End {
    /// An end of which nothing is known.
    pub(crate) fn new(socket: OwnedFd) -> End {
        End { socket, readable: false, writable: false, hung_up: false, ends: false, urgent: false }
    }
}

/// What was read and is not written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Buffer),
    Piped(Pipe, usize),
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

    /// Has these bytes written before anything else; nothing must have been read yet.
    pub(crate) fn send_first(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.held = Held::Bytes(Buffer::of(bytes));
        }
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
            Held::Bytes(buffer) => match send(&to.socket, buffer.rest(), NO_SIGNAL) {
                Ok(written) => {
                    buffer.advance(written);
                    if buffer.rest().is_empty() {
                        self.release(kit);
                    }
                }
                Err(errno) => self.not_written(errno, to),
            },
            Held::Piped(pipe, left) => match splice::pour(pipe, &to.socket, *left) {
                Ok(written) => {
                    *left -= written;
                    if *left == 0
                        && let Held::Piped(pipe, _) = std::mem::take(&mut self.held)
                    {
                        kit.pipes.give_back(pipe);
                    }
                }
                Err(errno) => self.not_written(errno, to),
            },
        }
    }

    /// Reads once, and writes what it can of it.
    fn read(&mut self, from: &mut End, to: &mut End, kit: &mut Kit, count: &Count) -> Attempt {
        if self.bulk >= PROOF
            && let Some(pipe) = kit.pipes.take()
            && let Some(attempt) = self.splice(from, pipe, kit, count)
        {
            return attempt;
        }
        match recv(&from.socket, &mut *kit.scratch, RecvFlags::empty()) {
            Ok((_, 0)) => self.ended = true,
            Ok((_, read)) => {
                count.add(read as u64);
                let full = read == kit.scratch.len();
                self.bulk = if full { self.bulk.saturating_add(1) } else { 0 };
                // Less than there was room for: there is no more, and the next bytes will be told (epoll(7), Q9).
                // But not at an urgent mark, where a read stops short.
                from.readable = full || from.hung_up || from.urgent;
                self.write(read, to, kit, from.ends);
            }
            Err(errno) => return self.not_read(errno, from),
        }
        Attempt::Done
    }

    /// Writes so many bytes of the scratch buffer, and holds what does not go through. Where the sender's end is known to
    /// follow, it and the last bytes share a segment (`MSG_MORE` of send(2)): it is passed on in the same turn.
    fn write(&mut self, length: usize, to: &mut End, kit: &mut Kit, end_follows: bool) {
        let flags = if end_follows { platform::AND_MORE } else { NO_SIGNAL };
        let mut written = 0;
        while written < length && to.writable && !self.broken {
            match send(&to.socket, &kit.scratch[written..length], flags) {
                Ok(more) => written += more,
                Err(errno) => self.not_written(errno, to),
            }
        }
        if written < length && !self.broken {
            self.held = Held::Bytes(kit.hold(written, length));
        }
    }

    /// Fills a pipe from the sender; [`Way::flush`] empties it. `None` if nothing was to be had that way: splice(2) moves
    /// nothing at an urgent mark either (RFC 6093), so only a read can tell that there is nothing, or nothing more.
    ///
    /// That the sender died is told once, to whoever asks first: a read after it would find a mere end.
    fn splice(&mut self, from: &mut End, pipe: Pipe, kit: &mut Kit, count: &Count) -> Option<Attempt> {
        match splice::fill(&from.socket, &pipe) {
            Ok(read @ 1..) => {
                count.add(read as u64);
                if read < READ / 4 {
                    self.bulk = 0;
                }
                self.held = Held::Piped(pipe, read);
                Some(Attempt::Done)
            }
            told => {
                kit.pipes.give_back(pipe);
                told.err().filter(|errno| !splice::is_no_news(*errno)).map(|errno| self.not_read(errno, from))
            }
        }
    }

    fn not_read(&mut self, errno: Errno, from: &mut End) -> Attempt {
        match errno {
            Errno::INTR => return Attempt::Done,
            Errno::AGAIN => (from.readable, from.urgent) = (false, false),
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

#[cfg(test)]
mod tests;
