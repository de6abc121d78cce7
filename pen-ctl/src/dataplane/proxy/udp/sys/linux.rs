//! Batches by recvmmsg(2) and sendmmsg(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::{Address, CHUNK, NO_VECTOR, Outgoing, Received, SLOT, Slot};

/// Level and type of the message that has the kernel cut a payload into datagrams of a length (UDP_SEGMENT of udp(7)).
pub(super) const SEGMENT: Option<(libc::c_int, libc::c_int)> = Some((libc::SOL_UDP, libc::UDP_SEGMENT));
/// Level and option, or type of the message, for datagrams of one sender and one length that were joined (UDP_GRO of
/// udp(7)).
pub(super) const COALESCED: Option<(libc::c_int, libc::c_int)> = Some((libc::SOL_UDP, libc::UDP_GRO));

/// One recvmmsg(2).
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    slots: &mut [Slot],
    connected: bool,
) -> Received {
    let wanted = slots.len().min(CHUNK);
    let mut vectors = [NO_VECTOR; CHUNK];
    let mut messages = [libc::mmsghdr { msg_hdr: super::no_header(), msg_len: 0 }; CHUNK];
    let places = slots.iter_mut().zip(bytes.chunks_exact_mut(SLOT));
    for ((message, vector), (slot, buffer)) in messages.iter_mut().zip(&mut vectors).zip(places) {
        message.msg_hdr = slot.prepare(buffer, vector, connected);
    }
    let (first, count) = (messages.as_mut_ptr(), wanted as libc::c_uint);
    // SAFETY: the first `wanted` headers point to buffers, vectors and slots that live here, with their lengths.
    let got =
        unsafe { libc::recvmmsg(socket.as_raw_fd(), first, count, libc::MSG_DONTWAIT, ptr::null_mut()) };
    let Ok(got) = usize::try_from(got) else {
        return Received { error: Some(io::Error::last_os_error()), ..Received::default() };
    };
    for (message, slot) in messages[..got].iter().zip(slots) {
        slot.note(&message.msg_hdr, message.msg_len as usize);
    }
    Received { count: got, drained: got < wanted, error: None }
}

/// One sendmmsg(2), or send(2) for a single datagram on a connected socket.
pub(super) fn send<'a>(
    socket: BorrowedFd<'_>,
    mut datagrams: impl Iterator<Item = Outgoing<'a>> + Clone,
) -> io::Result<usize> {
    let mut following = datagrams.clone();
    if let (Some(only), None) = (following.next(), following.next())
        && only.to.is_none()
        && only.segment == 0
        && only.before.is_empty()
    {
        return send_one(socket, only.contents);
    }
    let mut vectors = [[NO_VECTOR; 2]; CHUNK];
    let mut messages = [libc::mmsghdr { msg_hdr: super::no_header(), msg_len: 0 }; CHUNK];
    let mut addresses: [Option<Address>; CHUNK] = [const { None }; CHUNK];
    let mut count = 0;
    for ((message, vector), address) in messages.iter_mut().zip(&mut vectors).zip(&mut addresses) {
        let Some(datagram) = datagrams.next() else { break };
        message.msg_hdr = address.insert(Address::of(&datagram)).prepare(&datagram, vector);
        count += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` headers point to payloads, vectors and addresses that live here, with their lengths.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn send_one(socket: BorrowedFd<'_>, contents: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: pointer and length are those of a slice.
    let sent = unsafe { libc::send(socket.as_raw_fd(), contents.as_ptr().cast(), contents.len(), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) }
}
