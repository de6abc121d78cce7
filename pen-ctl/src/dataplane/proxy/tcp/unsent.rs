//! How much of what was sent a peer has not taken yet: the only sign of life of one that reads slowly, for whom the poll has
//! nothing to say until a good part of the kernel's buffer is free.
#![cfg_attr(target_os = "linux", allow(unsafe_code, reason = "no safe crate offers this ioctl"))]

use std::os::fd::OwnedFd;

/// Bytes that were written to a socket and are still with this kernel: tcp(7) (SIOCOUTQ), unix(7).
#[cfg(target_os = "linux")]
pub(super) fn unsent(socket: &OwnedFd) -> usize {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    // The name that libc has for SIOCOUTQ.
    const OUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: this request of tcp(7) and unix(7) writes one `int` and reads nothing, which is what the getter has room for.
    let outq = unsafe { Getter::<OUTQ, libc::c_int>::new() };
    // SAFETY: as above; it changes nothing of the socket.
    let bytes = unsafe { ioctl(socket, outq) };
    bytes.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
}

/// Other systems do not say.
#[cfg(not(target_os = "linux"))]
pub(super) fn unsent(_socket: &OwnedFd) -> usize {
    0
}
