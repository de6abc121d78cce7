//! UDP through the proxy: a session for each client, which a worker's event loop drives.
//!
//! A datagram's way: [`clients`] receives a batch on a listening socket, finds or opens each client's session in the
//! [`table`], and sends through the session's own socket, connected to its backend: so the kernel tells answers apart
//! and reports ICMP errors. [`answers`] gathers what comes back from all sessions and sends it in batches from the
//! address and port that the client sent to.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

mod answers;
mod batch;
mod clients;
mod counters;
mod session;
mod sys;
mod table;
mod worker;

pub use counters::{Counters, Dropped};
pub(super) use worker::Worker;

use answers::Answers;
use batch::Batch;
use session::Session;
use table::Table;

/// Listening sockets that one worker can have.
const LISTENERS: usize = 1024;

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
    type Id: Copy + PartialEq;

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

    /// A place for a session with the backend that was chosen; `None` if it has just become full.
    fn enter(&mut self, listener: usize, backend: Self::Id) -> Option<Self::Lease>;

    /// So many bytes went to the backend, and so many came from it.
    fn carried(&mut self, listener: usize, backend: Self::Id, sent: u64, received: u64);

    /// The backend could not be reached, as an ICMP error or the system itself says.
    fn failed(&mut self, listener: usize, backend: Self::Id);

    /// The backend has answered a session that it had not answered before.
    fn answered(&mut self, listener: usize, backend: Self::Id);
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
    socket: UdpSocket,
    /// The address it is bound to; `None` if to all, so that every datagram has to say its own.
    bound: Option<Local>,
    /// Some backend has answered some client.
    answered: bool,
}

/// The UDP half of a worker.
pub struct Udp<B: Backends> {
    config: Config,
    registry: Registry,
    /// Listener n has the token `first + n`, session n `first + LISTENERS + n`. A token may outlive its session:
    /// whoever has it next finds nothing to receive, which does no harm.
    first: usize,
    listeners: Vec<Listener>,
    sessions: Table<Session<B::Id, B::Lease>>,
    inbox: Batch,
    /// Session and slot of each datagram in the inbox.
    sorted: Vec<(usize, usize)>,
    answers: Answers,
    /// Tokens of sockets that had more than their turn.
    unfinished: Vec<Token>,
    counters: Counters,
}

impl<B: Backends> Udp<B> {
    /// One without listeners, which takes the tokens from `first` on (all of them) of that registry.
    pub fn new(config: Config, registry: &Registry, first: Token) -> io::Result<Self> {
        Ok(Self {
            config,
            registry: registry.try_clone()?,
            first: first.0,
            listeners: Vec::new(),
            sessions: Table::new(config.max_sessions.max(BATCH)),
            inbox: Batch::new(BATCH),
            sorted: Vec::with_capacity(BATCH),
            answers: Answers::new(BATCH),
            unfinished: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// Takes datagrams from that socket (see [`listen`]); its sessions end when they have been idle for so long.
    /// Returns the listener's number; the first is 0, and they count up.
    pub fn add_listener(&mut self, socket: UdpSocket, idle_timeout: Duration) -> io::Result<usize> {
        if self.listeners.len() == LISTENERS {
            return Err(io::Error::other(format!("more than {LISTENERS} UDP listeners in one worker")));
        }
        let bound = socket.local_addr()?.ip();
        let bound = (!bound.is_unspecified()).then_some(Local { address: bound, interface: 0 });
        let token = Token(self.first + self.listeners.len());
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        self.listeners.push(Listener { socket, bound, answered: false });
        // What came before cannot be relied on to be reported.
        self.unfinished.push(token);
        Ok(self.sessions.add_lane(idle_timeout))
    }

    /// An event of one of its tokens: the socket is readable or has an error.
    pub fn ready(&mut self, token: Token, backends: &mut B, now: Instant) {
        let Some(number) = token.0.checked_sub(self.first) else { return };
        let finished = match number.checked_sub(LISTENERS) {
            None => self.serve_clients(number, backends, now),
            Some(session) => self.serve_backend(session, backends, now),
        };
        if !finished {
            self.unfinished.push(token);
        }
    }

    /// Ends a round of events: sends the answers gathered, goes on with sockets that had more than their turn, ends
    /// idle sessions. Returns when it wants to be called again at the latest; at once if that is not after `now`.
    pub fn finish(&mut self, backends: &mut B, now: Instant) -> Option<Instant> {
        for token in std::mem::take(&mut self.unfinished) {
            self.ready(token, backends, now);
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

    /// Ends the sessions whose backend is not to be kept, such as one that was removed.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, B::Id) -> bool) -> usize {
        self.sessions
            .retain(|key, session| session.link.as_ref().is_none_or(|link| keep(key.lane, link.backend)))
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
/// gives every client to one of them (SO_REUSEPORT on Linux); other systems give them all to one. `::` takes clients
/// of IPv4 as well, but on OpenBSD, which keeps them apart.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    #[cfg(not(target_os = "openbsd"))]
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    #[cfg(not(any(target_os = "solaris", target_os = "illumos")))]
    if shared {
        socket.set_reuse_port(true)?;
    }
    #[cfg(any(target_os = "solaris", target_os = "illumos"))]
    let _ = shared;
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
