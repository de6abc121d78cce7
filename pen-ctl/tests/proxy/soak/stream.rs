//! Writes and reads a stream of a plan, and checks every byte of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::plan::{Random, Stream};

/// How long a call waits, before it is looked whether the connection is still wanted.
pub(crate) const WAIT: Duration = Duration::from_millis(40);
/// Without a byte for so long nothing will come any more.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pauses in a stream, at most.
const PAUSES: u32 = 30;

/// How a stream ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// All of it passed, and its end.
    Whole,
    /// This end gave up: it reset the connection, or was killed.
    Own,
    /// Its end came early, after so many bytes.
    Short(u64),
    /// It broke after so many bytes.
    Broken(u64, ErrorKind),
    /// What must never be.
    Wrong(String),
}

/// Whether this end still wants its connection.
pub(crate) struct Wanted<'a> {
    /// It does not, because it has reset it.
    pub(crate) own: &'a AtomicBool,
    /// It does not, because it was killed.
    pub(crate) killed: &'a AtomicBool,
}

impl Wanted<'_> {
    fn holds(&self) -> bool {
        !self.own.load(SeqCst) && !self.killed.load(SeqCst)
    }
}

/// Counts down the pauses that a stream may have.
struct Pauses(u32);

impl Pauses {
    fn take(&mut self, random: &mut Random) {
        if self.0 > 0 && random.once_in(6) {
            self.0 -= 1;
            thread::sleep(Duration::from_millis(random.between(1, 15)));
        }
    }
}

/// Writes it, and ends it; or resets the connection after so many bytes.
pub(crate) fn write(
    mut socket: &TcpStream,
    stream: &Stream,
    reset_after: Option<u64>,
    wanted: &Wanted<'_>,
    random: &mut Random,
) -> Ended {
    let end = reset_after.unwrap_or(stream.length);
    let (mut at, mut pauses, mut last) = (0, Pauses(PAUSES), Instant::now());
    let mut bytes = vec![0; stream.chunk as usize];
    while at < end {
        let length = random.between(1, stream.chunk + 1).min(end - at) as usize;
        stream.fill(at, &mut bytes[..length]);
        match socket.write(&bytes[..length]) {
            Ok(written) => {
                at += written as u64;
                last = Instant::now();
            }
            Err(error) if is_wait(error.kind()) && last.elapsed() < PATIENCE => {}
            Err(error) if is_wait(error.kind()) => return Ended::Wrong(format!("written {at}, and no more")),
            Err(error) => return Ended::Broken(at, error.kind()),
        }
        if !wanted.holds() {
            return Ended::Own;
        }
        if stream.slow_writer {
            pauses.take(random);
        }
    }
    if reset_after.is_some() {
        let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
        wanted.own.store(true, SeqCst);
        return Ended::Own;
    }
    match socket.shutdown(Shutdown::Write) {
        Ok(()) => Ended::Whole,
        Err(error) => Ended::Broken(at, error.kind()),
    }
}

/// Reads it to its end.
pub(crate) fn read(
    mut socket: &TcpStream,
    stream: &Stream,
    wanted: &Wanted<'_>,
    random: &mut Random,
) -> Ended {
    let (mut at, mut pauses, mut last) = (0, Pauses(PAUSES), Instant::now());
    let stall_at = stream.stall.then(|| random.between(0, stream.length + 1));
    let mut stalled = false;
    let chunk = stream.chunk.max(64) as usize;
    let (mut bytes, mut expected) = (vec![0; chunk], vec![0; chunk]);
    while wanted.holds() {
        if !stalled && stall_at.is_some_and(|stall| at >= stall) {
            stalled = true;
            thread::sleep(Duration::from_millis(random.between(100, 1_000)));
        }
        match socket.read(&mut bytes[..random.between(1, chunk as u64 + 1) as usize]) {
            Ok(0) if at == stream.length => return Ended::Whole,
            Ok(0) => return Ended::Short(at),
            Ok(read) => {
                stream.fill(at, &mut expected[..read]);
                if bytes[..read] != expected[..read] || at + read as u64 > stream.length {
                    return Ended::Wrong(wrong(at, &bytes[..read], &expected[..read]));
                }
                at += read as u64;
                last = Instant::now();
            }
            Err(error) if is_wait(error.kind()) && last.elapsed() < PATIENCE => {}
            Err(error) if is_wait(error.kind()) => return Ended::Wrong(format!("read {at}, and no more")),
            Err(error) => return Ended::Broken(at, error.kind()),
        }
        if stream.slow_reader {
            pauses.take(random);
        }
    }
    Ended::Own
}

/// What is wrong with how both streams of one end ended; `reset` and `killed` say what may have ended them.
pub(crate) fn fault(wrote: &Ended, heard: &Ended, reset: bool, killed: bool) -> Option<String> {
    let broken = |ended: &Ended| matches!(ended, Ended::Broken(..) | Ended::Own);
    let fine = |ended: &Ended, other: &Ended| match ended {
        Ended::Whole => true,
        Ended::Own | Ended::Broken(..) => reset || killed,
        // The kernel tells of a reset once: whoever writes may have heard of it, and who reads meets a mere end.
        Ended::Short(_) => killed || reset && broken(other),
        Ended::Wrong(_) => false,
    };
    let all_is_fine = fine(wrote, heard) && fine(heard, wrote);
    (!all_is_fine).then(|| format!("wrote {wrote:?}, heard {heard:?}"))
}

fn is_wait(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn wrong(at: u64, bytes: &[u8], expected: &[u8]) -> String {
    let first = bytes.iter().zip(expected).position(|(one, other)| one != other);
    match first {
        Some(first) => format!("from {} on the bytes are others", at + first as u64),
        None => format!("more bytes than were sent, from {at} on"),
    }
}
