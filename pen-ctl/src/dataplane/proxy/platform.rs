//! What every system does in a way of its own when it listens, accepts and connects.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use mio::Interest;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Socket, Type};

use super::endpoint::Peer;

/// Whether SO_REUSEPORT spreads clients over the sockets that share a port: socket(7). Elsewhere the last one
/// to come gets all of them.
pub(crate) const SHARES: bool = cfg!(target_os = "linux");
/// Whether a socket of IPv6 can take clients of IPv4 as well. OpenBSD keeps them apart: ip6(4).
pub(crate) const JOINS_FAMILIES: bool = !cfg!(target_os = "openbsd");
/// Whether an event says all of what became of connecting; else it may come before anything has happened.
pub(super) const TELLS_ALL: bool = cfg!(target_os = "linux");

/// Sends without SIGPIPE. Where that flag is missing, Rust's runtime has turned the signal off for the whole process.
#[cfg(not(target_vendor = "apple"))]
pub(super) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
/// The same without the flag.
#[cfg(target_vendor = "apple")]
pub(super) const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Receives descriptors that are closed on exec from the start.
#[cfg(not(any(target_vendor = "apple", target_os = "illumos")))]
pub(super) const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
/// That cannot be here: whoever receives one makes it so.
#[cfg(any(target_vendor = "apple", target_os = "illumos"))]
pub(super) const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// What both ends of a stream are watched for, each change once: urgent data, too, where that can be told.
#[cfg(target_os = "linux")]
pub(super) const WATCHED: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
/// What both ends of a stream are watched for, each change once.
#[cfg(not(target_os = "linux"))]
pub(super) const WATCHED: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// How bytes are sent that more will follow at once.
#[cfg(target_os = "linux")]
pub(super) const AND_MORE: SendFlags = NO_SIGNAL.union(SendFlags::MORE);
/// As any others where that cannot be said.
#[cfg(not(target_os = "linux"))]
pub(super) const AND_MORE: SendFlags = NO_SIGNAL;

/// Lets other sockets have the same port, where that [spreads clients](SHARES).
#[cfg(target_os = "linux")]
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Does nothing here.
#[cfg(not(target_os = "linux"))]
pub(super) fn share_port(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

/// Lets `::` stand for every address of this host, those of IPv4 as well, where that can be.
pub(super) fn choose_families(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if JOINS_FAMILIES && address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(())
}

/// A socket for a stream that does not block and is closed on exec.
///
/// # Errors
/// As socket(2).
#[cfg(not(target_vendor = "apple"))]
pub(super) fn stream(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking(), None)
}

/// The same where that takes a second call.
#[cfg(target_vendor = "apple")]
pub(super) fn stream(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts one connection; it does not block and is closed on exec.
///
/// # Errors
/// As accept(2); `WouldBlock` when there is none.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn accept(socket: &Socket) -> io::Result<(OwnedFd, Peer)> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    let (stream, from) = acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let address = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok((stream, address.map_or(Peer::NAMELESS, Peer::from)))
}

/// The same where accept4(2) is missing.
#[cfg(target_vendor = "apple")]
pub(super) fn accept(socket: &Socket) -> io::Result<(OwnedFd, Peer)> {
    let (stream, from) = socket.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream.into(), from.as_socket().map_or(Peer::NAMELESS, Peer::from)))
}
