//! Builds frames layer by layer, from the inside out: `ethernet(…, ipv4(…, tcp(…)))`.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::parse::ICMPV6;

/// EtherTypes.
pub mod kind {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// MACs of a frame, and its VLAN IDs from the outermost on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub to: [u8; 6],
    /// Source.
    pub from: [u8; 6],
    /// VLAN IDs.
    pub vlans: Vec<u16>,
}

impl Ethernet {
    /// A frame with this payload. The outer of two tags is a service tag.
    pub fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.to, self.from].concat();
        for (depth, vlan) in self.vlans.iter().enumerate() {
            let outer_of_many = depth == 0 && self.vlans.len() > 1;
            frame.extend(if outer_of_many { 0x88a8u16 } else { 0x8100 }.to_be_bytes());
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }
}

/// An IPv4 packet with a right checksum; `options` are padded to words, `fragment` is flags and offset.
pub fn ipv4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    options: &[u8],
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let options = [options, &[0; 3]].concat();
    let options = &options[..options.len() / 4 * 4];
    let length = 20 + options.len();
    let mut packet = vec![0x40 | (length / 4) as u8, 0];
    packet.extend(((length + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([57, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(options);
    let checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet; `next` says what the payload (extension headers included) begins with.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// An IPv6 extension header of `words` × 8 bytes before what has the number `next`.
pub fn extension(next: u8, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; usize::from(words.max(1)) * 8];
    header[..2].copy_from_slice(&[next, words.max(1) - 1]);
    [&header, payload].concat()
}

/// An IPv6 fragment header; `offset` in units of 8 bytes.
pub fn fragment_header(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let field = (offset << 3 | u16::from(more)).to_be_bytes();
    [&[next, 0, field[0], field[1], 1, 2, 3, 4], payload].concat()
}

/// A TCP segment; pen looks at no checksum of it, so it has none.
pub fn tcp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&to.to_be_bytes());
    segment[12..14].copy_from_slice(&[0x50, 0x02]);
    segment.extend(payload);
    segment
}

/// A UDP datagram without checksum.
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(from.to_be_bytes());
    datagram.extend(to.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// An ICMP message of this type with a right checksum.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], &rest[..], data].concat();
    let checksum = checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An ICMPv6 message of this type with a right checksum.
pub fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], &rest[..], data].concat();
    let checksum = checksum(&[&pseudo_header(from, to, message.len()), &message[..]].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// A neighbor solicitation; with the asker's MAC where it gives one.
pub fn solicitation(from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr, mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut data = target.octets().to_vec();
    if let Some(mac) = mac {
        data.extend([1, 1]);
        data.extend(mac);
    }
    ipv6(from, to, ICMPV6, 255, &icmpv6(from, to, 135, 0, [0; 4], &data))
}

/// An ARP packet: 1 asks, 2 answers.
pub fn arp(
    operation: u8,
    from_mac: [u8; 6],
    from: Ipv4Addr,
    target_mac: [u8; 6],
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend(from_mac);
    packet.extend(from.octets());
    packet.extend(target_mac);
    packet.extend(target.octets());
    packet
}

/// What ICMPv6 checksums cover beside the message (RFC 8200, 8.1).
pub fn pseudo_header(from: Ipv6Addr, to: Ipv6Addr, length: usize) -> Vec<u8> {
    let mut header = [from.octets(), to.octets()].concat();
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, ICMPV6]);
    header
}

/// The Internet checksum (RFC 1071), the plain way. 0 of what holds a right one.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
