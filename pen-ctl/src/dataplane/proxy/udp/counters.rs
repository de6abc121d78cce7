//! What a worker's UDP half has done, and why it dropped what it dropped.

use std::io;

use rustix::io::Errno;

/// Counts since the start. A datagram that came joined to others (GRO) counts as one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams from clients.
    pub received: u64,
    /// Datagrams handed to backends, those sent again included.
    pub forwarded: u64,
    /// Datagrams from backends.
    pub answers: u64,
    /// Datagrams handed to clients.
    pub answered: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions that ended because they were idle.
    pub expired: u64,
    /// Sessions that ended early to make room for a newer one: too many, no file descriptor or no port left.
    pub evicted: u64,
    /// Failures of backends that were seen: ICMP errors, no route, no neighbor.
    pub failures: u64,
    /// Sessions that left a backend which no longer answered.
    pub silent: u64,
    /// Datagrams sent again to another backend.
    pub resent: u64,
    /// Datagrams dropped.
    pub dropped: Dropped,
}

/// Datagrams dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// No backend was left to take it.
    pub no_backend: u64,
    /// It arrived cut, or without the address it was sent to.
    pub truncated: u64,
    /// Its sender may not use the service.
    pub denied: u64,
    /// It did not say whom its sender speaks for, which it must.
    pub no_preface: u64,
    /// The socket's send buffer was full.
    pub send_buffer_full: u64,
    /// The system had no memory for it (ENOBUFS, ENOMEM).
    pub no_memory: u64,
    /// No file descriptor for its session, and no older session to give one up.
    pub no_descriptor: u64,
    /// No local port for its session, and no older session to give one up.
    pub no_port: u64,
    /// Too long for the path or the address family.
    pub too_big: u64,
    /// Any other error of sending, such as a client that cannot be reached.
    pub unsendable: u64,
}

/// Why an operation on a socket failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The other end cannot be reached: what an ICMP error or the lack of a route or neighbor says.
    Unreachable(Errno),
    /// No backend is left.
    Nobody,
    /// The send buffer is full or, on connecting, no port is free.
    Again,
    /// No memory.
    Memory,
    /// No file descriptor.
    Descriptors,
    /// This host cannot send there as that client, and the backend can do nothing about it.
    NotFor,
    /// Too long.
    TooBig,
    /// Anything else.
    Other(Errno),
}

impl From<&io::Error> for Trouble {
    fn from(error: &io::Error) -> Self {
        match Errno::from_io_error(error).unwrap_or(Errno::IO) {
            errno @ (Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::PROTO
            | Errno::ACCESS) => Self::Unreachable(errno),
            // A BSD says EADDRNOTAVAIL where no port is free, Linux EAGAIN.
            Errno::AGAIN | Errno::ADDRNOTAVAIL => Self::Again,
            Errno::NOBUFS | Errno::NOMEM => Self::Memory,
            Errno::MFILE | Errno::NFILE => Self::Descriptors,
            Errno::MSGSIZE => Self::TooBig,
            errno => Self::Other(errno),
        }
    }
}

impl Dropped {
    /// Counts datagrams that could not be sent.
    pub(super) fn unsent(&mut self, trouble: Trouble, datagrams: u64) {
        *match trouble {
            Trouble::Again => &mut self.send_buffer_full,
            Trouble::Memory => &mut self.no_memory,
            Trouble::TooBig => &mut self.too_big,
            Trouble::Unreachable(_)
            | Trouble::Nobody
            | Trouble::Descriptors
            | Trouble::NotFor
            | Trouble::Other(_) => &mut self.unsendable,
        } += datagrams;
    }

    /// Counts datagrams of a session that got no socket.
    pub(super) fn unplaced(&mut self, trouble: Trouble, datagrams: u64) {
        *match trouble {
            Trouble::Descriptors => &mut self.no_descriptor,
            Trouble::Again => &mut self.no_port,
            Trouble::Memory => &mut self.no_memory,
            Trouble::Unreachable(_)
            | Trouble::Nobody
            | Trouble::NotFor
            | Trouble::TooBig
            | Trouble::Other(_) => &mut self.no_backend,
        } += datagrams;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { no_backend, truncated, no_preface, send_buffer_full, no_memory, .. } = *self;
        let Self { no_descriptor, no_port, too_big, unsendable, .. } = *self;
        let unplaced = no_backend + no_descriptor + no_port;
        unplaced + truncated + no_preface + send_buffer_full + no_memory + too_big + unsendable
    }
}
