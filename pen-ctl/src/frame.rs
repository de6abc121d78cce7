//! Ethernet frames, put together byte by byte: what announcements and diagnosis send.

use std::net::{IpAddr, Ipv4Addr};

use crate::dataplane::Mac;

pub(crate) const BROADCAST: Mac = Mac([0xff; 6]);
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(crate) const ARP_REQUEST: u8 = 1;
pub(crate) const ARP_REPLY: u8 = 2;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// An Ethernet header, with room for more.
pub(crate) fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// An ARP packet (RFC 826) to everybody on the link.
pub(crate) fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, sender.0, ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]); // Ethernet, IPv4, their lengths, what it is
    for (mac, address) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(address.octets());
    }
    frame
}

/// An IP packet in its frame. `payload` has its checksum already. Both addresses are of one family.
pub(crate) fn ip(
    macs: (Mac, Mac),
    (source, destination): (IpAddr, IpAddr),
    hop_limit: u8,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut frame;
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame = ethernet(macs.1, macs.0, ETHERTYPE_IPV6);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, hop_limit]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => {
            frame = ethernet(macs.1, macs.0, ETHERTYPE_IPV4);
            let mut header = vec![0x45, 0];
            header.extend((length + 20).to_be_bytes());
            header.extend([0, 0, 0x40, 0, hop_limit, protocol, 0, 0]); // never in fragments
            header.extend(octets(source));
            header.extend(octets(destination));
            let sum = fold(sum(&header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
        }
    }
    frame.extend(payload);
    frame
}

/// The checksum of TCP, UDP and ICMPv6: over a pseudo-header too (RFC 9293, 3.1; RFC 8200, 8.1).
pub(crate) fn checksum((source, destination): (IpAddr, IpAddr), protocol: u8, payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).unwrap_or(0);
    fold(sum(&octets(source)) + sum(&octets(destination)) + length + u32::from(protocol) + sum(payload))
}

/// The checksum of ICMP: over the message alone (RFC 792).
pub(crate) fn plain_checksum(message: &[u8]) -> u16 {
    fold(sum(message))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
