//! Backends that are killed and come back. Each check that fails is noted, for the test to show.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::plan::{Plan, Random, Side};
use super::stream::{WAIT, Wanted, fault, read, write};

/// Bytes of a receive buffer that is soon full.
pub(crate) const NARROW: usize = 64 * 1024;

/// What all ends of all connections share.
pub(crate) struct Ground {
    pub(crate) seed: u64,
    /// What must not have happened.
    pub(crate) faults: Mutex<Vec<String>>,
    /// The life of the backend that got a connection.
    pub(crate) seats: Mutex<HashMap<u64, Arc<Life>>>,
    /// When backends were killed.
    pub(crate) kills: Mutex<Vec<Instant>>,
    /// Connections that backends serve now.
    pub(crate) served: AtomicU64,
    /// All is over.
    pub(crate) over: AtomicBool,
}

/// A backend from its start until it is killed.
pub(crate) struct Life {
    pub(crate) killed: AtomicBool,
    /// It dies with resets, where its connections would otherwise end as the kernel sees fit.
    resets: bool,
}

impl Ground {
    pub(crate) fn fault(&self, id: u64, what: &str) {
        self.faults.lock().unwrap().push(format!("connection {id}: {what}; {:?}", Plan::of(self.seed, id)));
    }

    /// Listens, is killed, comes back, until all is over. `alive` backends are there; the last one is spared.
    pub(crate) fn backend(self: &Arc<Ground>, address: SocketAddr, alive: &AtomicU64, number: u64) {
        let mut random = Random::new(self.seed ^ (1_000 + number));
        let mut listener = Some(TcpListener::bind(address).unwrap());
        while !self.over.load(SeqCst) {
            // Somebody else may have the port for a moment.
            let Some(listening) = listener.take().or_else(|| TcpListener::bind(address).ok()) else {
                continue;
            };
            if random.once_in(2) {
                socket2::SockRef::from(&listening).set_recv_buffer_size(NARROW).unwrap();
            }
            let life = Arc::new(Life { killed: AtomicBool::new(false), resets: random.once_in(2) });
            let lasts = Duration::from_millis(random.between(500, 5_000));
            self.live(&listening, &life, lasts, alive);
            drop(listening);
            if !self.over.load(SeqCst) {
                thread::sleep(Duration::from_millis(random.between(20, 600)));
            }
            alive.fetch_add(1, SeqCst);
        }
    }

    /// Takes connections for so long at least, and is killed once another one is there.
    fn live(
        self: &Arc<Ground>,
        listener: &TcpListener,
        life: &Arc<Life>,
        lasts: Duration,
        alive: &AtomicU64,
    ) {
        listener.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let spare = || alive.fetch_update(SeqCst, SeqCst, |alive| (alive > 1).then(|| alive - 1)).is_ok();
        while !self.over.load(SeqCst) && (start.elapsed() < lasts || !spare()) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let (ground, life) = (self.clone(), life.clone());
                    self.served.fetch_add(1, SeqCst);
                    thread::spawn(move || {
                        ground.serve(stream, &life);
                        ground.served.fetch_sub(1, SeqCst);
                    });
                }
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        // Who was not waited for when all is over is not killed: its connections end as they were meant to.
        if !self.over.load(SeqCst) {
            self.kills.lock().unwrap().push(Instant::now());
            life.killed.store(true, SeqCst);
        }
    }

    /// A backend's end of a connection.
    fn serve(&self, stream: TcpStream, life: &Arc<Life>) {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        let Some(id) = self.number(&stream, life) else { return };
        self.seats.lock().unwrap().insert(id, life.clone());
        let plan = Plan::of(self.seed, id);
        let own = AtomicBool::new(false);
        let wanted = Wanted { own: &own, killed: &life.killed };
        let (wrote, heard) = thread::scope(|scope| {
            let writes = scope.spawn(|| {
                let mut random = Random::new(self.seed ^ id ^ 1);
                write(&stream, &plan.down, plan.reset_by(Side::Backend), &wanted, &mut random)
            });
            let heard = read(&stream, &plan.up, &wanted, &mut Random::new(self.seed ^ id ^ 2));
            (writes.join().unwrap(), heard)
        });
        if life.killed.load(SeqCst) {
            if life.resets {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            return;
        }
        if let Some(fault) = fault(&wrote, &heard, plan.reset.is_some(), false) {
            self.fault(id, &format!("at the backend: {fault}"));
        }
    }

    /// What a client says first: which connection it is. `None` if it says nothing.
    fn number(&self, mut stream: &TcpStream, life: &Life) -> Option<u64> {
        let (mut number, mut at) = ([0; 8], 0);
        while at < number.len() && !life.killed.load(SeqCst) {
            match stream.read(&mut number[at..]) {
                Ok(0) => return None,
                Ok(read) => at += read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        (at == number.len()).then(|| u64::from_le_bytes(number))
    }
}
