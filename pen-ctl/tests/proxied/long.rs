//! A connection that stays open and whose every byte is checked, both ways at once.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::place::eventually;
use crate::servers::{connect_from, name};

/// A client that sends a stream to a server that sends it back, until it is told to end.
pub(crate) struct Long {
    /// Whom it came to.
    pub(crate) name: u8,
    stop: Arc<AtomicBool>,
    back: Arc<AtomicU64>,
    writer: JoinHandle<u64>,
    reader: JoinHandle<Result<u64, String>>,
}

/// The byte at that place of the stream.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

impl Long {
    pub(crate) fn begin(source: IpAddr, to: SocketAddr) -> Long {
        let mut stream = connect_from(source, to).unwrap();
        let name = name(&mut stream).unwrap();
        let (stop, back) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut sending = stream.try_clone().unwrap();
        let stopped = stop.clone();
        let writer = thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let part: Vec<u8> = (sent..sent + 5000).map(byte).collect();
                if sending.write_all(&part).is_err() {
                    break;
                }
                sent += 5000;
                thread::sleep(Duration::from_millis(3));
            }
            let _ = sending.shutdown(Shutdown::Write);
            sent
        });
        let counted = back.clone();
        let reader = thread::spawn(move || {
            let (mut buffer, mut got) = ([0; 16384], 0);
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return Ok(got),
                    Ok(read) => {
                        for (byte_at, seen) in (got..).zip(&buffer[..read]) {
                            if byte(byte_at) != *seen {
                                return Err(format!("byte {byte_at} is another"));
                            }
                        }
                        got += read as u64;
                        counted.store(got, Ordering::Relaxed);
                    }
                    Err(error) => return Err(format!("after {got} bytes: {error}")),
                }
            }
        });
        Long { name, stop, back, writer, reader }
    }

    /// Waits until more has come back.
    #[track_caller]
    pub(crate) fn await_more(&self) {
        let before = self.back.load(Ordering::Relaxed);
        eventually("more comes back", || self.back.load(Ordering::Relaxed) > before + 20_000);
    }

    /// Ends it properly: all that was sent came back, then the end of the stream. How many bytes that were.
    #[track_caller]
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.writer.join().unwrap();
        assert_eq!(self.reader.join().unwrap(), Ok(sent));
        sent
    }

    /// Waits until it was ended from the other side.
    #[track_caller]
    pub(crate) fn await_loss(self) {
        eventually("the connection ends", || self.reader.is_finished());
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap();
    }
}
