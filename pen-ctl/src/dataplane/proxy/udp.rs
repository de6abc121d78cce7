//! UDP through the proxy: a session for each client, which a worker's event loop drives.
//!
//! A datagram's way: [`clients`] receives a batch on a listening socket, finds or opens each client's session in the
//! [`table`] (by way of [`named`], where datagrams say whose they are), and sends through the session's own socket, connected to its backend: so the kernel tells answers apart
//! and reports ICMP errors. [`answers`] gathers what comes back from all sessions and sends it in batches from the
//! address and port that the client sent to.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::io::Errno;
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

mod answers;
mod batch;
mod clients;
mod counters;
mod named;
mod pooled;
mod session;
mod sys;
mod table;

pub use counters::{Counters, Dropped};
pub(super) use pooled::Pooled;

use super::platform;
use super::source::Source;
use answers::Answers;
use batch::{Batch, Part};
use session::Session;
use table::Table;

/// Datagrams received from clients before anything else is done. A table holds at least so many sessions.
const BATCH: usize = 64;

/// Batches taken from one socket before the others have their turn.
const TURNS: usize = 4;

/// Sessions ended in one turn, so that clients need not wait for thousands.
const EXPIRED_AT_ONCE: usize = 256;

/// An idle session may live so much longer: the worker need not wake for each by itself.
const EXPIRY_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the receive buffer that a listening socket asks for; the kernel may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Where backends come from.
pub trait Backends {
    /// What names a backend.
    type Id: Clone + PartialEq;

    /// What a session keeps for as long as it has its backend; dropping it gives the place there back.
    type Lease;

    /// The backend for that client of that listener, and its address; none of `excluded`, which have just failed this
    /// client. The client's address is never IPv4-mapped.
    fn choose(
        &mut self,
        listener: usize,
        client: SocketAddr,
        excluded: &[Self::Id],
    ) -> Option<(Self::Id, SocketAddr)>;

    /// Whether a client that has no session may have one.
    fn admits(&mut self, listener: usize, client: SocketAddr) -> bool;

    /// So many datagrams came of clients that may not.
    fn denied(&mut self, listener: usize, datagrams: u64);

    /// A place for a session with the backend that was chosen; `None` if it has just become full.
    fn enter(&mut self, listener: usize, backend: &Self::Id) -> Option<Self::Lease>;

    /// How backends are to be told who the client is.
    fn manner(&mut self, listener: usize) -> Manner;

    /// A client came that had no session.
    fn opened(&mut self, listener: usize);

    /// So many datagrams of a client got no backend.
    fn turned_away(&mut self, listener: usize, datagrams: u64);

    /// So much went to the backend and came from it.
    fn carried(&mut self, listener: usize, backend: &Self::Id, load: Load);

    /// The backend could not be reached, as an ICMP error or the system itself says.
    fn failed(&mut self, listener: usize, backend: &Self::Id, why: Errno);

    /// The backend has answered a session that it had not answered before.
    fn answered(&mut self, listener: usize, backend: &Self::Id);
}

/// How a backend is told who the client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Datagrams come from the client's own address.
    pub transparent: bool,
    /// Each datagram begins with the addresses (PROXY protocol, version 2).
    pub preface: bool,
}

/// What went between a session and its backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Datagrams to the backend.
    pub datagrams: u64,
    /// Bytes to the backend.
    pub sent: u64,
    /// Bytes from the backend.
    pub received: u64,
}

/// How a worker treats UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most sessions at a time; each has a file descriptor and a local port. Beyond that the least recently used one
    /// ends. At least 64.
    pub max_sessions: usize,
    /// Once a backend of a listener has answered anybody, a session leaves the backend that leaves it without an
    /// answer for so long, as soon as its client sends again. `None`: it stays.
    pub answer_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_sessions: 20_000, answer_timeout: Some(Duration::from_secs(5)) }
    }
}

/// The local address that a client sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// Index of the interface, for a link-local address; else 0.
    pub interface: u32,
}

/// A socket that clients send to.
struct Listener {
    socket: Arc<Socket>,
    /// Where clients send to, as far as it is bound to that.
    address: SocketAddr,
    /// The address it is bound to; `None` if to all, so that every datagram has to say its own.
    bound: Option<Local>,
    /// Some backend has answered some client.
    answered: bool,
    /// Senders whose datagrams say whom they speak for.
    speakers: Box<[IpNet]>,
}

/// The UDP half of a worker.
pub struct Udp<B: Backends> {
    config: Config,
    registry: Registry,
    /// By number; each has a lane of that number in the table. A token may outlive its listener or session: whoever has
    /// it next finds nothing to receive, which does no harm.
    listeners: Slab<Listener>,
    sessions: Table<Session<B::Id, B::Lease>>,
    inbox: Batch,
    /// The session of each datagram in the inbox.
    sorted: Vec<(usize, Part)>,
    answers: Answers,
    /// Sockets that had more than their turn.
    unfinished: Vec<Source>,
    counters: Counters,
}

impl<B: Backends> Udp<B> {
    /// One without listeners, which has its sockets watched through that registry.
    pub fn new(config: Config, registry: &Registry) -> io::Result<Self> {
        Ok(Self {
            config,
            registry: registry.try_clone()?,
            listeners: Slab::new(),
            sessions: Table::new(config.max_sessions.max(BATCH)),
            inbox: Batch::new(BATCH),
            sorted: Vec::with_capacity(BATCH),
            answers: Answers::new(BATCH),
            unfinished: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// Takes datagrams from that socket (see [`listen`]); its sessions end when they have been idle for so long.
    /// Returns the listener's number; one that was removed may have had it before.
    pub fn add_listener(&mut self, socket: Arc<Socket>, idle_timeout: Duration) -> io::Result<usize> {
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        let bound = address.ip();
        let bound = (!bound.is_unspecified()).then_some(Local { address: bound, interface: 0 });
        let source = Source::UdpListener(self.listeners.vacant_key());
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), source.token(), Interest::READABLE)?;
        self.listeners.insert(Listener { socket, address, bound, answered: false, speakers: Box::default() });
        // What came before cannot be relied on to be reported.
        self.unfinished.push(source);
        Ok(self.sessions.add_lane(idle_timeout))
    }

    /// Takes nothing any more from that listener's socket, which others may hold; its sessions end.
    pub fn remove_listener(&mut self, listener: usize) {
        let Some(removed) = self.listeners.try_remove(listener) else { return };
        self.flush();
        // Fails only if it is not watched.
        let _ = self.registry.deregister(&mut SourceFd(&removed.socket.as_raw_fd()));
        self.unfinished.retain(|source| *source != Source::UdpListener(listener));
        self.sessions.remove_lane(listener);
    }

    /// From now on sessions of that listener end when they have been idle for so long.
    pub fn set_idle_timeout(&mut self, listener: usize, idle_timeout: Duration) {
        self.sessions.set_idle(listener, idle_timeout);
    }

    /// From now on each datagram that comes to that listener from one of these says whom its sender speaks for, in a
    /// header of the PROXY protocol, or is dropped.
    pub fn set_speakers(&mut self, listener: usize, speakers: &[IpNet]) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.speakers = speakers.into();
        }
    }

    /// Takes nothing new from any listener; what backends answer still passes.
    pub fn stop_listening(&mut self) {
        for (_, listener) in &self.listeners {
            // Fails only if it is not watched (any more).
            let _ = self.registry.deregister(&mut SourceFd(&listener.socket.as_raw_fd()));
        }
        self.unfinished.retain(|source| !matches!(source, Source::UdpListener(_)));
    }

    /// Lets go of all listeners: others may bind to their addresses. Sessions end.
    pub fn close(&mut self) {
        let numbers: Vec<usize> = self.listeners.iter().map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| self.remove_listener(number));
    }

    /// An event of one of its sockets: it is readable or has an error.
    pub fn ready(&mut self, source: Source, backends: &mut B, now: Instant) {
        let finished = match source {
            Source::UdpListener(number) => self.serve_clients(number, backends, now),
            Source::UdpSession(number) => self.serve_backend(number, backends, now),
            Source::Waker | Source::Listener(_) | Source::Client(_) | Source::Backend(_) => true,
        };
        if !finished {
            self.unfinished.push(source);
        }
    }

    /// Ends a round of events: sends the answers gathered, goes on with sockets that had more than their turn, ends
    /// idle sessions. Returns when it wants to be called again at the latest; at once if that is not after `now`.
    pub fn finish(&mut self, backends: &mut B, now: Instant) -> Option<Instant> {
        for source in std::mem::take(&mut self.unfinished) {
            self.ready(source, backends, now);
        }
        self.flush();
        for _ in 0..EXPIRED_AT_ONCE {
            if self.sessions.expire(now).is_none() {
                break;
            }
            self.counters.expired += 1;
        }
        match self.sessions.deadline() {
            _ if !self.unfinished.is_empty() => Some(now),
            Some(due) if due <= now => Some(now),
            due => due.map(|due| due.max(now + EXPIRY_PAUSE)),
        }
    }

    /// Ends the sessions whose backend is not to be kept, such as one that was removed; those that wait for an answer, with
    /// the answer. How many ended at once.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, &B::Id) -> bool, now: Instant) -> usize {
        let patience = self.config.answer_timeout;
        self.sessions.retain(|key, session| {
            let kept = session.link.as_ref().is_none_or(|link| keep(key.lane, &link.backend));
            session.stays(kept, patience, now)
        })
    }

    /// Whether some session waits for an answer.
    pub fn is_awaiting(&self) -> bool {
        self.sessions.iter().any(|session| session.link.as_ref().is_some_and(|link| link.waiting.is_some()))
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What it has done since it was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// A socket for [`Udp::add_listener`]. With `shared`, each worker can have one of the same address and the kernel
/// gives every client to one of them (SO_REUSEPORT on Linux); other systems do not share it. `::` takes clients
/// of IPv4 as well, but on OpenBSD, which keeps them apart.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    platform::choose_families(&socket, address)?;
    if shared {
        platform::share_port(&socket)?;
    }
    // More than the kernel allows is cut or refused; it then stays as it was.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if address.ip().is_unspecified() {
        sys::tell_destination(socket.as_fd(), address.is_ipv6())?;
    }
    // An old kernel delivers every datagram by itself.
    let _ = sys::coalesce(socket.as_fd());
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
