//! Batches by recvmsg(2) and sendmsg(2), one datagram after another.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Address, CHUNK, NO_VECTOR, Outgoing, Received, SLOT, Slot};

/// No kernel cuts payloads.
pub(super) const SEGMENT: Option<(libc::c_int, libc::c_int)> = None;
/// No kernel joins datagrams.
pub(super) const COALESCED: Option<(libc::c_int, libc::c_int)> = None;

/// One recvmsg(2) for each datagram, until there is none, an error, or no slot left.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    slots: &mut [Slot],
    connected: bool,
) -> Received {
    let mut received = Received::default();
    for (slot, buffer) in slots.iter_mut().zip(bytes.chunks_exact_mut(SLOT)).take(CHUNK) {
        let mut vector = NO_VECTOR;
        let mut header = slot.prepare(buffer, &mut vector, connected);
        // SAFETY: the header points to a buffer, a vector and a slot that live here, with their lengths.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        match usize::try_from(length) {
            Ok(length) => slot.note(&header, length),
            Err(_) => {
                received.error = Some(io::Error::last_os_error());
                break;
            }
        }
        received.count += 1;
    }
    received
}

/// One sendmsg(2) for each datagram, until an error.
pub(super) fn send<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = Outgoing<'a>> + Clone,
) -> io::Result<usize> {
    let mut count = 0;
    for datagram in datagrams.take(CHUNK) {
        let (mut address, mut vectors) = (Address::of(&datagram), [NO_VECTOR; 2]);
        let header = address.prepare(&datagram, &mut vectors);
        // SAFETY: the header points to a payload, a vector and an address that live here, with their lengths.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        if sent < 0 && count == 0 {
            return Err(io::Error::last_os_error());
        }
        if sent < 0 {
            break;
        }
        count += 1;
    }
    Ok(count)
}
