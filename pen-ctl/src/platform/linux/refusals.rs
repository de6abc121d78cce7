//! Sockets for datagrams that hear of everybody on the way who refuses: IP_RECVERR (ip(7)), IPV6_RECVERR (ipv6(7)).
#![allow(unsafe_code, reason = "no safe crate in use offers these socket options")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Without, only what is sure to last is told to a connected socket: a closed port, but no host that is not reached.
pub(crate) fn hear_of_refusals(socket: &Socket, peer: SocketAddr) -> io::Result<()> {
    let (level, option) = match peer {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: pointer and length are those of `on`.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
