//! Finds a backend that takes a client: the one that is chosen, and when that fails, the next one.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::Registry;
use mio::event::Event;
use mio::unix::SourceFd;
use rustix::io::Errno;
use tracing::{info, warn};

use super::pump::End;
use super::session::{Phase, Session};
use super::{Source, Tcp};
use crate::dataplane::proxy::endpoint::{Peer, canonical};
use crate::dataplane::proxy::limit;
use crate::dataplane::proxy::platform::{self, TELLS_ALL};
use crate::dataplane::proxy::pool::{Member, Role};
use crate::dataplane::proxy::preface::{self, Preface, Transport};
use crate::dataplane::proxy::service::{Service, State};
use crate::dataplane::proxy::transparent;

/// Why no attempt to connect was begun.
enum NotBegun {
    /// What it takes is short: it is tried again.
    Short(io::Error),
    /// A Unix socket with as many who wait to be accepted as may (unix(7)): it is tried again, until that has taken
    /// too long.
    Full,
    /// This host cannot reach the backend for this client, and the backend can do nothing about it.
    NotFor,
    /// The backend's fault.
    Failed(io::Error),
}

impl Tcp {
    /// Begins to connect a session to the backend that is chosen for it; to the next one, where that fails at once.
    pub(super) fn connect(&mut self, registry: &Registry, key: usize) {
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return };
            let state = session.service.state();
            let Some(place) = session.service.choose(&state, session.peer, &session.excluded) else {
                return self.turn_away(key);
            };
            let member = place.member.clone();
            if !place.enter() {
                session.excluded.add(member.id());
                continue;
            }
            let patience = state.settings.connect_timeout;
            let not_begun = match begin(registry, key, &member, &state, session.peer) {
                Ok(socket) => {
                    session.phase = Phase::Connecting(member, End::new(socket), state);
                    self.await_attempt(key, patience);
                    return;
                }
                Err(NotBegun::Full) => {
                    session.phase = Phase::Queued(member, state);
                    let serial = self.await_attempt(key, patience);
                    return self.queued.push_back((key, serial));
                }
                Err(not_begun) => not_begun,
            };
            member.leave();
            match not_begun {
                NotBegun::Short(error) => {
                    self.shared.shortage.met(&error, self.shared.clock.now());
                    self.kit.pipes.close();
                    return self.waiting.push_back(key);
                }
                NotBegun::NotFor | NotBegun::Full => session.excluded.add(member.id()),
                NotBegun::Failed(error) => {
                    session.excluded.add(member.id());
                    blame(&session.service, &state, &member, self.worker, &error);
                    if state.settings.stubborn {
                        return self.turn_away(key);
                    }
                }
            }
        }
    }

    /// Tries again to connect the sessions for which a backend had no room.
    pub(super) fn knock_again(&mut self, registry: &Registry) {
        for _ in 0..self.queued.len() {
            let Some((key, serial)) = self.queued.pop_front() else { return };
            // Others may have its place by now, or the session may be about something else.
            let Some(session) = self.sessions.get_mut(key).filter(|session| session.serial == serial) else {
                continue;
            };
            let Phase::Queued(member, state) = &session.phase else { continue };
            let (member, state) = (member.clone(), state.clone());
            match begin(registry, key, &member, &state, session.peer) {
                Ok(socket) => session.phase = Phase::Connecting(member, End::new(socket), state),
                Err(NotBegun::Full) => self.queued.push_back((key, serial)),
                Err(NotBegun::Failed(error)) => self.failed(registry, key, &error),
                Err(NotBegun::Short(_) | NotBegun::NotFor) => {
                    session.phase = Phase::Waiting;
                    member.leave();
                    self.connect(registry, key);
                }
            }
        }
    }

    /// Has sessions that wait for a backend which is down by now, or gone, turn to another one: it may take long until
    /// they would by themselves. Where nobody serves, that backend is still their best hope.
    pub(super) fn leave_the_down(&mut self, registry: &Registry) {
        let in_vain = |session: &Session| {
            let (Phase::Connecting(member, ..) | Phase::Queued(member, _)) = &session.phase else {
                return false;
            };
            let pool = &session.service.state().pool;
            let is_out = pool.place_of(member).is_none_or(|place| place.role == Role::Out);
            is_out && !pool.tiers().is_empty()
        };
        let keys = self.sessions.iter().filter(|(_, session)| in_vain(session)).map(|(key, _)| key);
        for key in keys.collect::<Vec<_>>() {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if let Phase::Connecting(member, ..) | Phase::Queued(member, _) =
                std::mem::replace(&mut session.phase, Phase::Waiting)
            {
                member.leave();
                self.connect(registry, key);
            }
        }
    }

    /// Notes when what a session does now has taken too long; returns the number of what it does.
    pub(super) fn await_attempt(&mut self, key: usize, patience: std::time::Duration) -> u32 {
        let serial = self.serial();
        self.attempts.set(self.now, patience, key, serial);
        if let Some(session) = self.sessions.get_mut(key) {
            session.serial = serial;
        }
        serial
    }

    /// Finds out what became of an attempt to connect.
    pub(super) fn settle(&mut self, registry: &Registry, key: usize, event: &Event) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Phase::Connecting(_, backend, _) = &session.phase else { return };
        let doubtful = !TELLS_ALL || event.is_error() || event.is_read_closed() || event.is_write_closed();
        if doubtful && let Ok(Err(errno)) | Err(errno) = rustix::net::sockopt::socket_error(&backend.socket) {
            return self.failed(registry, key, &errno.into());
        }
        if !event.is_writable() || doubtful && rustix::net::getpeername(&backend.socket).is_err() {
            return;
        }
        let Phase::Connecting(member, backend, state) = std::mem::replace(&mut session.phase, Phase::Waiting)
        else {
            return;
        };
        if member.succeeded() {
            info!(service = %session.service.name, backend = %member.endpoint(), "backend answers again");
        }
        let counts = member.count(self.worker);
        counts.connections.add(1);
        // It came from the client with the header of the PROXY protocol, which is not counted.
        counts.received.add(session.early.as_ref().map_or(0, |early| early.bytes.len() as u64));
        let words = first_words(session, &state);
        session.send_first(words);
        session.phase = Phase::Open(member, backend);
        session.note(Source::Backend(key), event);
        // It may have sent something while its backend was sought; a first read tells.
        session.client.readable = true;
        session.client.writable = true;
        session.active = self.now;
        let patience = state.settings.idle_timeout;
        if !patience.is_zero() {
            session.idle_check = self.idle.set(self.now, patience, key, session.serial);
        }
        self.pump(key);
        // Watched only now: what is there is read, and whatever comes from here on is told.
        self.watch_client(registry, key);
    }

    /// An attempt to connect failed: counts it against the backend and turns to the next one.
    pub(super) fn failed(&mut self, registry: &Registry, key: usize, error: &io::Error) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (Phase::Connecting(member, _, state) | Phase::Queued(member, state)) =
            std::mem::replace(&mut session.phase, Phase::Waiting)
        else {
            return;
        };
        blame(&session.service, &state, &member, self.worker, error);
        member.leave();
        session.excluded.add(member.id());
        if state.settings.stubborn { self.turn_away(key) } else { self.connect(registry, key) }
    }
}

/// What a backend gets before anything that is read from its client from now on.
fn first_words(session: &mut Session, state: &State) -> Vec<u8> {
    let early = session.early.take().unwrap_or_default();
    let Some(version) = state.settings.proxy_protocol else { return early.bytes };
    let destination = early.destination.or_else(|| {
        let own = rustix::net::getsockname(&session.client.socket).ok();
        own.and_then(|own| std::net::SocketAddr::try_from(own).ok()).map(canonical)
    });
    let source = std::net::SocketAddr::new(session.peer.address, session.peer.port);
    let named = destination.filter(|_| session.peer != Peer::NAMELESS);
    let addresses = named.map(|destination| Preface { source, destination });
    let mut words = Vec::new();
    preface::write(version, Transport::Stream, addresses, &mut words);
    words.extend_from_slice(&early.bytes);
    words
}

/// Begins to connect a session to a backend, as its client where the service is transparent; what becomes of it, the
/// poll tells.
fn begin(
    registry: &Registry,
    key: usize,
    backend: &Member,
    state: &State,
    client: Peer,
) -> Result<OwnedFd, NotBegun> {
    let endpoint = backend.endpoint();
    let socket = platform::stream(endpoint.domain()).map_err(why)?;
    if endpoint.is_inet() {
        socket.set_tcp_nodelay(true).map_err(why)?;
        // A backend that vanished is found even while nothing is sent to it.
        socket.set_keepalive(true).map_err(why)?;
    }
    if state.settings.transparent {
        transparent::bind(&socket, endpoint, client).map_err(|_| NotBegun::NotFor)?;
    }
    match socket.connect(&endpoint.to_socket_address().map_err(why)?) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(why(error)),
        _ => {}
    }
    let token = Source::Backend(key).token();
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, platform::WATCHED).map_err(why)?;
    Ok(socket.into())
}

fn why(error: io::Error) -> NotBegun {
    match error.kind() {
        _ if limit::is_shortage(&error) => NotBegun::Short(error),
        io::ErrorKind::WouldBlock => NotBegun::Full,
        // No local port is free towards this backend.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => NotBegun::NotFor,
        _ => NotBegun::Failed(error),
    }
}

/// Holds a failure against a backend, and says so if it is the first.
fn blame(service: &Service, state: &State, member: &Arc<Member>, worker: usize, error: &io::Error) {
    member.count(worker).failures.add(1);
    if service.failed(state, member, &format!("connect: {error}")) {
        let (backend, out_for) = (member.endpoint(), state.settings.out_for);
        warn!(service = %service.name, %backend, "backend left out for {out_for:?}: connect: {error}");
    }
}
