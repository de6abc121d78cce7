//! The frames that the benchmark sends: 96 bytes each, as a router would hand them to the balancer.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Length of every frame.
pub(super) const LENGTH: usize = 96;
/// The router's MAC, where frames come from.
pub(super) const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// A TCP segment over IPv4, with VLAN tags outermost first.
pub(super) fn tcp_v4(ours: [u8; 6], tags: &[u16], client: Ipv4Addr, vip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(ours, tags, 0x0800);
    ipv4(&mut frame, TCP, client, vip);
    tcp(&mut frame);
    frame.resize(LENGTH, 0);
    frame
}

/// A TCP segment over IPv4 that asks for a connection.
pub(super) fn syn_v4(ours: [u8; 6], client: Ipv4Addr, vip: Ipv4Addr) -> Vec<u8> {
    /// Offset of the bits that say what a segment is for.
    const BITS: usize = 14 + 20 + 13;
    let mut frame = tcp_v4(ours, &[], client, vip);
    frame[BITS] = 0x02;
    frame
}

/// A UDP datagram over IPv4, from port 40000 to port 80.
pub(super) fn udp_v4(ours: [u8; 6], client: Ipv4Addr, vip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(ours, &[], 0x0800);
    ipv4(&mut frame, UDP, client, vip);
    let length = (LENGTH - frame.len()) as u16;
    for word in [40_000, 80, length, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.resize(LENGTH, 0);
    frame
}

/// A TCP segment over IPv6.
pub(super) fn tcp_v6(ours: [u8; 6], client: Ipv6Addr, vip: Ipv6Addr) -> Vec<u8> {
    let mut frame = ethernet(ours, &[], 0x86dd);
    let payload = LENGTH - frame.len() - 40;
    frame.extend([0x60, 0, 0, 0, 0, payload as u8, TCP, 64]);
    frame.extend(client.octets());
    frame.extend(vip.octets());
    tcp(&mut frame);
    frame.resize(LENGTH, 0);
    frame
}

/// An ICMP echo request.
pub(super) fn echo_v4(ours: [u8; 6], client: Ipv4Addr, vip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(ours, &[], 0x0800);
    ipv4(&mut frame, ICMP, client, vip);
    let (identifier, sequence) = (7_u16, 1_u16);
    let sum = !(0x0800 + identifier + sequence);
    for word in [0x0800, sum, identifier, sequence] {
        frame.extend(word.to_be_bytes());
    }
    frame.resize(LENGTH, 0);
    frame
}

fn ethernet(destination: [u8; 6], tags: &[u16], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LENGTH);
    frame.extend(destination);
    frame.extend(ROUTER);
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

fn ipv4(frame: &mut Vec<u8>, protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) {
    let length = (LENGTH - frame.len()) as u8;
    let start = frame.len();
    frame.extend([0x45, 0, 0, length, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    let sum: u32 =
        frame[start..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[start + 10..start + 12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

/// An acknowledgement from port 40000 to port 80, checksum zero: nothing on the way looks at it.
fn tcp(frame: &mut Vec<u8>) {
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(80_u16.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
}
