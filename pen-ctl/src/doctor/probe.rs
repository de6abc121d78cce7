//! The frames that checks ask with. All go from an address of this host to one MAC, or as solicitations to the link.
//!
//! Those for a VIP have a hop limit of 1: a backend that does not own the VIP and forwards says so (ICMP time exceeded)
//! rather than passing them on to somebody who does.

use std::net::{IpAddr, SocketAddr};

use super::patient::Seat;
use crate::announce::groups::solicited_node;
use crate::dataplane::Mac;
use crate::frame::{self, ARP_REQUEST, ICMP, ICMPV6, TCP, UDP};

/// For taking, never for forwarding.
const HOP_LIMIT: u8 = 1;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// Who has this address? ARP (RFC 826) or a neighbor solicitation (RFC 4861, section 4.3).
pub(super) fn who_has(address: IpAddr, from: &Seat) -> Option<Vec<u8>> {
    match (address, from.address) {
        (IpAddr::V4(address), IpAddr::V4(own)) => {
            Some(frame::arp(ARP_REQUEST, (from.mac, own), (Mac([0; 6]), address)))
        }
        (IpAddr::V6(address), IpAddr::V6(_)) => {
            let group = solicited_node(address);
            let [.., a, b, c, d] = group.octets();
            let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
            message.extend(address.octets());
            message.extend([1, 1]); // source link-layer address, 8 bytes
            message.extend(from.mac.0);
            let addresses = (from.address, IpAddr::V6(group));
            let checksum = frame::checksum(addresses, ICMPV6, &message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            let to = Mac([0x33, 0x33, a, b, c, d]);
            // RFC 4861, 7.1.1: anything less than 255 may come from elsewhere.
            Some(frame::ip((from.mac, to), addresses, 255, ICMPV6, &message))
        }
        _ => None,
    }
}

/// Opens a connection.
pub(super) fn syn(from: &Seat, mac: Mac, source_port: u16, to: SocketAddr, number: u32) -> Vec<u8> {
    tcp(from, mac, source_port, to, number, SYN)
}

/// Ends one that was accepted: `number` is one more than that of its [`syn`].
pub(super) fn rst(from: &Seat, mac: Mac, source_port: u16, to: SocketAddr, number: u32) -> Vec<u8> {
    tcp(from, mac, source_port, to, number, RST)
}

/// A segment without data and options (RFC 9293, section 3.1).
fn tcp(from: &Seat, mac: Mac, source_port: u16, to: SocketAddr, number: u32, flags: u8) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(source_port.to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(number.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, flags, 0x10, 0, 0, 0, 0, 0]); // five words, a window of 4096
    finish(from, mac, to.ip(), TCP, segment, 16)
}

/// A datagram without data.
pub(super) fn datagram(from: &Seat, mac: Mac, source_port: u16, to: SocketAddr) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8);
    datagram.extend(source_port.to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend([0, 8, 0, 0]);
    finish(from, mac, to.ip(), UDP, datagram, 6)
}

/// An echo request (RFC 792, RFC 4443) that is told from others by these two.
pub(super) fn echo(from: &Seat, mac: Mac, to: IpAddr, identifier: u16, sequence: u16) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    finish(from, mac, to, if to.is_ipv4() { ICMP } else { ICMPV6 }, message, 2)
}

/// Writes the checksum and puts headers in front.
fn finish(
    from: &Seat,
    mac: Mac,
    to: IpAddr,
    protocol: u8,
    mut payload: Vec<u8>,
    checksum_at: usize,
) -> Vec<u8> {
    let addresses = (from.address, to);
    let checksum = match protocol {
        ICMP => frame::plain_checksum(&payload),
        _ => frame::checksum(addresses, protocol, &payload),
    };
    // Zero means none in UDP (RFC 768).
    let checksum = if protocol == UDP && checksum == 0 { 0xffff } else { checksum };
    payload[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    frame::ip((from.mac, mac), addresses, HOP_LIMIT, protocol, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::listening::{Content, Heard};

    fn seat(address: &str) -> Seat {
        let (interface, address) = ("eth0".to_owned(), address.parse().unwrap());
        Seat { interface, ifindex: 2, mac: Mac([2, 0, 0, 0, 0, 1]), address }
    }

    /// The ones' complement sum over pseudo-header and payload of a right packet.
    fn sums_up(frame: &[u8], addresses: (IpAddr, IpAddr), protocol: u8, header: usize) -> bool {
        let payload = &frame[14 + header..];
        match protocol {
            ICMP => frame::plain_checksum(payload) == 0,
            _ => frame::checksum(addresses, protocol, payload) == 0,
        }
    }

    #[test]
    fn what_is_sent_is_well_formed_in_both_families() {
        let mac = Mac([2, 0, 0, 0, 0, 2]);
        for (own, vip, header) in [("10.0.0.2", "10.0.0.100", 20), ("2001:db8::2", "2001:db8::100", 40)] {
            let from = seat(own);
            let vip: IpAddr = vip.parse().unwrap();
            let addresses = (from.address, vip);
            let to = SocketAddr::new(vip, 80);
            let icmp = if vip.is_ipv4() { ICMP } else { ICMPV6 };
            assert!(sums_up(&syn(&from, mac, 4000, to, 7), addresses, TCP, header));
            assert!(sums_up(&datagram(&from, mac, 4000, to), addresses, UDP, header));
            assert!(sums_up(&echo(&from, mac, vip, 1, 2), addresses, icmp, header));
            let Some(Heard { content: Content::Tcp(segment), from_mac, .. }) =
                Heard::parse(&syn(&from, mac, 4000, to, 7))
            else {
                panic!("not TCP");
            };
            assert_eq!((segment.from, segment.to), (SocketAddr::new(from.address, 4000), to));
            assert_eq!((segment.flags, from_mac), (SYN, from.mac));
        }
    }

    #[test]
    fn a_solicitation_goes_to_those_who_may_have_the_address() {
        let frame = who_has("2001:db8::1:0203".parse().unwrap(), &seat("2001:db8::2")).unwrap();
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 1, 2, 3]);
        assert_eq!(frame[21], 255);
        let frame = who_has("10.0.0.100".parse().unwrap(), &seat("10.0.0.2")).unwrap();
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[38..], [10, 0, 0, 100]);
    }
}
