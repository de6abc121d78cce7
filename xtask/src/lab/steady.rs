//! DNS questions over UDP at a steady pace that does not wait for answers; each is told by its number, so that it is
//! known how many were lost.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::dns;
use super::namespace::Namespace;

/// From one question to the next; where no answer waits to be read, the kernel rounds it up to its ticks.
const PACE: Duration = Duration::from_millis(2);
/// So many questions without an answer, and no further one is asked: on a machine whose processors are busy, queues of
/// network and server would overflow, whatever came between.
const WINDOW: usize = 8;
/// How long an answer may take before its question counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of the questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions sent.
    pub sent: u64,
    /// Those answered.
    pub answered: u64,
    /// Who answered.
    pub by: BTreeSet<String>,
}

/// A client at work.
pub struct Steady {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Counts>>,
}

impl Steady {
    /// Lets it begin in this namespace, from this address.
    pub fn begin(namespace: &Arc<Namespace>, source: IpAddr, to: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (namespace, stopped) = (Arc::clone(namespace), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            namespace.enter();
            ask(source, to, &stopped)
        });
        Self { stop, thread }
    }

    /// Ends it, once the last answers are there or waited for in vain.
    pub fn stop(self) -> io::Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the client panicked")))
    }
}

fn ask(source: IpAddr, to: SocketAddr, stopped: &AtomicBool) -> io::Result<Counts> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PACE))?;
    let (mut counts, mut waiting, mut last_answer) = (Counts::default(), BTreeSet::new(), Instant::now());
    let mut reply = [0; 512];
    loop {
        let stopped = stopped.load(Ordering::Relaxed);
        if stopped && (waiting.is_empty() || last_answer.elapsed() > PATIENCE) {
            return Ok(counts);
        }
        if !stopped && waiting.len() < WINDOW {
            let id = counts.sent as u16;
            socket.send(&dns::question(id))?;
            counts.sent += 1;
            waiting.insert(id);
            thread::sleep(PACE);
        }
        match socket.recv(&mut reply) {
            Ok(length) => {
                let id = u16::from_be_bytes([reply[0], reply[1]]);
                counts.answered += u64::from(waiting.remove(&id));
                counts.by.extend(dns::text(&reply[..length], dns::question(id).len()));
                last_answer = Instant::now();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
