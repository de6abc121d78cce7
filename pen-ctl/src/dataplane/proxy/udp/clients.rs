//! From clients to backends: finds or opens the session, sends, and moves it to another backend when one fails.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use mio::Interest;
use mio::unix::SourceFd;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::batch::{Part, send_all};
use super::counters::Trouble;
use super::session::{Link, Session};
use super::sys::{self, CHUNK, Outgoing};
use super::table::Key;
use super::{BATCH, Backends, Listener, Load, Manner, Source, TURNS, Udp};
use crate::dataplane::proxy::endpoint::{Endpoint, Peer, canonical};
use crate::dataplane::proxy::preface::{self, Preface, Transport, Version};
use crate::dataplane::proxy::transparent;

impl<B: Backends> Udp<B> {
    /// Takes what clients sent to that listener; false if there may be more.
    pub(super) fn serve_clients(&mut self, listener: usize, backends: &mut B, now: Instant) -> bool {
        for _ in 0..TURNS {
            let (count, drained) = self.receive(listener);
            self.sort(listener, count, backends, now);
            self.deliver_sorted(backends, now);
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

    /// Finds or opens the session of each datagram in the inbox.
    fn sort(&mut self, listener: usize, count: usize, backends: &mut B, now: Instant) {
        let found = self.listeners.get(listener);
        let bound = found.and_then(|listener| listener.bound);
        let some_speak = found.is_some_and(|listener| !listener.speakers.is_empty());
        for slot in 0..count {
            let (arrived, part) = (self.inbox.arrived(slot), self.inbox.whole(slot));
            self.counters.received += part.datagrams();
            let (false, Some(client), Some(local)) = (arrived.truncated, arrived.from, bound.or(arrived.to))
            else {
                self.counters.dropped.truncated += part.datagrams();
                continue;
            };
            let key = Key { lane: listener, client, local, named: None };
            if some_speak && self.speaks_for_others(&key) {
                self.sort_named(key, part, backends, now);
            } else {
                self.sort_one(key, part, backends, now);
            }
        }
    }

    /// Finds or opens the session of what one client sent.
    pub(super) fn sort_one(&mut self, key: Key, part: Part, backends: &mut B, now: Instant) {
        let number = match self.sessions.find(&key, now) {
            Some(number) => number,
            // Nothing is kept of who may not: a flood of such must not drive out who may.
            None if !self.may(&key, backends) => {
                self.counters.dropped.denied += part.datagrams();
                return backends.denied(key.lane, part.datagrams());
            }
            None => self.open(key, backends, now),
        };
        self.sorted.push((number, part));
    }

    /// Whether a client may have a session. A sender that is to say whom it speaks for, and speaks for itself, is trusted
    /// to.
    fn may(&self, key: &Key, backends: &mut B) -> bool {
        let for_itself = key.named.is_none() && self.speaks_for_others(key);
        for_itself || backends.admits(key.lane, key.who())
    }

    /// Brings the datagrams of each session to its backend, in the order in which they came.
    pub(super) fn deliver_sorted(&mut self, backends: &mut B, now: Instant) {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.sort_by_key(|(number, _)| *number);
        for run in sorted.chunk_by(|one, next| one.0 == next.0) {
            self.deliver(run[0].0, run, backends, now);
        }
        sorted.clear();
        self.sorted = sorted;
    }

    /// A session for a client that has none.
    fn open(&mut self, key: Key, backends: &mut B, now: Instant) -> usize {
        let mut preface = Vec::new();
        if backends.manner(key.lane).preface {
            let port = self.listeners.get(key.lane).map_or(0, |listener| listener.address.port());
            let to = canonical(SocketAddr::new(key.local.address, port));
            let addresses = key.named.unwrap_or(Preface { source: key.who(), destination: to });
            preface::write(Version::V2, Transport::Datagram, Some(addresses), &mut preface);
        }
        let (number, evicted) = self.sessions.insert(key, Session::new(preface.into()), now);
        backends.opened(key.lane);
        self.counters.opened += 1;
        self.counters.evicted += u64::from(evicted.is_some());
        number
    }

    /// Sends datagrams of one session to its backend, and if that fails, what did not go to the next one.
    fn deliver(&mut self, number: usize, mut rest: &[(usize, Part)], backends: &mut B, now: Instant) {
        self.leave_silent(number, now);
        self.leave_leaving(number);
        let mut fresh = true;
        loop {
            if let Err(trouble) = self.place(number, fresh, backends, now) {
                let datagrams = rest.iter().map(|(_, part)| part.datagrams()).sum();
                return self.lost(number, trouble, datagrams, backends);
            }
            fresh = false;
            let Some((key, session)) = self.sessions.get_mut(number) else { return };
            let Some(link) = &mut session.link else { return };
            let (inbox, dropped) = (&self.inbox, &mut self.counters.dropped);
            let mut failed = None;
            let before = &*session.preface;
            let outgoing = rest.iter().map(|&(_, part)| {
                let (contents, segment) = (inbox.contents(part), part.segment);
                Outgoing { before, contents, segment, to: None, from: None }
            });
            let (sent, done) = send_all(link.fd(), outgoing, |trouble, datagrams| {
                match trouble {
                    Trouble::Unreachable(why) => failed = Some(why),
                    other => dropped.unsent(other, datagrams),
                }
                failed.is_none()
            });
            self.counters.forwarded += sent;
            link.waiting.get_or_insert(now);
            let (gone, left) = rest.split_at(done);
            let bytes = gone.iter().map(|(_, part)| part.length as u64).sum();
            backends.carried(key.lane, &link.backend, Load { datagrams: sent, sent: bytes, received: 0 });
            for &(_, part) in gone.iter().filter(|(_, part)| part.segment == 0) {
                session.held.push(inbox.contents(part));
            }
            rest = left;
            let Some(why) = failed else { return };
            self.fail(number, why, backends);
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

    /// A backend that is down or gone is asked nothing more.
    fn leave_leaving(&mut self, number: usize) {
        let Some((_, session)) = self.sessions.get_mut(number) else { return };
        if session.is_leaving() {
            session.link = None;
            session.held.clear();
        }
    }

    /// The session's backend failed: it counts at once, and the session is without one.
    pub(super) fn fail(&mut self, number: usize, why: Errno, backends: &mut B) {
        let Some((key, session)) = self.sessions.get_mut(number) else { return };
        if let Some(backend) = session.give_up() {
            self.counters.failures += 1;
            backends.failed(key.lane, &backend, why);
        }
    }

    /// Counts datagrams of a session that got no backend.
    pub(super) fn lost(&mut self, number: usize, trouble: Trouble, datagrams: u64, backends: &mut B) {
        self.counters.dropped.unplaced(trouble, datagrams);
        if let Some((key, _)) = self.sessions.get(number) {
            backends.turned_away(key.lane, datagrams);
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
            let choice = backends.choose(key.lane, key.who(), &session.tried);
            let Some((backend, address)) = choice.filter(|(backend, _)| !session.tried.contains(backend))
            else {
                session.held.clear();
                if !fresh || session.tried.is_empty() {
                    return Err(Trouble::Nobody);
                }
                session.tried.clear();
                fresh = false;
                continue;
            };
            let Some(lease) = backends.enter(key.lane, &backend) else {
                session.tried.push(backend);
                continue;
            };
            let manner = backends.manner(key.lane);
            let connected = self.connect(number, (backend.clone(), lease), address, manner);
            let Err(trouble) = connected.and_then(|()| self.resend(number, backends, now)) else {
                return Ok(());
            };
            match trouble {
                Trouble::Memory => return Err(trouble),
                Trouble::Descriptors | Trouble::Again => {
                    self.sessions.evict(Some(number)).ok_or(trouble)?;
                    self.counters.evicted += 1;
                }
                Trouble::Unreachable(why) | Trouble::Other(why) => {
                    self.refuse(number, &backend, why, backends)
                }
                Trouble::TooBig => self.refuse(number, &backend, Errno::MSGSIZE, backends),
                Trouble::NotFor | Trouble::Nobody => {
                    if let Some((_, session)) = self.sessions.get_mut(number) {
                        session.tried.push(backend);
                    }
                }
            }
        }
    }

    /// That backend could not even be sent to.
    fn refuse(&mut self, number: usize, backend: &B::Id, why: Errno, backends: &mut B) {
        let Some((key, session)) = self.sessions.get_mut(number) else { return };
        session.link = None;
        session.tried.push(backend.clone());
        self.counters.failures += 1;
        backends.failed(key.lane, backend, why);
    }

    fn connect(
        &mut self,
        number: usize,
        (backend, lease): (B::Id, B::Lease),
        address: SocketAddr,
        manner: Manner,
    ) -> Result<(), Trouble> {
        let client = self.sessions.get(number).map(|(key, _)| key.who());
        let socket = connected(address, client.filter(|_| manner.transparent))?;
        let token = Source::UdpSession(number).token();
        let registered =
            self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE);
        registered.map_err(trouble)?;
        if let Some((_, session)) = self.sessions.get_mut(number) {
            session.link =
                Some(Link { socket, backend, waiting: None, answered: false, leaving: false, _lease: lease });
        }
        Ok(())
    }

    /// Sends what is held to the session's new backend, if that can be reached.
    fn resend(&mut self, number: usize, backends: &mut B, now: Instant) -> Result<(), Trouble> {
        let Some((key, session)) = self.sessions.get_mut(number) else { return Ok(()) };
        let Some(link) = &mut session.link else { return Ok(()) };
        let (dropped, before) = (&mut self.counters.dropped, &*session.preface);
        let mut reached = Ok(());
        let held = session.held.iter().map(|contents| Outgoing {
            before,
            contents,
            segment: 0,
            to: None,
            from: None,
        });
        let (sent, done) = send_all(link.fd(), held.clone(), |trouble, datagrams| {
            match trouble {
                Trouble::Unreachable(_) => reached = Err(trouble),
                other => dropped.unsent(other, datagrams),
            }
            reached.is_ok()
        });
        if sent > 0 {
            link.waiting = Some(now);
            let bytes = held.take(done).map(|outgoing| outgoing.contents.len() as u64).sum();
            backends.carried(key.lane, &link.backend, Load { datagrams: sent, sent: bytes, received: 0 });
        }
        self.counters.forwarded += sent;
        self.counters.resent += sent;
        reached
    }
}

/// A socket that sends to, and hears of, that backend alone, as that client where one is given. No call on it waits:
/// each says so itself.
fn connected(address: SocketAddr, client: Option<SocketAddr>) -> Result<UdpSocket, Trouble> {
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(trouble)?;
    // An old kernel delivers every datagram by itself.
    let _ = sys::coalesce(socket.as_fd());
    if let Some(client) = client {
        let bound = transparent::bind(&socket, &Endpoint::Inet(address), Peer::from(client));
        bound.map_err(|_| Trouble::NotFor)?;
    }
    socket.connect(&address.into()).map_err(trouble)?;
    Ok(socket.into())
}

fn trouble(error: io::Error) -> Trouble {
    Trouble::from(&error)
}
