//! The demo's clients: each asks the web and the DNS service again and again, and books who answered.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(super) use crate::lab::address::Family;
use crate::lab::address::client;
pub(super) use crate::lab::cluster::Kind;
use crate::lab::cluster::{ask, target};
use crate::lab::namespace::Namespace;

/// From one question of a client to the next.
const PAUSE: Duration = Duration::from_millis(40);
/// How long a client waits for an answer: long enough for TCP to send a lost segment again on a busy machine.
const PATIENCE: Duration = Duration::from_secs(4);

/// A client of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) family: Family,
    pub(super) kind: Kind,
    pub(super) client: u8,
}

/// What a client saw of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// Who answered last.
    pub(super) backend: Option<String>,
    /// The last question was not answered.
    pub(super) failing: bool,
    /// Why the last one that was not answered was not.
    pub(super) error: String,
    /// Questions answered.
    pub(super) answered: u64,
    /// Questions not answered.
    pub(super) failed: u64,
    /// How often another backend answered than the time before.
    pub(super) moves: u64,
}

/// What every client saw.
pub(super) type Ledger = BTreeMap<Key, Record>;

/// Clients at work; dropping it sends them home.
pub(super) struct Traffic {
    namespace: Arc<Namespace>,
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub(super) fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, ledger: Arc::default(), stop: Arc::default(), clients: Vec::new() }
    }

    /// Lets these clients begin, with both families.
    pub(super) fn begin(&mut self, clients: std::ops::RangeInclusive<u8>) {
        for (number, family) in clients.flat_map(|n| Family::BOTH.map(|family| (n, family))) {
            let (namespace, ledger, stop) =
                (Arc::clone(&self.namespace), Arc::clone(&self.ledger), Arc::clone(&self.stop));
            for kind in Kind::BOTH {
                lock(&ledger).insert(Key { family, kind, client: number }, Record::default());
            }
            self.clients.push(thread::spawn(move || {
                namespace.enter();
                while !stop.load(Ordering::Relaxed) {
                    for kind in Kind::BOTH {
                        let answer = ask(kind, client(family, number), target(kind, family), PATIENCE);
                        book(&ledger, Key { family, kind, client: number }, answer);
                    }
                    thread::sleep(PAUSE);
                }
            }));
        }
    }

    /// The ledger as it stands.
    pub(super) fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    /// Sends the clients home and gives the ledger as it ends.
    pub(super) fn end(mut self) -> Ledger {
        self.stop();
        self.ledger()
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop();
    }
}

fn book(ledger: &Mutex<Ledger>, key: Key, answer: io::Result<String>) {
    let mut ledger = lock(ledger);
    let record = ledger.entry(key).or_default();
    record.failing = answer.is_err();
    let backend = match answer {
        Ok(backend) => backend,
        Err(error) => {
            record.failed += 1;
            record.error = error.to_string();
            return;
        }
    };
    record.answered += 1;
    if record.backend.as_ref().is_some_and(|before| *before != backend) {
        record.moves += 1;
    }
    record.backend = Some(backend);
}

/// A client that panicked does not make the ledger worthless.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
