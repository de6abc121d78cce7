//! One client's connection and the one to its backend, which stand for a single connection between the two.

use std::os::fd::AsFd;
use std::time::Duration;

use mio::event::Event;

use super::buffers::Kit;
use super::pump::{End, Way};
use crate::dataplane::proxy::choose::Excluded;
use crate::dataplane::proxy::count::BackendCounts;
use crate::dataplane::proxy::endpoint::Peer;
use crate::dataplane::proxy::pool::BackendId;

/// Which end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who connected to the proxy.
    Client,
    /// Whom the proxy connected to.
    Backend,
}

/// Where a session stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Waits for what is needed to connect.
    Waiting,
    /// Connects to a backend.
    Connecting(BackendId, End),
    /// Both ends are there.
    Open(BackendId, End),
}

/// A session; idle, it holds nothing but this.
#[derive(Debug)]
pub(crate) struct Session {
    /// Who the client is.
    pub(crate) peer: Peer,
    /// Tells this attempt to connect from others, of this session and of those that had its place before.
    pub(crate) attempt: u32,
    /// Backends that this client met in vain.
    pub(crate) excluded: Excluded,
    /// The client's end.
    pub(crate) client: End,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// Whether it is among those that have more to do at once.
    pub(crate) queued: bool,
    up: Way,
    down: Way,
}

// Many thousands of them are idle at once.
const _: () = assert!(size_of::<Session>() <= 256);

/// What is to become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes on; `true`: there is more to do at once.
    Goes(bool),
    /// Both ends have ended.
    Ended,
    /// One end died: the other is to be reset.
    Torn,
}

impl Session {
    /// The session of a client that was just accepted.
    pub(crate) fn new(client: End, peer: Peer) -> Session {
        Session {
            peer,
            attempt: 0,
            excluded: Excluded::nobody(),
            client,
            phase: Phase::Waiting,
            queued: false,
            up: Way::default(),
            down: Way::default(),
        }
    }

    /// Takes in what the poll said about one end.
    pub(crate) fn note(&mut self, side: Side, event: &Event) {
        let (end, to) = match (side, &mut self.phase) {
            (Side::Client, _) => (&mut self.client, &mut self.down),
            (Side::Backend, Phase::Open(_, backend)) => (backend, &mut self.up),
            (Side::Backend, _) => return,
        };
        let died = event.is_error();
        end.hung_up |= event.is_read_closed() || died;
        end.readable |= event.is_readable() || end.hung_up;
        end.writable |= event.is_writable() || event.is_write_closed() || died;
        to.broken |= died && matches!(rustix::net::sockopt::socket_error(&end.socket), Ok(Err(_)) | Err(_));
    }

    /// Moves bytes both ways and passes on what ended.
    pub(crate) fn pump(&mut self, kit: &mut Kit, counts: &[BackendCounts]) -> Outcome {
        let Phase::Open(id, backend) = &mut self.phase else { return Outcome::Goes(false) };
        let Some(counts) = counts.get(usize::from(id.0)) else { return Outcome::Torn };
        let (client, up, down) = (&mut self.client, &mut self.up, &mut self.down);
        let mut more = up.pump(client, backend, kit, &counts.received);
        more |= down.pump(backend, client, kit, &counts.sent);
        if down.broken {
            // What the client sent before it died.
            more |= up.pump(client, backend, kit, &counts.received);
        }
        if is_over(up, down, backend.writable) {
            return Outcome::Torn;
        }
        let (up_ended, down_ended) = (up.ended && up.is_empty(), down.ended && down.is_empty());
        if up_ended && down_ended {
            return Outcome::Ended;
        }
        if up_ended && !up.passed_on {
            up.passed_on = true;
            end_writing(backend);
        }
        if down_ended && !down.passed_on {
            down.passed_on = true;
            end_writing(client);
        }
        Outcome::Goes(more)
    }

    /// Gives back what it borrowed.
    pub(crate) fn release(&mut self, kit: &mut Kit) {
        self.up.release(kit);
        self.down.release(kit);
    }

    /// Makes both ends close with a reset (RFC 9293, 3.5.2), so that no peer takes a broken stream for a whole one.
    pub(crate) fn reset(&self) {
        abort(&self.client);
        if let Phase::Connecting(_, backend) | Phase::Open(_, backend) = &self.phase {
            abort(backend);
        }
    }

    /// The backend that counts this session.
    pub(crate) fn backend(&self) -> Option<BackendId> {
        match &self.phase {
            Phase::Waiting => None,
            Phase::Connecting(id, _) | Phase::Open(id, _) => Some(*id),
        }
    }
}

/// Whether one end has died and nothing that it sent before is left to deliver.
fn is_over(up: &Way, down: &Way, backend_takes: bool) -> bool {
    let delivered = |way: &Way| way.broken || way.ended && way.is_empty();
    up.torn
        || down.torn
        || up.broken && delivered(down)
        // A backend that takes nothing just now is told at once that its client died: it need not take the rest first.
        || down.broken && (delivered(up) || !backend_takes)
}

/// Tells a peer that there is nothing more to come; it may go on sending.
fn end_writing(end: &End) {
    // Fails if the peer has gone meanwhile: reading tells.
    let _ = rustix::net::shutdown(&end.socket, rustix::net::Shutdown::Write);
}

fn abort(end: &End) {
    // Without it (not a TCP socket, or dead already) closing does what can be done.
    let _ = rustix::net::sockopt::set_socket_linger(end.socket.as_fd(), Some(Duration::ZERO));
}
