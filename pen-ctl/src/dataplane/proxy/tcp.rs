//! One worker's TCP sessions: from a client that was accepted, by way of a backend that takes it, to the end of both.
//!
//! In files: [`greet`] (whom the client speaks for) → [`connect`] → [`pump`] (over [`buffers`] and [`splice`]);
//! [`session`] is what all of them work on, [`deadlines`] say what takes too long.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::event::Event;
use mio::unix::SourceFd;
use rustix::io::Errno;
use slab::Slab;

mod buffers;
mod connect;
mod deadlines;
mod greet;
mod pump;
mod session;
#[cfg_attr(not(target_os = "linux"), path = "tcp/no_splice.rs")]
mod splice;
mod unsent;

use super::Shared;
use super::endpoint::Peer;
use super::platform;
use super::pool::Role;
use super::service::{Service, State};
use super::source::Source;
use buffers::Kit;
use deadlines::{Deadline, Deadlines};
use pump::End;
use session::{Outcome, Phase, Session};

/// A worker's sessions.
#[derive(Debug)]
pub(crate) struct Tcp {
    shared: Arc<Shared>,
    /// Whose they are.
    worker: usize,
    sessions: Slab<Session>,
    kit: Kit,
    serials: u32,
    /// When attempts to connect, or to hear whom a client speaks for, have taken too long.
    attempts: Deadlines,
    /// When open sessions have been idle for too long, unless there was something since.
    idle: Deadlines,
    /// Sessions that wait for a descriptor.
    waiting: VecDeque<usize>,
    /// Sessions that wait for room with their backend, each with the number of what it does.
    queued: VecDeque<(usize, u32)>,
    /// When these are tried again: not with every event of somebody else.
    knock_at: Instant,
    /// Sessions with more to do at once.
    unfinished: VecDeque<usize>,
    /// The time of this round of events.
    now: Instant,
}

impl Tcp {
    /// No sessions yet.
    pub(crate) fn new(shared: Arc<Shared>, worker: usize) -> Tcp {
        Tcp {
            shared,
            worker,
            sessions: Slab::new(),
            kit: Kit::default(),
            serials: 0,
            attempts: Deadlines::default(),
            idle: Deadlines::default(),
            waiting: VecDeque::new(),
            queued: VecDeque::new(),
            knock_at: Instant::now(),
            unfinished: VecDeque::new(),
            now: Instant::now(),
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

    /// Whether sessions wait for what only trying again shows: room with a backend.
    pub(crate) fn is_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Whether there is something to do at once.
    pub(crate) fn has_more(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// A round of events begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.now = now;
    }

    /// Takes a client that was accepted, for whom its service has kept a place.
    pub(crate) fn admit(&mut self, registry: &Registry, service: &Arc<Service>, socket: OwnedFd, peer: Peer) {
        let session = Session::new(service.clone(), End::new(socket), peer, self.now);
        let key = self.sessions.insert(session);
        let state = service.state();
        if state.settings.proxy_protocol_from.iter().any(|net| net.contains(&peer.address)) {
            self.greet(registry, key, &state);
        } else {
            self.welcome(registry, key, &state);
        }
    }

    /// Brings a client to a backend, if it may use the service.
    fn welcome(&mut self, registry: &Registry, key: usize, state: &State) {
        let Some(session) = self.sessions.get(key) else { return };
        if state.admits(session.peer) {
            return self.take(registry, key);
        }
        session.service.count(self.worker).denied.add(1);
        self.end(key, Outcome::Torn);
    }

    /// Brings a client that nothing is to be asked of to a backend.
    fn take(&mut self, registry: &Registry, key: usize) {
        if let Some(session) = self.sessions.get(key) {
            session.service.count(self.worker).accepted.add(1);
        }
        self.connect(registry, key);
    }

    /// Takes in what the poll said about an end of a session.
    pub(crate) fn ready(&mut self, registry: &Registry, source: Source, event: &Event) {
        let (Source::Client(key) | Source::Backend(key)) = source else { return };
        // An event may be older than the end of its session: then it is nobody's, or does its successor no harm.
        let Some(session) = self.sessions.get_mut(key) else { return };
        match (&session.phase, source) {
            (Phase::Connecting(..), Source::Backend(_)) => self.settle(registry, key, event),
            (Phase::Greeting, Source::Client(_)) => self.hear(registry, key),
            _ => {
                session.note(source, event);
                session.active = self.now;
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

    /// Gives up what took too long and tries again what waited; returns when there will be more of the first.
    pub(crate) fn expire(&mut self, registry: &Registry) -> Option<Instant> {
        for _ in 0..self.waiting.len() {
            let Some(key) = self.waiting.pop_front() else { break };
            if self.sessions.contains(key) {
                self.connect(registry, key);
            }
        }
        if self.now >= self.knock_at {
            self.knock_at = self.now + KNOCK;
            self.knock_again(registry);
        }
        let sessions = |tcp: &Tcp, key: usize, serial: u32| {
            tcp.sessions.get(key).is_some_and(|session| session.serial == serial && !session.is_open())
        };
        let mut attempts = std::mem::take(&mut self.attempts);
        while let Some(late) = attempts.take(self.now, |one| sessions(self, one.key, one.serial)) {
            self.too_late(registry, late.key);
        }
        attempts.append(&mut self.attempts);
        self.attempts = attempts;
        self.expire_idle();
        self.attempts.next().into_iter().chain(self.idle.next()).min()
    }

    /// Ends sessions with nothing either way for as long as their service wants it.
    fn expire_idle(&mut self) {
        let mut idle = std::mem::take(&mut self.idle);
        while let Some(due) = idle.take(self.now, |one| is_idle_check(&self.sessions, one)) {
            let Some(session) = self.sessions.get_mut(due.key) else { continue };
            session.idle_check = None;
            // Its service may want something else by now.
            let patience = session.service.state().settings.idle_timeout;
            if patience.is_zero() {
                continue;
            }
            let idle_for = self.now.saturating_duration_since(session.active);
            if idle_for >= patience && session.moves() {
                session.active = self.now;
            }
            let rest = patience.saturating_sub(self.now.saturating_duration_since(session.active));
            if rest.is_zero() {
                self.end(due.key, Outcome::Torn);
            } else {
                session.idle_check = idle.set(self.now, look_again(patience, rest), due.key, due.serial);
            }
        }
        // One session at the front must not keep what was noted of all that have come and gone behind it.
        idle.tidy(self.sessions.len(), |one| is_idle_check(&self.sessions, one));
        self.idle = idle;
    }

    /// Takes in what services want of sessions by now.
    pub(crate) fn look(&mut self, registry: &Registry) {
        self.leave_the_down(registry);
        self.end_of_the_down();
        self.look_for_idle();
    }

    /// Has open sessions looked at in time, where their service wants them to end sooner than it did.
    fn look_for_idle(&mut self) {
        for (key, session) in self.sessions.iter_mut().filter(|(_, session)| session.is_open()) {
            let patience = session.service.state().settings.idle_timeout;
            if patience.is_zero() {
                continue;
            }
            let rest = patience.saturating_sub(self.now.saturating_duration_since(session.active));
            let within = look_again(patience, rest);
            let next = self.now.checked_add(within);
            if session.idle_check.is_none_or(|check| next.is_some_and(|next| next < check)) {
                session.idle_check = self.idle.set(self.now, within, key, session.serial);
            }
        }
    }

    /// Ends sessions with backends that are down or gone, where their service wants that.
    fn end_of_the_down(&mut self) {
        let must_end = |session: &Session| {
            let (state, member) = (session.service.state(), session.backend());
            let up = |place: &super::pool::Place| place.role != Role::Out;
            state.settings.close_on_down
                && member.is_some_and(|member| !state.pool.place_of(member).is_some_and(up))
        };
        let gone = self.sessions.iter().filter(|(_, session)| must_end(session)).map(|(key, _)| key);
        for key in gone.collect::<Vec<_>>() {
            self.end(key, Outcome::Torn);
        }
    }

    /// Ends all sessions with a reset.
    pub(crate) fn reset_all(&mut self) {
        for key in self.sessions.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.end(key, Outcome::Torn);
        }
    }

    fn pump(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.pump(&mut self.kit, self.worker) {
            Outcome::Goes(true) if !session.queued => {
                session.queued = true;
                self.unfinished.push_back(key);
            }
            Outcome::Goes(_) => {}
            outcome => self.end(key, outcome),
        }
    }

    /// What was being waited for did not come in time.
    fn too_late(&mut self, registry: &Registry, key: usize) {
        let Some(session) = self.sessions.get(key) else { return };
        match &session.phase {
            Phase::Queued(..) | Phase::Connecting(..) => self.failed(registry, key, &Errno::TIMEDOUT.into()),
            Phase::Greeting => self.turn_away(key),
            Phase::Waiting | Phase::Open(..) => {}
        }
    }

    /// A number for what a session does from now on.
    fn serial(&mut self) -> u32 {
        self.serials = self.serials.wrapping_add(1);
        self.serials
    }

    /// Has the poll watch a client, once.
    fn watch_client(&mut self, registry: &Registry, key: usize) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| !session.watched) else { return };
        session.watched = true;
        let socket = session.client.socket.as_raw_fd();
        let token = Source::Client(key).token();
        if registry.register(&mut SourceFd(&socket), token, platform::WATCHED).is_err() {
            self.end(key, Outcome::Torn);
        }
    }

    /// A client that nobody will have.
    fn turn_away(&mut self, key: usize) {
        if let Some(session) = self.sessions.get(key) {
            let counts = session.service.count(self.worker);
            if matches!(session.phase, Phase::Greeting) {
                counts.accepted.add(1);
            }
            counts.turned_away.add(1);
        }
        self.end(key, Outcome::Torn);
    }

    fn end(&mut self, key: usize, outcome: Outcome) {
        let Some(mut session) = self.sessions.try_remove(key) else { return };
        if let Some(member) = session.backend() {
            member.leave();
        }
        session.service.leave();
        session.release(&mut self.kit);
        if outcome == Outcome::Torn {
            session.reset();
        }
    }
}

/// From one attempt to reach a Unix socket that had no room to the next.
const KNOCK: Duration = Duration::from_millis(5);

/// Whether that is when its session is to be looked at.
fn is_idle_check(sessions: &Slab<Session>, deadline: &Deadline) -> bool {
    sessions
        .get(deadline.key)
        .is_some_and(|session| session.serial == deadline.serial && session.idle_check == Some(deadline.due))
}

/// When to look again at a session that had been idle for a part of its time: in eighths of that, rounded up, so that
/// there are few different ones. Sessions may live so much longer.
fn look_again(patience: Duration, rest: Duration) -> Duration {
    let part = (patience / 8).max(Duration::from_millis(1));
    part * u32::try_from(rest.as_nanos().div_ceil(part.as_nanos())).unwrap_or(8).max(1)
}
