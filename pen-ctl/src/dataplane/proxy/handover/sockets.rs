//! Sends and receives listening sockets: `SCM_RIGHTS` of unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use socket2::Socket;

use crate::dataplane::proxy::platform::CLOSE_ON_EXEC;

/// Sockets in one message; Linux takes 253 (`SCM_MAX_FD`), others fewer.
const AT_ONCE: usize = 32;
/// The byte that they come with: a message must have one.
const BYTE: u8 = b'S';

/// Sends sockets, in order.
pub(super) fn send<'a>(
    stream: &UnixStream,
    sockets: impl Iterator<Item = &'a Arc<Socket>>,
) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.map(|socket| socket.as_fd()).collect();
    for some in sockets.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(some));
        sendmsg(stream, &[IoSlice::new(&[BYTE])], &mut control, SendFlags::empty())?;
    }
    Ok(())
}

/// Receives so many.
pub(super) fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, CLOSE_ON_EXEC)?;
        let before = sockets.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                for socket in some {
                    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
                    sockets.push(socket);
                }
            }
        }
        if received.bytes != 1 || byte != [BYTE] || sockets.len() == before {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(sockets)
}
