//! The local address of an IPv4 datagram by IP_PKTINFO: ip(7) of Linux; macOS and illumos have it too.

use std::net::Ipv4Addr;

/// Makes the kernel say where a datagram was sent to; the type of the message that says it, and of the one that
/// chooses where a datagram leaves from.
pub(super) const OPTION: libc::c_int = libc::IP_PKTINFO;

/// What the message carries.
pub(super) type Info = libc::in_pktinfo;

/// Leaves from that address.
pub(super) fn to(address: Ipv4Addr) -> Info {
    Info { ipi_ifindex: 0, ipi_spec_dst: in_addr(address), ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED) }
}

/// The local address of the datagram: for a broadcast the interface's, from which it can be answered.
pub(super) fn from(info: &Info) -> Ipv4Addr {
    Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}
