//! One worker's TCP sessions: from a client that was accepted, by way of a backend that takes it, to the end of both.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use slab::Slab;
use socket2::{Socket, Type};
use tracing::{info, warn};

mod buffers;
mod pump;
mod session;
#[cfg(target_os = "linux")]
mod splice;

use super::Shared;
use super::count::Counts;
use super::endpoint::{Endpoint, Peer};
use super::limit;
use super::pool::BackendId;
use buffers::Kit;
use pump::End;
use session::{Outcome, Phase, Session, Side};

/// What both ends are watched for, each change once.
const WATCHED: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// A worker's sessions.
#[derive(Debug)]
pub(crate) struct Tcp {
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    sessions: Slab<Session>,
    kit: Kit,
    /// The token of the first session's client.
    first_token: usize,
    attempts: u32,
    /// When attempts to connect have taken too long: in order, because each may take as long as any other.
    deadlines: VecDeque<(Instant, usize, u32)>,
    /// Sessions that wait for a descriptor, or for room with a Unix socket that listens.
    waiting: VecDeque<usize>,
    /// Sessions with more to do at once.
    unfinished: VecDeque<usize>,
}

impl Tcp {
    /// No sessions yet; their tokens will be `first_token` and above.
    pub(crate) fn new(shared: Arc<Shared>, counts: Arc<Counts>, first_token: usize) -> Tcp {
        Tcp {
            shared,
            counts,
            sessions: Slab::new(),
            kit: Kit::default(),
            first_token,
            attempts: 0,
            deadlines: VecDeque::new(),
            waiting: VecDeque::new(),
            unfinished: VecDeque::new(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether clients wait for what is missing here: no more should be accepted.
    pub(crate) fn is_short(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there is something to do at once.
    pub(crate) fn has_more(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Takes a client that was accepted.
    pub(crate) fn admit(&mut self, registry: &Registry, socket: OwnedFd, peer: Peer) {
        self.counts.accepted.add(1);
        let key = self.sessions.insert(Session::new(End::new(socket), peer));
        self.connect(registry, key);
    }

    /// Takes in what the poll said about a token of a session.
    pub(crate) fn ready(&mut self, registry: &Registry, token: Token, event: &Event) {
        let number = token.0 - self.first_token;
        let (key, side) = (number / 2, if number.is_multiple_of(2) { Side::Client } else { Side::Backend });
        // An event may be older than the end of its session: then it is nobody's, or does its successor no harm.
        let Some(session) = self.sessions.get_mut(key) else { return };
        match (&session.phase, side) {
            (Phase::Connecting(..), Side::Backend) => self.settle(registry, key, event),
            _ => {
                session.note(side, event);
                self.pump(key);
            }
        }
    }

    /// Does what was left to do, once around.
    pub(crate) fn go_on(&mut self) {
        for _ in 0..self.unfinished.len() {
            let Some(key) = self.unfinished.pop_front() else { return };
            // One that ended since may have left its place to another: that one loses nothing.
            if let Some(session) = self.sessions.get_mut(key) {
                session.queued = false;
                self.pump(key);
            }
        }
    }

    /// Gives up attempts that took too long and tries again what waited; returns when there will be more of the first.
    pub(crate) fn expire(&mut self, registry: &Registry, now: Instant) -> Option<Instant> {
        for _ in 0..self.waiting.len() {
            let Some(key) = self.waiting.pop_front() else { break };
            if self.sessions.contains(key) {
                self.connect(registry, key);
            }
        }
        while let Some(&(deadline, key, attempt)) = self.deadlines.front() {
            let connecting = |session: &Session| match session.phase {
                Phase::Connecting(id, _) if session.attempt == attempt => Some(id),
                _ => None,
            };
            match self.sessions.get(key).and_then(connecting) {
                Some(_) if deadline > now => return Some(deadline),
                Some(id) => self.failed(registry, key, id, &Errno::TIMEDOUT.into()),
                None => {}
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Ends all sessions with a reset.
    pub(crate) fn reset_all(&mut self) {
        let keys: Vec<usize> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.end(key, Outcome::Torn);
        }
    }

    /// Begins to connect a session to the backend that is chosen for it; to the next one, where that fails at once.
    fn connect(&mut self, registry: &Registry, key: usize) {
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return };
            let chooser = &self.shared.chooser;
            let Some(id) = chooser.choose(session.peer.address, session.peer.port, &session.excluded) else {
                self.counts.turned_away.add(1);
                return self.end(key, Outcome::Torn);
            };
            if !chooser.pool().enter(id) {
                session.excluded.add(id);
                continue;
            }
            let token = Token(self.first_token + 2 * key + 1);
            match begin(registry, token, &chooser.pool().config(id).endpoint) {
                Ok(socket) => {
                    self.attempts = self.attempts.wrapping_add(1);
                    session.attempt = self.attempts;
                    session.phase = Phase::Connecting(id, End::new(socket));
                    let deadline = Instant::now() + self.shared.connect_timeout;
                    self.deadlines.push_back((deadline, key, session.attempt));
                    return;
                }
                Err(error) if limit::is_shortage(&error) => {
                    chooser.pool().leave(id);
                    self.shared.shortage.met(&error, chooser.now());
                    self.kit.close_pipes();
                    return self.waiting.push_back(key);
                }
                // A Unix socket with too many who wait to be accepted: unix(7).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    chooser.pool().leave(id);
                    return self.waiting.push_back(key);
                }
                // No local port is free towards this backend, which can do nothing about it.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    chooser.pool().leave(id);
                    session.excluded.add(id);
                }
                Err(error) => {
                    chooser.pool().leave(id);
                    session.excluded.add(id);
                    blame(&self.shared, &self.counts, id, &error);
                }
            }
        }
    }

    /// Finds out what became of an attempt to connect.
    fn settle(&mut self, registry: &Registry, key: usize, event: &Event) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Phase::Connecting(id, backend) = &session.phase else { return };
        let id = *id;
        // Linux says what is wrong in the event itself; others may say too early that something has happened.
        let doubtful = !cfg!(target_os = "linux")
            || event.is_error()
            || event.is_read_closed()
            || event.is_write_closed();
        if doubtful && let Ok(Err(errno)) | Err(errno) = rustix::net::sockopt::socket_error(&backend.socket) {
            return self.failed(registry, key, id, &errno.into());
        }
        if !event.is_writable() || doubtful && rustix::net::getpeername(&backend.socket).is_err() {
            return;
        }
        let Phase::Connecting(id, backend) = std::mem::replace(&mut session.phase, Phase::Waiting) else {
            return;
        };
        session.phase = Phase::Open(id, backend);
        session.note(Side::Backend, event);
        // It may have sent something while its backend was sought; a first read tells.
        session.client.readable = true;
        session.client.writable = true;
        let client = session.client.socket.as_raw_fd();
        if self.shared.chooser.pool().succeeded(id) {
            let backend = &self.shared.chooser.pool().config(id).endpoint;
            info!(%backend, "backend answers again");
        }
        if let Some(counts) = self.counts.backends.get(usize::from(id.0)) {
            counts.connections.add(1);
        }
        self.pump(key);
        // Watched only now: what is there is read, and whatever comes from here on is told.
        if self.sessions.contains(key) {
            let token = Token(self.first_token + 2 * key);
            if registry.register(&mut SourceFd(&client), token, WATCHED).is_err() {
                self.end(key, Outcome::Torn);
            }
        }
    }

    /// An attempt to connect failed: counts it against the backend and turns to the next one.
    fn failed(&mut self, registry: &Registry, key: usize, id: BackendId, error: &io::Error) {
        blame(&self.shared, &self.counts, id, error);
        self.shared.chooser.pool().leave(id);
        if let Some(session) = self.sessions.get_mut(key) {
            session.excluded.add(id);
            session.phase = Phase::Waiting;
            self.connect(registry, key);
        }
    }

    fn pump(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.pump(&mut self.kit, &self.counts.backends) {
            Outcome::Goes(true) if !session.queued => {
                session.queued = true;
                self.unfinished.push_back(key);
            }
            Outcome::Goes(_) => {}
            outcome => self.end(key, outcome),
        }
    }

    fn end(&mut self, key: usize, outcome: Outcome) {
        let Some(mut session) = self.sessions.try_remove(key) else { return };
        if let Some(id) = session.backend() {
            self.shared.chooser.pool().leave(id);
        }
        session.release(&mut self.kit);
        if outcome == Outcome::Torn {
            session.reset();
        }
    }
}

/// Begins to connect; what becomes of it, the poll tells.
fn begin(registry: &Registry, token: Token, endpoint: &Endpoint) -> io::Result<OwnedFd> {
    let socket = Socket::new(endpoint.domain(), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if endpoint.is_inet() {
        socket.set_tcp_nodelay(true)?;
    }
    match socket.connect(&endpoint.to_socket_address()?) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => {}
    }
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, WATCHED)?;
    Ok(socket.into())
}

/// Holds a failure against a backend, and says so if it is the first.
fn blame(shared: &Shared, counts: &Counts, id: BackendId, error: &io::Error) {
    if let Some(counts) = counts.backends.get(usize::from(id.0)) {
        counts.failures.add(1);
    }
    let pool = shared.chooser.pool();
    if pool.failed(id, shared.chooser.now()) {
        let backend = &pool.config(id).endpoint;
        warn!(%backend, "backend left out for {:?}: connect: {error}", shared.out_for);
    }
}
