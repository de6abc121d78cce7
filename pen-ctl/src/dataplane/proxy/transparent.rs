//! Connecting with a client's own address, so that the backend sees who comes: `IP_TRANSPARENT` on Linux (ip(7)),
//! `IP_BINDANY` on FreeBSD (ip(4)), `SO_BINDANY` on OpenBSD (setsockopt(2)). Answers come back to this host only if its
//! routing says so: docs/proxy.md.
#![cfg_attr(
    any(target_os = "freebsd", target_os = "openbsd"),
    allow(unsafe_code, reason = "no safe crate offers these socket options")
)]

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::endpoint::{Endpoint, Peer};
use super::platform::JOINS_FAMILIES;

/// Binds a socket towards `backend` to the client's address and port; to any port of it where that one is taken.
///
/// # Errors
/// The client has no address of the backend's family; the system does not allow it.
pub(super) fn bind(socket: &Socket, backend: &Endpoint, client: Peer) -> io::Result<()> {
    let Endpoint::Inet(backend) = backend else { return Err(io::ErrorKind::Unsupported.into()) };
    if client == Peer::NAMELESS || client.address.is_ipv4() != backend.is_ipv4() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    allow(socket, backend.is_ipv4())?;
    socket.set_reuse_address(true)?;
    let bind = |port| socket.bind(&SocketAddr::new(client.address, port).into());
    match bind(client.port) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bind(0),
        bound => bound,
    }
}

/// Whether clients of a listener may have addresses of a backend's family, which it then sees.
pub(crate) fn is_of_clients(listener: IpAddr, backend: IpAddr) -> bool {
    let of_both = JOINS_FAMILIES && listener == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    of_both || listener.is_ipv4() == backend.is_ipv4()
}

/// Whether this process may do it.
///
/// # Errors
/// The system does not allow it, or does not know it.
pub(crate) fn check() -> io::Result<()> {
    allow(&Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?, true)
}

#[cfg(target_os = "linux")]
fn allow(socket: &Socket, v4: bool) -> io::Result<()> {
    if v4 { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}

#[cfg(any(target_os = "freebsd", target_os = "openbsd"))]
fn allow(socket: &Socket, v4: bool) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    #[cfg(target_os = "freebsd")]
    let (level, option) = match v4 {
        true => (libc::IPPROTO_IP, libc::IP_BINDANY),
        false => (libc::IPPROTO_IPV6, libc::IPV6_BINDANY),
    };
    #[cfg(target_os = "openbsd")]
    let ((level, option), _) = ((libc::SOL_SOCKET, libc::SO_BINDANY), v4);
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: pointer and length are those of `on`.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "openbsd")))]
fn allow(_socket: &Socket, _v4: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
