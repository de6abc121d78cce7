//! The way of nearly all packets, in few steps: TCP or UDP in one piece, behind at most one VLAN tag, without IPv4 options
//! or IPv6 extension headers, to a service that has nothing to decide about them, or to a stranger.
//!
//! [`crate::pipeline`] says the same of them, and decides about all others; here it is asked less, in the order that leaves
//! least to be held.

use crate::abi::{
    Address, Directory, DirectoryHalf, Interface, MAC_MASK, ServiceEntry, TrackKeyV4, TrackKeyV6,
    backend_flags,
};
use crate::mac;
use crate::packet::Packet;
use crate::parse::{IPV4_HEADER, IPV6_HEADER, Ports, ethertype};
use crate::rewrite;
use crate::select::{self, Flow};
use crate::service::{self, TCP, UDP};
use crate::tables::Tables;
use crate::track::Key;

/// What became of a plain packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// It was rewritten for the backend of this index, and leaves by the interface it came in.
    Forwarded(u16),
    /// It passes, unchanged: its address is no VIP.
    Stranger,
}

/// The tables as they stand for a packet, and the interface it came in by.
struct Here<'a, T> {
    tables: &'a T,
    directory: &'a Directory,
    half: &'a DirectoryHalf,
    interface: &'a Interface,
    /// Outer VLAN ID; 0 = untagged.
    vlan: u32,
}

/// Where a packet comes from and goes to.
struct Headers {
    client: Address,
    vip: Address,
    protocol: u8,
    ports: Ports,
}

/// Decides about a frame and rewrites it, if it is a plain one; `None`: nothing was done about it, and
/// [`crate::pipeline::general`] has to look closer.
#[inline(always)]
pub fn run<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: u32) -> Option<Plain> {
    let ethernet = packet.bytes::<14>(0)?;
    let destination = u64_at(ethernet, 0) & MAC_MASK;
    let (mut ethertype, mut vlan, mut at) = (u16_at(ethernet, 12), 0, 14);
    if ethertype == ethertype::VLAN || ethertype == ethertype::SERVICE_VLAN {
        let tag = packet.bytes::<4>(14)?;
        // IEEE 802.1Q, 9.6: the low 12 bits.
        vlan = u32::from(u16::from_be(u16_at(tag, 0)) & 0x0fff);
        (ethertype, at) = (u16_at(tag, 2), 18);
    }
    let (directory, half) = tables.directory()?;
    let interface = service::interface(half, ingress)?;
    if !interface.is_ours(destination) {
        return None;
    }
    let here = Here { tables, directory, half, interface, vlan };
    match ethertype {
        ethertype::IPV4 => {
            let headers = ipv4(packet, at)?;
            decide::<TrackKeyV4, _, _>(packet, &here, &headers)
        }
        ethertype::IPV6 => {
            let headers = ipv6(packet, at)?;
            decide::<TrackKeyV6, _, _>(packet, &here, &headers)
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
    let header = packet.bytes::<IPV4_HEADER>(at)?;
    let (first, second) = (u64_at(header, 0), u64_at(header, 8));
    if first & (FRAGMENT | 0xff) != FIRST {
        return None;
    }
    let (length, protocol) = (usize::from(u16::from_be((first >> 16) as u16)), (second >> 8) as u8);
    let (client, vip) = (Address::v4((second >> 32) as u32), Address::v4(u32_at(header, 16)));
    let ports = ports(packet, at + IPV4_HEADER, at + length, protocol)?;
    Some(Headers { client, vip, protocol, ports })
}

/// The headers of an IPv6 packet (RFC 8200, 3).
#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: usize) -> Option<Headers> {
    let header = packet.bytes::<IPV6_HEADER>(at)?;
    let first = u64_at(header, 0);
    let (length, protocol) = (usize::from(u16::from_be((first >> 32) as u16)), (first >> 48) as u8);
    let address = |at| Address {
        words: [u32_at(header, at), u32_at(header, at + 4), u32_at(header, at + 8), u32_at(header, at + 12)],
    };
    let (client, vip) = (address(8), address(24));
    // An IPv4-mapped address on the wire is nobody's (RFC 4942, 2.2): it must not meet an IPv4 VIP.
    if first & 0xf0 != 0x60 || vip.is_v4() {
        return None;
    }
    let start = at + IPV6_HEADER;
    let ports = ports(packet, start, start + length, protocol)?;
    Some(Headers { client, vip, protocol, ports })
}

/// The ports of TCP or UDP from `at` to `end`, where all of it can be read and its header is sound: RFC 9293, 3.1; RFC 768.
#[inline(always)]
fn ports<P: Packet>(packet: &P, at: usize, end: usize, protocol: u8) -> Option<Ports> {
    let header = packet.bytes::<8>(at)?;
    let (least, length) = match protocol {
        TCP => (20, usize::from(packet.bytes::<13>(at)?[12] >> 4) * 4),
        UDP => (8, usize::from(u16::from_be(u16_at(header, 4)))),
        _ => return None,
    };
    if length < least || at + length > end || !packet.holds(end) {
        return None;
    }
    let both = u32_at(header, 0);
    Some(Ports { source: both as u16, destination: (both >> 16) as u16 })
}

/// Finds the service, and the backend that its client has.
#[inline(always)]
fn decide<K: Key, P: Packet, T: Tables>(
    packet: &mut P,
    here: &Here<'_, T>,
    headers: &Headers,
) -> Option<Plain> {
    let Headers { client, vip, protocol, ports } = headers;
    let Some(service) = service::exact(here.half, vip, ports.destination, *protocol) else {
        // It may be for every port of a VIP, or for a port that nobody serves.
        return if service::vip(here.half, vip).is_none() { Some(Plain::Stranger) } else { None };
    };
    if may_be_backend(packet, here, service)? {
        return None;
    }
    let flow = Flow { service, client, ports: *ports };
    let chosen = select::settled::<K, _>(here.tables, here.directory, flow)?;
    let backend = chosen.backend;
    if backend.has(backend_flags::LOCAL)
        || backend.vlan != here.vlan
        || backend.ifindex != here.interface.ifindex
    {
        return None;
    }
    // The MAC it was sent to is ours here, whichever of ours it is.
    let ours = u64_at(packet.bytes::<8>(0)?, 0);
    rewrite::macs(packet, backend.mac(), ours & MAC_MASK).ok()?;
    Some(Plain::Forwarded(chosen.index))
}

/// Whether a frame may come from a backend of the service it is for, as far as the filter tells.
#[inline(always)]
fn may_be_backend<P: Packet, T: Tables>(
    packet: &P,
    here: &Here<'_, T>,
    service: &ServiceEntry,
) -> Option<bool> {
    let source = u64_at(packet.bytes::<14>(0)?, 6) & MAC_MASK;
    let (word, bit) = mac::loop_filter_bit(mac::loop_key(source, service.service));
    Some(here.tables.loop_filter(word) & bit != 0)
}

/// Eight bytes as they stand: one load, because no other takes a part of them.
#[inline(always)]
const fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes([
        bytes[at],
        bytes[at + 1],
        bytes[at + 2],
        bytes[at + 3],
        bytes[at + 4],
        bytes[at + 5],
        bytes[at + 6],
        bytes[at + 7],
    ])
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
