//! From backends to clients: gathers the answers of all sessions, sends them in batches.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use super::batch::{Batch, joined, send_all};
use super::counters::Trouble;
use super::{Backends, Load, Local, TURNS, Udp};

/// Answers of one session taken before the others have their turn.
const ANSWERS: usize = 16;

/// Answers that wait for the end of the round.
pub(super) struct Answers {
    batch: Batch,
    /// Where the answer in each slot that is used goes.
    ways: Vec<Way>,
}

/// The way back to a client.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    listener: usize,
    client: SocketAddr,
    /// The address to send from, if the listener's socket is not bound to it.
    from: Option<Local>,
    /// It arrived cut and is not sent.
    truncated: bool,
}

impl Answers {
    /// Room for so many.
    pub(super) fn new(slots: usize) -> Self {
        Self { batch: Batch::new(slots), ways: Vec::with_capacity(slots) }
    }

    fn is_full(&self) -> bool {
        self.ways.len() == self.batch.len()
    }
}

impl<B: Backends> Udp<B> {
    /// Takes what a session's backend answered, and the errors it met; false if there may be more.
    pub(super) fn serve_backend(&mut self, number: usize, backends: &mut B, now: Instant) -> bool {
        let (mut finished, mut failed) = (false, None);
        for _ in 0..TURNS {
            if self.answers.is_full() {
                self.flush();
            }
            match self.take_answers(number, backends, now) {
                Taken::All => finished = true,
                Taken::Some => continue,
                // Answers that came before the error are behind it.
                Taken::Error(Trouble::Unreachable(why)) => {
                    failed = Some(why);
                    continue;
                }
                Taken::Error(_) => finished = true,
            }
            break;
        }
        if let Some(why) = failed {
            self.fail(number, why, backends);
            self.send_held_elsewhere(number, backends, now);
            return true;
        }
        finished
    }

    fn take_answers(&mut self, number: usize, backends: &mut B, now: Instant) -> Taken {
        let Some((key, session)) = self.sessions.get_mut(number) else { return Taken::All };
        let Some(link) = &session.link else { return Taken::All };
        let (backend, Answers { batch, ways }) = (link.backend.clone(), &mut self.answers);
        let received = batch.receive(link.fd(), ways.len(), ANSWERS, true);
        let listener = &mut self.listeners[key.lane];
        let mut bytes = 0;
        let from = if listener.bound.is_some() { None } else { Some(key.local) };
        for slot in ways.len()..ways.len() + received.count {
            let arrived = batch.arrived(slot);
            let truncated = arrived.truncated;
            let datagrams = joined(arrived.length, arrived.segment);
            self.counters.answers += datagrams;
            bytes += arrived.length as u64;
            self.counters.dropped.truncated += if truncated { datagrams } else { 0 };
            ways.push(Way { listener: key.lane, client: key.client, from, truncated });
        }
        if received.count > 0 {
            listener.answered = true;
            backends.carried(key.lane, &backend, Load { received: bytes, ..Load::default() });
            if session.answered() {
                backends.answered(key.lane, &backend);
            }
            if session.is_leaving() {
                self.sessions.remove(number);
                return Taken::All;
            }
            self.sessions.touch(number, now);
        }
        match received.error {
            Some(error) => Taken::Error(Trouble::from(&error)),
            None if received.drained => Taken::All,
            None => Taken::Some,
        }
    }

    /// What the failed backend did not answer goes to another one at once; the client need not ask again.
    fn send_held_elsewhere(&mut self, number: usize, backends: &mut B, now: Instant) {
        let Some((_, session)) = self.sessions.get(number) else { return };
        let held = session.held.iter().count() as u64;
        if held > 0
            && let Err(trouble) = self.place(number, false, backends, now)
        {
            self.lost(number, trouble, held, backends);
        }
    }

    /// Sends the answers gathered so far.
    pub(super) fn flush(&mut self) {
        let Answers { batch, ways } = &mut self.answers;
        let dropped = &mut self.counters.dropped;
        let mut first = 0;
        for run in ways.chunk_by(|one, next| one.listener == next.listener) {
            let slots = (first..first + run.len()).zip(run).filter(|(_, way)| !way.truncated);
            let outgoing = slots.map(|(slot, way)| batch.outgoing(slot, Some(way.client), way.from));
            let socket = self.listeners[run[0].listener].socket.as_fd();
            let (sent, _) = send_all(socket, outgoing, |trouble, datagrams| {
                dropped.unsent(trouble, datagrams);
                true
            });
            self.counters.answered += sent;
            first += run.len();
        }
        ways.clear();
    }
}

/// What there was to take.
enum Taken {
    /// All there is.
    All,
    /// There may be more.
    Some,
    /// An error that an earlier datagram met.
    Error(Trouble),
}
