//! From clients to backends: finds or opens the session, sends, and moves it to another backend when one fails.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::batch::{joined, send_all};
use super::counters::Trouble;
use super::session::{Link, Session};
use super::sys::{self, CHUNK, Outgoing};
use super::table::Key;
use super::{BATCH, Backends, LISTENERS, Listener, TURNS, Udp};

impl<B: Backends> Udp<B> {
    /// Takes what clients sent to that listener; false if there may be more.
    pub(super) fn serve_clients(&mut self, listener: usize, backends: &mut B, now: Instant) -> bool {
        for _ in 0..TURNS {
            let (count, drained) = self.receive(listener);
            self.sort(listener, count, now);
            let sorted = std::mem::take(&mut self.sorted);
            for run in sorted.chunk_by(|one, next| one.0 == next.0) {
                self.deliver(run[0].0, run, backends, now);
            }
            self.sorted = sorted;
            if drained {
                return true;
            }
        }
        false
    }

    /// Fills the inbox; returns how many datagrams came and whether they were all there are.
    fn receive(&mut self, listener: usize) -> (usize, bool) {
        let Some(Listener { socket, .. }) = self.listeners.get(listener) else { return (0, true) };
        let mut count = 0;
        while count < BATCH {
            let received = self.inbox.receive(socket.as_fd(), count, CHUNK, false);
            count += received.count;
            if received.drained || received.error.is_some() {
                return (count, true);
            }
        }
        (count, false)
    }

    /// Finds or opens the session of each datagram in the inbox and brings those of one session together, in the
    /// order in which they came.
    fn sort(&mut self, listener: usize, count: usize, now: Instant) {
        self.sorted.clear();
        let bound = self.listeners.get(listener).and_then(|listener| listener.bound);
        for slot in 0..count {
            let arrived = self.inbox.arrived(slot);
            let datagrams = joined(arrived.length, arrived.segment);
            self.counters.received += datagrams;
            let (false, Some(client), Some(local)) = (arrived.truncated, arrived.from, bound.or(arrived.to))
            else {
                self.counters.dropped.truncated += datagrams;
                continue;
            };
            let key = Key { lane: listener, client, local };
            let number = self.sessions.find(&key, now).unwrap_or_else(|| {
                let (number, evicted) = self.sessions.insert(key, Session::new(), now);
                self.counters.opened += 1;
                self.counters.evicted += u64::from(evicted.is_some());
                number
            });
            self.sorted.push((number, slot));
        }
        self.sorted.sort_by_key(|(number, _)| *number);
    }

    /// Sends datagrams of one session to its backend, and if that fails, what did not go to the next one.
    fn deliver(&mut self, number: usize, mut rest: &[(usize, usize)], backends: &mut B, now: Instant) {
        self.leave_silent(number, now);
        let mut fresh = true;
        loop {
            if let Err(trouble) = self.place(number, fresh, backends, now) {
                self.counters.dropped.unplaced(trouble, self.datagrams(rest));
                return;
            }
            fresh = false;
            let Some((key, session)) = self.sessions.get_mut(number) else { return };
            let Some(link) = &mut session.link else { return };
            let (inbox, dropped) = (&self.inbox, &mut self.counters.dropped);
            let mut failed = false;
            let outgoing = rest.iter().map(|&(_, slot)| inbox.outgoing(slot, None, None));
            let (sent, done) = send_all(link.fd(), outgoing, |trouble, datagrams| {
                failed = trouble == Trouble::Unreachable;
                if !failed {
                    dropped.unsent(trouble, datagrams);
                }
                !failed
            });
            self.counters.forwarded += sent;
            link.waiting.get_or_insert(now);
            let (gone, left) = rest.split_at(done);
            let bytes = gone.iter().map(|&(_, slot)| inbox.arrived(slot).length as u64).sum();
            backends.carried(key.lane, link.backend, bytes, 0);
            for &(_, slot) in gone.iter().filter(|(_, slot)| inbox.arrived(*slot).segment == 0) {
                session.held.push(inbox.outgoing(slot, None, None).contents);
            }
            rest = left;
            if !failed {
                return;
            }
            self.fail(number, backends);
        }
    }

    /// A backend that answers others but not this client is left; what it did not answer is lost.
    fn leave_silent(&mut self, number: usize, now: Instant) {
        let Some(patience) = self.config.answer_timeout else { return };
        let Some((key, session)) = self.sessions.get_mut(number) else { return };
        if self.listeners[key.lane].answered && session.is_silent(patience, now) {
            session.give_up();
            session.held.clear();
            self.counters.silent += 1;
        }
    }

    /// The session's backend failed: it counts at once, and the session is without one.
    pub(super) fn fail(&mut self, number: usize, backends: &mut B) {
        let Some((key, session)) = self.sessions.get_mut(number) else { return };
        if let Some(backend) = session.give_up() {
            self.counters.failures += 1;
            backends.failed(key.lane, backend);
        }
    }

    /// Sees to it that the session has a backend, one that has not failed it since the last answer, and sends that
    /// what the failed one did not answer. With `fresh`, those that failed it before have another chance if nobody
    /// else is left.
    pub(super) fn place(
        &mut self,
        number: usize,
        mut fresh: bool,
        backends: &mut B,
        now: Instant,
    ) -> Result<(), Trouble> {
        loop {
            // Gone: it had to give way to another one that needed its descriptor.
            let Some((key, session)) = self.sessions.get_mut(number) else {
                return Err(Trouble::Descriptors);
            };
            if session.link.is_some() {
                return Ok(());
            }
            let client = SocketAddr::new(key.client.ip().to_canonical(), key.client.port());
            let choice = backends.choose(key.lane, client, &session.tried);
            let Some((backend, address)) = choice.filter(|(backend, _)| !session.tried.contains(backend))
            else {
                session.held.clear();
                if !fresh || session.tried.is_empty() {
                    return Err(Trouble::Unreachable);
                }
                session.tried.clear();
                fresh = false;
                continue;
            };
            let Some(lease) = backends.enter(key.lane, backend) else {
                session.tried.push(backend);
                continue;
            };
            let trouble = match self.connect(number, (backend, lease), address) {
                Ok(()) if self.resend(number, backends, now) => return Ok(()),
                Ok(()) => Trouble::Unreachable,
                Err(error) => Trouble::from(&error),
            };
            match trouble {
                Trouble::Memory => return Err(trouble),
                Trouble::Descriptors | Trouble::Again => {
                    self.sessions.evict(Some(number)).ok_or(trouble)?;
                    self.counters.evicted += 1;
                }
                Trouble::Unreachable | Trouble::TooBig | Trouble::Other => {
                    self.refuse(number, backend, backends)
                }
            }
        }
    }

    /// That backend could not even be sent to.
    fn refuse(&mut self, number: usize, backend: B::Id, backends: &mut B) {
        let Some((key, session)) = self.sessions.get_mut(number) else { return };
        session.link = None;
        session.tried.push(backend);
        self.counters.failures += 1;
        backends.failed(key.lane, backend);
    }

    fn connect(
        &mut self,
        number: usize,
        (backend, lease): (B::Id, B::Lease),
        address: SocketAddr,
    ) -> io::Result<()> {
        let socket = connected(address)?;
        let token = Token(self.first + LISTENERS + number);
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        if let Some((_, session)) = self.sessions.get_mut(number) {
            session.link = Some(Link { socket, backend, waiting: None, answered: false, _lease: lease });
        }
        Ok(())
    }

    /// Sends what is held to the session's new backend; false if that cannot be reached.
    fn resend(&mut self, number: usize, backends: &mut B, now: Instant) -> bool {
        let Some((key, session)) = self.sessions.get_mut(number) else { return true };
        let Some(link) = &mut session.link else { return true };
        let dropped = &mut self.counters.dropped;
        let mut reachable = true;
        let held =
            session.held.iter().map(|contents| Outgoing { contents, segment: 0, to: None, from: None });
        let (sent, done) = send_all(link.fd(), held.clone(), |trouble, datagrams| {
            reachable = trouble != Trouble::Unreachable;
            if reachable {
                dropped.unsent(trouble, datagrams);
            }
            reachable
        });
        if sent > 0 {
            link.waiting = Some(now);
            let bytes = held.take(done).map(|outgoing| outgoing.contents.len() as u64).sum();
            backends.carried(key.lane, link.backend, bytes, 0);
        }
        self.counters.forwarded += sent;
        self.counters.resent += sent;
        reachable
    }

    fn datagrams(&self, sorted: &[(usize, usize)]) -> u64 {
        let arrived = sorted.iter().map(|&(_, slot)| self.inbox.arrived(slot));
        arrived.map(|arrived| joined(arrived.length, arrived.segment)).sum()
    }
}

/// A socket that sends to, and hears of, that backend alone. No call on it waits: each says so itself.
fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // An old kernel delivers every datagram by itself.
    let _ = sys::coalesce(socket.as_fd());
    socket.connect(&address.into())?;
    Ok(socket.into())
}
