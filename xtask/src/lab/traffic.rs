//! Clients at work: each asks the same questions again and again, and a ledger books who answered.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::namespace::Namespace;

/// Asks once, and gives the name of the backend that answered.
pub type Question = Box<dyn FnMut() -> io::Result<String> + Send>;

/// A question by way of what is kept from one time to the next, such as a connection; opened anew after a failure.
pub fn kept<T: Send + 'static>(
    open: impl Fn() -> io::Result<T> + Send + 'static,
    ask: impl Fn(&mut T) -> io::Result<String> + Send + 'static,
) -> Question {
    let mut kept = None;
    Box::new(move || {
        let mut at_hand = kept.take().map_or_else(&open, Ok)?;
        let who = ask(&mut at_hand)?;
        kept = Some(at_hand);
        Ok(who)
    })
}

/// A question that was not answered.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which of its client's questions it was, counted from 1.
    pub nth: u64,
    /// When it was asked.
    pub asked: Instant,
    /// Why it was not answered.
    pub error: String,
}

/// What came of one client's questions to one service.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Who answered last.
    pub backend: Option<String>,
    /// The last question was not answered.
    pub failing: bool,
    /// Questions answered.
    pub answered: u64,
    /// Questions not answered, in order.
    pub failures: Vec<Failure>,
    /// How often another backend answered than the time before.
    pub moves: u64,
}

impl Record {
    /// Questions asked whose fate is known.
    pub fn asked(&self) -> u64 {
        self.answered + self.failures.len() as u64
    }
}

/// What came of everybody's questions.
pub type Ledger<K> = BTreeMap<K, Record>;

/// Those whom this backend answered last.
pub fn clients_of<K: Ord + Copy>(ledger: &Ledger<K>, backend: &str) -> BTreeSet<K> {
    let theirs = ledger.iter().filter(|(_, record)| record.backend.as_deref() == Some(backend));
    theirs.map(|(key, _)| *key).collect()
}

/// Those who were answered by somebody new between two moments.
pub fn moved<K: Ord + Copy>(before: &Ledger<K>, after: &Ledger<K>) -> BTreeSet<K> {
    let moves = |key| before.get(key).map_or(0, |record| record.moves);
    after.iter().filter(|(key, record)| record.moves > moves(key)).map(|(key, _)| *key).collect()
}

/// The questions that were not answered between two moments, and whose they were.
pub fn failures<K: Ord + Copy>(before: &Ledger<K>, after: &Ledger<K>) -> Vec<(K, Failure)> {
    let known = |key: &K| before.get(key).map_or(0, |record| record.failures.len());
    let new = |(key, record): (&K, &Record)| {
        record.failures[known(key)..].iter().map(|failure| (*key, failure.clone())).collect::<Vec<_>>()
    };
    after.iter().flat_map(new).collect()
}

/// Questions of everybody: answered, and not.
pub fn totals<K>(ledger: &Ledger<K>) -> (u64, u64) {
    let not = ledger.values().map(|record| record.failures.len() as u64).sum();
    (ledger.values().map(|record| record.answered).sum(), not)
}

/// Clients at work; dropping it sends them home.
pub struct Traffic<K> {
    namespace: Arc<Namespace>,
    ledger: Arc<Mutex<Ledger<K>>>,
    clients: Vec<Client<K>>,
}

/// A thread that asks.
struct Client<K> {
    asks_as: Vec<K>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl<K: Ord + Copy + Send + 'static> Traffic<K> {
    /// Nobody yet; whoever begins does so in this namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, ledger: Arc::default(), clients: Vec::new() }
    }

    /// Lets a client begin, who asks these questions in turn, pauses, and asks them again.
    pub fn begin(&mut self, pause: Duration, mut questions: Vec<(K, Question)>) {
        let asks_as: Vec<K> = questions.iter().map(|(key, _)| *key).collect();
        lock(&self.ledger).extend(asks_as.iter().map(|key| (*key, Record::default())));
        let (namespace, ledger) = (Arc::clone(&self.namespace), Arc::clone(&self.ledger));
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            namespace.enter();
            while !stopped.load(Ordering::Relaxed) {
                for (key, question) in &mut questions {
                    let asked = Instant::now();
                    let answer = question();
                    lock(&ledger).entry(*key).or_default().book(asked, answer);
                }
                thread::sleep(pause);
            }
        });
        self.clients.push(Client { asks_as, stop, thread });
    }

    /// Sends home those who ask as any of these, once their last question has come to its end.
    pub fn end(&mut self, whom: &BTreeSet<K>) {
        let (going, staying): (Vec<_>, Vec<_>) =
            self.clients.drain(..).partition(|client| client.asks_as.iter().any(|key| whom.contains(key)));
        self.clients = staying;
        send_home(going);
    }

    /// Those who are at work.
    pub fn asking(&self) -> impl Iterator<Item = K> {
        self.clients.iter().flat_map(|client| client.asks_as.iter().copied())
    }
}

impl<K: Clone> Traffic<K> {
    /// The ledger as it stands.
    pub fn ledger(&self) -> Ledger<K> {
        lock(&self.ledger).clone()
    }

    /// Sends everybody home and gives the ledger as it ends.
    pub fn close(mut self) -> Ledger<K> {
        send_home(self.clients.drain(..).collect());
        self.ledger()
    }
}

impl<K> Drop for Traffic<K> {
    fn drop(&mut self) {
        send_home(self.clients.drain(..).collect());
    }
}

/// Stops them all first, then waits for each.
fn send_home<K>(clients: Vec<Client<K>>) {
    clients.iter().for_each(|client| client.stop.store(true, Ordering::Relaxed));
    for client in clients {
        let _ = client.thread.join();
    }
}

impl Record {
    fn book(&mut self, asked: Instant, answer: io::Result<String>) {
        self.failing = answer.is_err();
        match answer {
            Ok(backend) => {
                self.answered += 1;
                self.moves += u64::from(self.backend.as_ref().is_some_and(|before| *before != backend));
                self.backend = Some(backend);
            }
            Err(error) => {
                let nth = self.asked() + 1;
                self.failures.push(Failure { nth, asked, error: error.to_string() });
            }
        }
    }
}

/// A client that panicked does not make the ledger worthless.
fn lock<K>(ledger: &Mutex<Ledger<K>>) -> MutexGuard<'_, Ledger<K>> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
