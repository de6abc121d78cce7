//! The frames that tell a link who owns a VIP, byte for byte.

use std::net::{IpAddr, Ipv6Addr};

use crate::dataplane::Mac;
use crate::frame::{ARP_REPLY, ARP_REQUEST, ICMPV6, arp, checksum, ip};

/// Where ff02::1, all nodes, goes (RFC 2464, section 7).
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const ALL_NODES: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

/// All frames that announce a VIP at a MAC. For IPv4 the request form that RFC 5227 (section 2.3) asks for and the
/// reply form, because some listen to one of them only; for IPv6 one advertisement.
pub(super) fn announcement(vip: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match vip {
        // Sender and target are the VIP.
        IpAddr::V4(vip) => {
            vec![arp(ARP_REQUEST, (mac, vip), (Mac([0; 6]), vip)), arp(ARP_REPLY, (mac, vip), (mac, vip))]
        }
        IpAddr::V6(vip) => vec![advertisement(vip, mac)],
    }
}

/// An unsolicited neighbor advertisement (RFC 4861, sections 4.4 and 7.2.6), Override set, to all nodes.
fn advertisement(vip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0]; // type, code, checksum, flags: Override
    message.extend(vip.octets());
    message.extend([2, 1]); // target link-layer address, 8 bytes
    message.extend(mac.0);
    let addresses = (IpAddr::V6(vip), ALL_NODES);
    let checksum = checksum(addresses, ICMPV6, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ip((mac, ALL_NODES_MAC), addresses, 255, ICMPV6, &message)
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
