//! A socket that sends whole Ethernet frames (AF_PACKET). The only `unsafe` of announcements: its address.
#![allow(unsafe_code, reason = "no crate in use builds a sockaddr_ll")]

use std::io;

use socket2::{Domain, SockAddr, Socket, Type};

/// Sends frames; receives nothing. Needs CAP_NET_RAW.
#[derive(Debug)]
pub(super) struct PacketSocket(Socket);

impl PacketSocket {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        // Protocol 0: no frame is ever queued to it.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Sends a whole frame out of the interface of that index.
    pub(super) fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
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
