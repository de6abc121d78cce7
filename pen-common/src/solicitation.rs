//! Neighbor solicitations (RFC 4861, 4.3): which frames are one, whether it is valid, and for whom it asks.

use crate::abi::Address;
use crate::packet::Packet;
use crate::parse::{IPV6_HEADER, IpHeader};
use crate::rewrite::Sum;

/// Length of a solicitation without options.
const FIXED: usize = 24;
/// Options looked at most; a solicitation with more is left to the local stack.
const OPTIONS: usize = 5;

/// Whether a MAC is that of a solicited-node group: `33:33:ff:…` (RFC 2464, 7; RFC 4291, 2.7.1).
#[inline(always)]
pub const fn is_group_mac(mac: u64) -> bool {
    mac & 0xff_ffff == 0xff_3333
}

/// The address that a valid solicitation asks for; `None` for everything else.
///
/// Valid as RFC 4861, 7.1.1 has it, checksum included, and neither from a group (RFC 4291, 2.7) nor for an IPv4
/// address. `header` says that the next header is ICMPv6; that it is one of IPv6 is looked at here.
#[inline(always)]
pub fn target<P: Packet>(packet: &P, header: &IpHeader) -> Option<Address> {
    let at = header.at + IPV6_HEADER;
    let length = header.payload_length();
    let options = length.checked_sub(FIXED)? / 8;
    if header.version() != 6
        || header.hops != 255
        || !length.is_multiple_of(8)
        || options > OPTIONS
        || !packet.reaches(at + length)
    {
        return None;
    }
    let fixed = packet.bytes::<8>(at)?;
    let target = Address::from(*packet.bytes::<16>(at + 8)?);
    if fixed[0] != 135 || fixed[1] != 0 || target.is_v4() {
        return None;
    }
    let unspecified = header.source == Address::default();
    if !unspecified && !header.source.is_v6_host() {
        return None;
    }
    let addresses = packet.bytes::<32>(header.at + 8)?;
    let mut sum = Sum::pseudo_header(length).bytes(addresses).bytes(packet.bytes::<FIXED>(at)?);
    for number in 0..OPTIONS {
        if number == options {
            break;
        }
        let option = packet.bytes::<8>(at + FIXED + number * 8)?;
        // Each option of Ethernet's neighbors is 8 bytes long; an asker without address gives none of its own.
        if option[1] != 1 || (option[0] == 1 && unspecified) {
            return None;
        }
        sum = sum.bytes(option);
    }
    let to_group = is_solicited_node(&header.destination);
    (sum.folded() == 0xffff && (to_group || !unspecified)).then_some(target)
}

/// Whether an address is a solicited-node group: `ff02::1:ff00:0/104` (RFC 4291, 2.7.1).
#[inline(always)]
const fn is_solicited_node(address: &Address) -> bool {
    let [a, b, c, d] = address.words;
    a == u32::from_ne_bytes([0xff, 2, 0, 0])
        && b == 0
        && c == u32::from_ne_bytes([0, 0, 0, 1])
        && d & u32::from_ne_bytes([0xff, 0, 0, 0]) == u32::from_ne_bytes([0xff, 0, 0, 0])
}
