//! A socket of whole Ethernet frames (AF_PACKET). The only `unsafe` of announcements and diagnosis: its address.
#![allow(unsafe_code, reason = "no crate in use builds a sockaddr_ll")]

use std::io::{self, Read};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends frames, and receives them if it was opened for that. Needs CAP_NET_RAW.
#[derive(Debug)]
pub(crate) struct PacketSocket(Socket);

impl PacketSocket {
    /// Opens it, only to send, in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        // Protocol 0: no frame is ever queued to it.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Opens it to hear everything that comes in and goes out by any interface from now on.
    pub(crate) fn listening() -> io::Result<Self> {
        let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(everything))?;
        // What does not fit is lost; the kernel may grant less.
        let _ = socket.set_recv_buffer_size(8 << 20);
        Ok(Self(socket))
    }

    /// The next frame, cut to `buffer`; `None` if there was none for so long, which must not be zero.
    pub(crate) fn receive(&self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        self.0.set_read_timeout(Some(patience))?;
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a whole frame out of the interface of that index.
    pub(crate) fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        self.0.send_to(frame, &address(ifindex)?).map(|_| ())
    }
}

fn address(ifindex: u32) -> io::Result<SockAddr> {
    let ifindex = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: 0,
        sll_ifindex: ifindex,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let init = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: the storage is a zeroed sockaddr_storage, which every kind of socket address fits into and is
        // aligned in.
        unsafe { storage.cast::<libc::sockaddr_ll>().write(link) };
        // SAFETY: `length` points to a valid integer.
        unsafe { length.write(size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
        Ok(())
    };
    // SAFETY: `init` writes a whole address of the length it says.
    unsafe { SockAddr::try_init(init) }.map(|((), address)| address)
}
