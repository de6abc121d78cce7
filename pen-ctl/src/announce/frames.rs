//! The frames that tell a link who owns a VIP, byte for byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dataplane::Mac;

const BROADCAST: Mac = Mac([0xff; 6]);
/// Where ff02::1, all nodes, goes (RFC 2464, section 7).
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
const ICMPV6: u8 = 58;

/// All frames that announce a VIP at a MAC. For IPv4 the request form that RFC 5227 (section 2.3) asks for and the
/// reply form, because some listen to one of them only; for IPv6 one advertisement.
pub(super) fn announcement(vip: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match vip {
        IpAddr::V4(vip) => vec![arp(ARP_REQUEST, vip, mac, Mac([0; 6])), arp(ARP_REPLY, vip, mac, mac)],
        IpAddr::V6(vip) => vec![advertisement(vip, mac)],
    }
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// A gratuitous ARP packet (RFC 826): sender and target are the VIP.
fn arp(operation: u8, vip: Ipv4Addr, mac: Mac, target: Mac) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]); // Ethernet, IPv4, their lengths, what it is
    frame.extend(mac.0);
    frame.extend(vip.octets());
    frame.extend(target.0);
    frame.extend(vip.octets());
    frame
}

/// An unsolicited neighbor advertisement (RFC 4861, sections 4.4 and 7.2.6), Override set, to all nodes.
fn advertisement(vip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0]; // type, code, checksum, flags: Override
    message.extend(vip.octets());
    message.extend([2, 1]); // target link-layer address, 8 bytes
    message.extend(mac.0);
    let checksum = checksum(vip, ALL_NODES, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]); // payload of 32 bytes, hop limit 255
    frame.extend(vip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The ICMPv6 checksum (RFC 4443, section 2.3) of a message of even length.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words =
        |bytes: &[u8]| bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut sum =
        words(&source.octets()) + words(&destination.octets()) + length + u32::from(ICMPV6) + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_gratuitous_arp_is_both_request_and_reply() {
        let frames = announcement("10.0.0.100".parse().unwrap(), MAC);
        let request = "ffffffffffff 021122334455 0806 0001 0800 06 04 0001 \
                       021122334455 0a000064 000000000000 0a000064";
        let reply = "ffffffffffff 021122334455 0806 0001 0800 06 04 0002 \
                     021122334455 0a000064 021122334455 0a000064";
        assert_eq!(frames, [bytes(request), bytes(reply)]);
    }

    #[test]
    fn an_unsolicited_advertisement_goes_to_all_nodes_and_overrides() {
        let frames = announcement("2001:db8::64".parse().unwrap(), MAC);
        let expected = "333300000001 021122334455 86dd 60000000 0020 3a ff \
                        20010db8000000000000000000000064 ff020000000000000000000000000001 \
                        88 00 91cc 20000000 20010db8000000000000000000000064 02 01 021122334455";
        assert_eq!(frames, [bytes(expected)]);
    }

    #[test]
    fn the_sum_over_pseudo_header_and_message_is_all_ones() {
        for vip in ["2001:db8::64", "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::"] {
            let frame = &announcement(vip.parse().unwrap(), MAC)[0];
            let mut sum = 32 + u64::from(ICMPV6);
            sum += frame[22..]
                .chunks(2)
                .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum::<u64>();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(sum, 0xffff, "{vip}");
        }
    }
}
