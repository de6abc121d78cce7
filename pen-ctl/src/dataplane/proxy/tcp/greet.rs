//! Reads whom a client speaks for: a trusted balancer in front of this one says so before anything else.

use mio::Registry;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::Tcp;
use super::session::{Early, Outcome, Phase};
use crate::dataplane::proxy::endpoint::Peer;
use crate::dataplane::proxy::preface::{self, Progress};
use crate::dataplane::proxy::service::State;

impl Tcp {
    /// Waits for a client to say whom it speaks for, for as long as a backend may take to connect.
    pub(super) fn greet(&mut self, registry: &Registry, key: usize, state: &State) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.phase = Phase::Greeting;
        }
        let _ = self.await_attempt(key, state.settings.connect_timeout);
        self.watch_client(registry, key);
    }

    /// Reads what there is of it. A client that says something else, or ends before, is turned away.
    pub(super) fn hear(&mut self, registry: &Registry, key: usize) {
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return };
            let read = match recv(&session.client.socket, &mut *self.kit.scratch, RecvFlags::empty()) {
                Ok((_, 0)) => return self.turn_away(key),
                Ok((_, read)) => read,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => return self.end(key, Outcome::Torn),
            };
            let early = session.early.get_or_insert_with(Box::<Early>::default);
            early.bytes.extend_from_slice(&self.kit.scratch[..read]);
            match preface::read(&early.bytes) {
                Ok(Progress::NeedMore) => {}
                Ok(Progress::Done { preface, length }) => {
                    early.bytes.drain(..length);
                    session.phase = Phase::Waiting;
                    // Who speaks for itself, as to see whether we are there, is trusted to.
                    let Some(preface) = preface else { return self.take(registry, key) };
                    early.destination = Some(preface.destination);
                    session.peer = Peer::from(preface.source);
                    let state = session.service.state();
                    return self.welcome(registry, key, &state);
                }
                Err(error) => {
                    let (service, peer) = (&session.service.name, session.peer.address);
                    tracing::debug!(%service, %peer, "client turned away: {error}");
                    return self.turn_away(key);
                }
            }
        }
    }
}
