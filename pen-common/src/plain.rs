//! The way of nearly all packets, in few steps: TCP or UDP in one piece, behind at most one VLAN tag, without IPv4 options
//! or IPv6 extension headers, to a service that has nothing to decide about them, or to a stranger.
//!
//! [`crate::pipeline`] says the same of them, and decides about all others; here it is asked less, in the order that leaves
//! least to be held.

use crate::abi::{
    Address, Directory, DirectoryHalf, Interface, MAC_MASK, ServiceEntry, TrackKeyV4, TrackKeyV6,
    backend_flags,
};
use crate::guard;
use crate::mac;
use crate::packet::Packet;
use crate::parse::{self, IPV4_HEADER, IPV6_HEADER, Ports, ethertype};
use crate::rewrite;
use crate::select::{self, Flow};
use crate::service::{self, TCP, UDP};
use crate::tables::Tables;
use crate::track::Key;
use crate::verdict::Drop;

/// What became of a plain packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// It was rewritten for the backend of this index, and leaves by the interface it came in.
    Forwarded(u16),
    /// It passes, unchanged: its address is no VIP.
    Stranger,
    /// It is dropped: the service does not let it in.
    Refused(Drop),
}

/// The tables as they stand for a packet, and how it came in.
struct Here<'a, T> {
    tables: &'a T,
    directory: &'a Directory,
    half: &'a DirectoryHalf,
    interface: &'a Interface,
    /// Destination MAC: one of ours.
    ours: u64,
    /// Outer VLAN ID; 0 = untagged.
    vlan: u32,
}

/// Where a packet comes from and goes to.
struct Headers {
    client: Address,
    vip: Address,
    protocol: u8,
    ports: Ports,
    /// Offset of the TCP or UDP header.
    transport: usize,
}

/// Decides about a frame and rewrites it, if it is a plain one; `None`: it is as it was, and so is all that is remembered and
/// counted; [`crate::pipeline::general`] has to look closer.
#[inline(always)]
pub fn run<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: u32) -> Option<Plain> {
    let ethernet = packet.bytes::<14>(0)?;
    let (ours, ethertype) = (P::word_in::<14, 0>(ethernet) & MAC_MASK, u16_at(ethernet, 12));
    let (directory, half) = tables.directory()?;
    let interface = service::interface(half, ingress)?;
    if !interface.is_ours(ours) {
        return None;
    }
    let here = Here { tables, directory, half, interface, ours, vlan: 0 };
    if ethertype != ethertype::VLAN && ethertype != ethertype::SERVICE_VLAN {
        return ip::<_, _, 14>(packet, &here, ethertype);
    }
    let tag = packet.bytes::<4>(14)?;
    // IEEE 802.1Q, 9.6: the low 12 bits.
    let vlan = u32::from(u16::from_be(u16_at(tag, 0)) & 0x0fff);
    let ethertype = u16_at(tag, 2);
    ip::<_, _, 18>(packet, &Here { vlan, ..here }, ethertype)
}

/// The same from offset `AT` on, where the link layer ends: each of them compiled by itself.
#[inline(always)]
fn ip<P: Packet, T: Tables, const AT: usize>(
    packet: &mut P,
    here: &Here<'_, T>,
    ethertype: u16,
) -> Option<Plain> {
    match ethertype {
        ethertype::IPV4 => {
            let headers = ipv4(packet, AT)?;
            decide::<TrackKeyV4, _, _>(packet, here, &headers)
        }
        ethertype::IPV6 => {
            let headers = ipv6(packet, AT)?;
            decide::<TrackKeyV6, _, _>(packet, here, &headers)
        }
        _ => None,
    }
}

/// The headers of an IPv4 packet (RFC 791, 3.1).
#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: usize) -> Option<Headers> {
    /// Version 4, and five words of header.
    const FIRST: u64 = 0x45;
    /// More fragments, and the offset, as they stand in the second four bytes.
    const FRAGMENT: u64 = (0x3fff_u16.to_be() as u64) << 48;
    let header = packet.bytes::<{ IPV4_HEADER + 8 }>(at)?;
    let (first, second) = (P::word_in::<_, 0>(header), P::word_in::<_, 8>(header));
    if first & (FRAGMENT | 0xff) != FIRST {
        return None;
    }
    let (length, protocol) = (usize::from(u16::from_be((first >> 16) as u16)), (second >> 8) as u8);
    let (client, vip) = (Address::v4((second >> 32) as u32), Address::v4(u32_at(header, 16)));
    let transport = P::word_in::<_, IPV4_HEADER>(header);
    let ports = ports(packet, at + IPV4_HEADER, at + length, protocol, transport)?;
    Some(Headers { client, vip, protocol, ports, transport: at + IPV4_HEADER })
}

/// The headers of an IPv6 packet (RFC 8200, 3).
#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: usize) -> Option<Headers> {
    let header = packet.bytes::<{ IPV6_HEADER + 8 }>(at)?;
    let first = P::word_in::<_, 0>(header);
    let (length, protocol) = (usize::from(u16::from_be((first >> 32) as u16)), (first >> 48) as u8);
    let client = Address::of_halves([P::word_in::<_, 8>(header), P::word_in::<_, 16>(header)]);
    let vip = Address::of_halves([P::word_in::<_, 24>(header), P::word_in::<_, 32>(header)]);
    // An IPv4-mapped address on the wire is nobody's (RFC 4942, 2.2): it must not meet an IPv4 VIP.
    if first & 0xf0 != 0x60 || vip.is_v4() {
        return None;
    }
    let start = at + IPV6_HEADER;
    let ports = ports(packet, start, start + length, protocol, P::word_in::<_, IPV6_HEADER>(header))?;
    Some(Headers { client, vip, protocol, ports, transport: start })
}

/// The ports of TCP or UDP from `at` to `end`, of which `first` are the first eight bytes, where all of it can be read and
/// its header is sound: RFC 9293, 3.1; RFC 768.
#[inline(always)]
fn ports<P: Packet>(packet: &P, at: usize, end: usize, protocol: u8, first: u64) -> Option<Ports> {
    let (least, length) = match protocol {
        TCP => (20, usize::from(packet.bytes::<13>(at)?[12] >> 4) * 4),
        UDP => (8, usize::from(u16::from_be((first >> 32) as u16))),
        _ => return None,
    };
    if length < least || at + length > end || !packet.holds(end) {
        return None;
    }
    Some(Ports { source: first as u16, destination: (first >> 16) as u16 })
}

/// Finds the service, and the backend that its client has.
#[inline(always)]
fn decide<K: Key, P: Packet, T: Tables>(
    packet: &mut P,
    here: &Here<'_, T>,
    headers: &Headers,
) -> Option<Plain> {
    let Headers { client, vip, protocol, ports, .. } = headers;
    if service::is_no_vip(here.half, vip) {
        return Some(Plain::Stranger);
    }
    let Some(service) = service::exact(here.half, vip, ports.destination, *protocol) else {
        // It may be for every port of a VIP, or for a port that nobody serves.
        return if service::vip(here.half, vip).is_none() { Some(Plain::Stranger) } else { None };
    };
    if may_be_backend(packet, here, service)? {
        return None;
    }
    if guard::is_guarded(service) {
        if let Err(why) = guard::listed(here.tables, here.directory, service, client) {
            return Some(Plain::Refused(why));
        }
        if guard::counts_connections(service) && asks_for_connection(packet, headers.transport)? {
            return None;
        }
    }
    let settled =
        select::settled::<K, _>(here.tables, here.directory, Flow { service, client, ports: *ports })?;
    let backend = settled.chosen.backend;
    let is_elsewhere = backend.vlan != here.vlan || backend.ifindex != here.interface.ifindex;
    if is_elsewhere || backend.has(backend_flags::LOCAL) {
        return None;
    }
    // Last, when nobody else decides any more: what is asked twice counts twice.
    if let Err(why) = guard::packets(here.tables, here.directory, service, client) {
        return Some(Plain::Refused(why));
    }
    settled.note(here.tables, here.directory);
    // The MAC it was sent to is ours here, whichever of ours it is.
    rewrite::macs(packet, backend.mac(), here.ours).ok()?;
    Some(Plain::Forwarded(settled.chosen.index))
}

/// Whether a frame may come from a backend of the service it is for, as far as the filters tell: one of a few bits that is
/// nearby, and one of many.
#[inline(always)]
fn may_be_backend<P: Packet, T: Tables>(
    packet: &P,
    here: &Here<'_, T>,
    service: &ServiceEntry,
) -> Option<bool> {
    let source = P::word_in::<14, 6>(packet.bytes::<14>(0)?);
    let (word, bit) = mac::backend_bit(source);
    if (here.half.no_backend[word] >> bit) & 1 != 0 {
        return Some(false);
    }
    let (word, bit) = mac::loop_filter_bit(mac::loop_key(source, service.service));
    Some(here.tables.loop_filter(word) & bit != 0)
}

/// Whether a TCP segment, whose header begins there, only asks for a connection.
#[inline(always)]
fn asks_for_connection<P: Packet>(packet: &P, transport: usize) -> Option<bool> {
    packet.bytes::<14>(transport).map(|header| parse::is_request(header[13]))
}

/// Four bytes as they stand.
#[inline(always)]
const fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Two bytes as they stand.
#[inline(always)]
const fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests;
