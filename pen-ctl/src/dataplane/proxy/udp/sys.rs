//! Datagrams in batches, with the address that each came to or leaves from: recvmmsg(2) and sendmmsg(2) where they
//! are, recvmsg(2) and sendmsg(2) elsewhere.
#![allow(unsafe_code, reason = "no safe crate offers batches, packet information and segments together")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::ptr;

use socket2::SockAddr;

use super::Local;

mod control;
#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/portable.rs")]
mod platform;

pub(super) use control::{coalesce, tell_destination};

/// Most datagrams that one system call carries.
pub(super) const CHUNK: usize = 32;

/// Bytes of a slot's buffer: more than the largest payload of a datagram (65,527 bytes, over IPv6).
pub(super) const SLOT: usize = 65_536;

/// A vector of nothing.
const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// What is known of a datagram that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Bytes.
    pub(super) length: usize,
    /// Who sent it; `None` on a connected socket.
    pub(super) from: Option<SocketAddr>,
    /// The address it was sent to, if the socket was told to say it.
    pub(super) to: Option<Local>,
    /// The kernel joined several datagrams of one sender: each but the last has so many bytes. 0 = it is one.
    pub(super) segment: u16,
    /// It, or what is known of it, was longer than its place.
    pub(super) truncated: bool,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    /// What the payload begins with; nothing where it is to be cut.
    pub(super) before: &'a [u8],
    /// The payload, or the rest of it.
    pub(super) contents: &'a [u8],
    /// As in [`Arrived`]: the kernel cuts it into datagrams of so many bytes.
    pub(super) segment: u16,
    /// Where to; `None` on a connected socket.
    pub(super) to: Option<SocketAddr>,
    /// The address to send from, if the socket is not bound to it.
    pub(super) from: Option<Local>,
}

/// What became of an attempt to receive.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Datagrams that came, in the first so many slots.
    pub(super) count: usize,
    /// Nothing more was there.
    pub(super) drained: bool,
    /// The error that ended it, or that an earlier datagram met (ICMP).
    pub(super) error: Option<io::Error>,
}

/// Room for what the kernel says of one datagram.
pub(super) struct Slot {
    name: socket2::SockAddrStorage,
    control: control::Control,
    /// The last datagram received into it.
    pub(super) arrived: Arrived,
}

impl Slot {
    /// A slot in which nothing has been received.
    pub(super) fn new() -> Self {
        let name = socket2::SockAddrStorage::zeroed();
        Self { name, control: control::Control::new(), arrived: Arrived::default() }
    }

    /// A message header that receives into this slot and `buffer`, through `vector`.
    fn prepare(&mut self, buffer: &mut [u8], vector: &mut libc::iovec, connected: bool) -> libc::msghdr {
        vector.iov_base = buffer.as_mut_ptr().cast();
        vector.iov_len = buffer.len();
        let mut header = no_header();
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        if !connected {
            header.msg_name = (&raw mut self.name).cast();
            header.msg_namelen = self.name.size_of();
        }
        self.control.receive(&mut header);
        header
    }

    /// Notes what the kernel wrote about a datagram of `length` bytes.
    fn note(&mut self, header: &libc::msghdr, length: usize) {
        let from = if header.msg_name.is_null() { None } else { self.sender(header.msg_namelen) };
        let mut arrived = Arrived { length, from, ..Arrived::default() };
        arrived.truncated = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        control::read(header, &mut arrived);
        self.arrived = arrived;
    }

    fn sender(&self, length: libc::socklen_t) -> Option<SocketAddr> {
        // SAFETY: the storage is plain bytes.
        let name = unsafe { ptr::read(&raw const self.name) };
        // SAFETY: the kernel wrote an address of that length, which fits (a longer one would have been cut), into
        // storage that was zeroed before.
        let address = unsafe { SockAddr::new(name, length.min(self.name.size_of())) };
        address.as_socket()
    }
}

/// Receives up to [`CHUNK`] datagrams, one for each slot, without waiting. `bytes` has [`SLOT`] bytes for each slot.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    slots: &mut [Slot],
    connected: bool,
) -> Received {
    loop {
        let received = platform::receive(socket, bytes, slots, connected);
        match received.error {
            Some(error) if error.kind() == io::ErrorKind::Interrupted && received.count == 0 => {}
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Received { error: None, drained: true, ..received };
            }
            _ => return received,
        }
    }
}

/// Sends up to [`CHUNK`] datagrams without waiting; returns how many went, or the error that the first one met.
pub(super) fn send<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = Outgoing<'a>> + Clone,
) -> io::Result<usize> {
    loop {
        match platform::send(socket, datagrams.clone()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What a message header to send points to, besides the payload.
struct Address {
    name: Option<SockAddr>,
    control: control::Control,
}

impl Address {
    fn of(datagram: &Outgoing<'_>) -> Self {
        Self { name: datagram.to.map(SockAddr::from), control: control::Control::new() }
    }

    /// A message header that sends `datagram`, through `vectors`.
    fn prepare(&mut self, datagram: &Outgoing<'_>, vectors: &mut [libc::iovec; 2]) -> libc::msghdr {
        let parts = [datagram.before, datagram.contents];
        for (vector, part) in vectors.iter_mut().zip(parts) {
            vector.iov_base = part.as_ptr().cast_mut().cast();
            vector.iov_len = part.len();
        }
        let used = if datagram.before.is_empty() { &mut vectors[1..] } else { &mut vectors[..] };
        let mut header = no_header();
        header.msg_iov = used.as_mut_ptr();
        header.msg_iovlen = used.len() as _;
        if let Some(name) = &self.name {
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
        }
        self.control.send(datagram, &mut header);
        header
    }
}

/// A message header of nothing; some systems pad it, so that it cannot be written out.
fn no_header() -> libc::msghdr {
    // SAFETY: every field is a number or a pointer that may be null.
    unsafe { std::mem::zeroed() }
}
