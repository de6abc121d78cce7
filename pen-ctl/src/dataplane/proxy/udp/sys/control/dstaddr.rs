//! The local address of an IPv4 datagram by IP_RECVDSTADDR and IP_SENDSRCADDR, which are one number: ip(4) of the BSDs.

use std::net::Ipv4Addr;

/// Makes the kernel say where a datagram was sent to; the type of the message that says it, and of the one that
/// chooses where a datagram leaves from.
pub(super) const OPTION: libc::c_int = libc::IP_RECVDSTADDR;

/// What the message carries.
pub(super) type Info = libc::in_addr;

/// Leaves from that address.
pub(super) fn to(address: Ipv4Addr) -> Info {
    Info { s_addr: u32::from_ne_bytes(address.octets()) }
}

/// The local address of the datagram.
pub(super) fn from(info: &Info) -> Ipv4Addr {
    Ipv4Addr::from(info.s_addr.to_ne_bytes())
}
