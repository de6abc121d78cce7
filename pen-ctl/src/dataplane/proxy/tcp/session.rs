//! One client's connection and the one to its backend, which stand for a single connection between the two.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::buffers::Kit;
use super::pump::{End, Way};
use super::unsent::unsent;
use crate::dataplane::proxy::choose::Excluded;
use crate::dataplane::proxy::endpoint::Peer;
use crate::dataplane::proxy::pool::Member;
use crate::dataplane::proxy::service::{Service, State};
use crate::dataplane::proxy::source::Source;

/// Where a session stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Waits for what is needed to connect.
    Waiting,
    /// Reads whom the client speaks for.
    Greeting,
    /// Waits for room with a backend, of the service as it stood then, that has as many who wait as it may.
    Queued(Arc<Member>, Arc<State>),
    /// Connects to a backend of the service as it stood then.
    Connecting(Arc<Member>, End, Arc<State>),
    /// Both ends are there.
    Open(Arc<Member>, End),
}

/// What a client said, and what is to be said to its backend first.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Bytes of the client that are read already.
    pub(crate) bytes: Vec<u8>,
    /// Where the client says that it came to.
    pub(crate) destination: Option<std::net::SocketAddr>,
}

/// A session; idle, it holds nothing but this.
#[derive(Debug)]
pub(crate) struct Session {
    /// The service that the client came to.
    pub(crate) service: Arc<Service>,
    /// Who the client is.
    pub(crate) peer: Peer,
    /// Tells what this session does now from what it, or one that had its place before, did earlier.
    pub(crate) serial: u32,
    /// When a byte last came from either end, or might have.
    pub(crate) active: Instant,
    /// When it is next looked at whether it has been idle for too long.
    pub(crate) idle_check: Option<Instant>,
    /// What was read before there was a backend.
    pub(crate) early: Option<Box<Early>>,
    /// Backends that this client met in vain.
    pub(crate) excluded: Excluded,
    /// The client's end.
    pub(crate) client: End,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// Whether it is among those that have more to do at once.
    pub(crate) queued: bool,
    /// Whether the poll watches the client already.
    pub(crate) watched: bool,
    up: Way,
    down: Way,
    /// Bytes that its ends had not taken when it was last looked at.
    unsent: usize,
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
    pub(crate) fn new(service: Arc<Service>, client: End, peer: Peer, now: Instant) -> Session {
        Session {
            service,
            peer,
            serial: 0,
            active: now,
            idle_check: None,
            early: None,
            excluded: Excluded::nobody(),
            client,
            phase: Phase::Waiting,
            queued: false,
            watched: false,
            up: Way::default(),
            down: Way::default(),
            unsent: 0,
        }
    }

    /// Takes in what the poll said about one end.
    pub(crate) fn note(&mut self, source: Source, event: &Event) {
        let (end, to) = match (source, &mut self.phase) {
            (Source::Client(_), _) => (&mut self.client, &mut self.down),
            (Source::Backend(_), Phase::Open(_, backend)) => (backend, &mut self.up),
            _ => return,
        };
        let died = event.is_error();
        end.hung_up |= event.is_read_closed() || died;
        end.ends = event.is_read_closed() && !died;
        end.urgent |= event.is_priority();
        end.readable |= event.is_readable() || end.hung_up;
        end.writable |= event.is_writable() || event.is_write_closed() || died;
        to.broken |= died && matches!(rustix::net::sockopt::socket_error(&end.socket), Ok(Err(_)) | Err(_));
    }

    /// Moves bytes both ways and passes on what ended.
    pub(crate) fn pump(&mut self, kit: &mut Kit, worker: usize) -> Outcome {
        let Phase::Open(member, backend) = &mut self.phase else { return Outcome::Goes(false) };
        let counts = member.count(worker);
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
        if let Phase::Connecting(_, backend, _) | Phase::Open(_, backend) = &self.phase {
            abort(backend);
        }
    }

    /// The backend that counts this session.
    pub(crate) fn backend(&self) -> Option<&Arc<Member>> {
        match &self.phase {
            Phase::Waiting | Phase::Greeting => None,
            Phase::Queued(member, _) | Phase::Connecting(member, ..) | Phase::Open(member, _) => Some(member),
        }
    }

    /// Whether both ends are there.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(..))
    }

    /// Whether an end has taken anything since this was last asked, though the poll said nothing.
    pub(crate) fn moves(&mut self) -> bool {
        let Phase::Open(_, backend) = &self.phase else { return false };
        let unsent = unsent(&self.client.socket) + unsent(&backend.socket);
        std::mem::replace(&mut self.unsent, unsent) != unsent
    }

    /// Has these bytes go to the backend before anything else.
    pub(crate) fn send_first(&mut self, bytes: Vec<u8>) {
        self.up.send_first(bytes);
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
