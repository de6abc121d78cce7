//! Control messages: the address a datagram came to or leaves from, and segments. The options and messages are those
//! of RFC 3542 for IPv6; for IPv4 each system's own.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::super::Local;
use super::{Arrived, Outgoing, platform};

#[cfg_attr(
    any(target_os = "freebsd", target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd"),
    path = "control/dstaddr.rs"
)]
mod pktinfo;

/// Bytes for control messages: twice what the largest pair needs.
const ROOM: usize = 128;

/// Aligned room for control messages.
#[repr(align(8))]
pub(super) struct Control([u8; ROOM]);

impl Control {
    pub(super) const fn new() -> Self {
        Self([0; ROOM])
    }

    /// Lets `header` receive control messages into this room.
    pub(super) fn receive(&mut self, header: &mut libc::msghdr) {
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = ROOM as _;
    }

    /// Writes the control messages of `datagram` here and lets `header` send them.
    pub(super) fn send(&mut self, datagram: &Outgoing<'_>, header: &mut libc::msghdr) {
        self.receive(header);
        // SAFETY: the header names the whole of this room, which is aligned and longer than one message header.
        let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
        let mut used = 0;
        match datagram.from {
            Some(Local { address: IpAddr::V4(address), .. }) => {
                used += put(header, &mut at, libc::IPPROTO_IP, pktinfo::OPTION, pktinfo::to(address));
            }
            Some(Local { address: IpAddr::V6(address), interface }) => {
                used +=
                    put(header, &mut at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info_v6(address, interface));
            }
            None => {}
        }
        if datagram.segment != 0 {
            used += platform::SEGMENT
                .map_or(0, |(level, kind)| put(header, &mut at, level, kind, datagram.segment));
        }
        header.msg_controllen = used as _;
        if used == 0 {
            header.msg_control = ptr::null_mut();
        }
    }
}

/// Writes one control message at `at` and moves on; returns the bytes it takes.
fn put<T: Copy>(
    header: &libc::msghdr,
    at: &mut *mut libc::cmsghdr,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) -> usize {
    let Some(message) = ptr::NonNull::new(*at) else { return 0 };
    // SAFETY: computes a number alone.
    let length = unsafe { libc::CMSG_LEN(size_of::<T>() as u32) };
    // SAFETY: `message` points into the room, aligned; all fields are numbers and the room is zeroed.
    let message = unsafe { &mut *message.as_ptr() };
    message.cmsg_len = length as _;
    message.cmsg_level = level;
    message.cmsg_type = kind;
    // SAFETY: the data follow the header within the room.
    let data = unsafe { libc::CMSG_DATA(message) };
    // SAFETY: the room holds both messages that are ever put with space to spare; `data` need not be aligned.
    unsafe { data.cast::<T>().write_unaligned(value) };
    // SAFETY: header and message belong together.
    *at = unsafe { libc::CMSG_NXTHDR(header, message) };
    // SAFETY: computes a number alone.
    unsafe { libc::CMSG_SPACE(size_of::<T>() as u32) as usize }
}

/// Reads the control messages that came with a datagram.
pub(super) fn read(header: &libc::msghdr, arrived: &mut Arrived) {
    // SAFETY: the kernel wrote whole messages into the room that the header names.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while let Some(message) = ptr::NonNull::new(at) {
        // SAFETY: `at` points to a message within the room.
        let message = unsafe { message.as_ref() };
        // SAFETY: the data follow the header within the room.
        let data = unsafe { libc::CMSG_DATA(message) };
        match (message.cmsg_level, message.cmsg_type) {
            (libc::IPPROTO_IP, pktinfo::OPTION) => {
                // SAFETY: a message of that type carries that structure.
                let info = unsafe { data.cast::<pktinfo::Info>().read_unaligned() };
                arrived.to = Some(Local { address: IpAddr::V4(pktinfo::from(&info)), interface: 0 });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: a message of that type carries that structure.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                arrived.to = Some(local_v6(&info));
            }
            told if Some(told) == platform::COALESCED => {
                // SAFETY: a message of that type carries an int.
                let segment = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                let segment = usize::try_from(segment).unwrap_or(0);
                arrived.segment = if segment < arrived.length { segment as u16 } else { 0 };
            }
            _ => {}
        }
        // SAFETY: header and message belong together.
        at = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
}

/// Makes the kernel say of every datagram where it was sent to.
pub(in super::super) fn tell_destination(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        set(socket, libc::IPPROTO_IP, pktinfo::OPTION)
    }
}

/// Lets the kernel join datagrams of one sender and one length, where it can.
pub(in super::super) fn coalesce(socket: BorrowedFd<'_>) -> io::Result<()> {
    platform::COALESCED.map_or(Ok(()), |(level, option)| set(socket, level, option))
}

fn set(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: pointer and length are those of `on`.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn info_v6(address: Ipv6Addr, interface: u32) -> libc::in6_pktinfo {
    libc::in6_pktinfo {
        ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
        ipi6_ifindex: interface as _,
    }
}

/// The interface matters for a link-local address alone.
fn local_v6(info: &libc::in6_pktinfo) -> Local {
    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    // Signed on some systems.
    let index: u32 = info.ipi6_ifindex as _;
    let interface = if address.is_unicast_link_local() { index } else { 0 };
    Local { address: IpAddr::V6(address), interface }
}
