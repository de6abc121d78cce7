//! What the programs that carry health checks along the DSR path share with the controller: addresses, and map types.
//!
//! A check connects to a *probe address*, which nobody has. On the way out it becomes the VIP at one backend's MAC; in
//! the answer the VIP becomes the probe address again. Probe addresses have the same one's-complement sum as their VIP
//! (RFC 1071), so no checksum changes: not that of TCP or UDP, nor that of an ICMP error that quotes such a packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::abi::Address;

/// First byte of the IPv4 probe addresses, of 240.0.0.0/4: reserved, and never seen on a wire (RFC 1112, 4).
const V4_FIRST: u8 = 0xf0;
/// The prefix of the IPv6 ones: a unique local one (RFC 4193), never seen on a wire either.
const V6_PREFIX: [u16; 3] = [0xfd70, 0x656e, 0x9c4d];
/// So many probe addresses one VIP may have; number 0 is nobody's.
pub const NUMBERS: u16 = 0x0fff;
/// Checks whose questions are remembered, in map `probe_asked`.
pub const MAX_ASKED: u32 = 16_384;
/// Probe addresses at most, in map `probe_lanes`.
pub const MAX_LANES: u32 = 65_536;

/// Where a probe address leads, in map `probe_lanes`: value of the key [`Address`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// The VIP that is asked.
    pub vip: Address,
    /// The backend's MAC, two bytes at a time in wire order.
    pub mac: [u16; 3],
    /// Zero.
    pub reserved: u16,
}

/// A question, as its answer will tell of it: key of map `probe_asked`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The VIP that was asked.
    pub vip: Address,
    /// Who asked.
    pub own: Address,
    /// The MAC of the backend that was asked, two bytes at a time in wire order.
    pub mac: [u16; 3],
    /// IP protocol number; 1 for ICMPv6 too.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// The interface it went out by.
    pub ifindex: u32,
    /// The port it was asked from, in wire order; of an echo request, its identifier.
    pub own_port: u16,
    /// The port that was asked, in wire order; 0 of an echo request.
    pub port: u16,
}

/// What is remembered of a question: value of map `probe_asked`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The probe address it was sent to.
    pub alias: Address,
    /// When its last packet went out, ns of the kernel's monotonic clock.
    pub at: u64,
}

const _: () = {
    assert!(size_of::<Lane>() == 24);
    assert!(size_of::<Question>() == 48);
    assert!(size_of::<Asked>() == 24);
};

/// Whether this is a probe address, as far as its prefix says.
#[inline(always)]
pub const fn is_alias(address: &Address) -> bool {
    let [first, ..] = address.words[3].to_ne_bytes();
    let [a, b, c, d] = address.words[0].to_ne_bytes();
    let [e, f, ..] = address.words[1].to_ne_bytes();
    let [one, two, three] = V6_PREFIX;
    let v6 = u16::from_be_bytes([a, b]) == one
        && u16::from_be_bytes([c, d]) == two
        && u16::from_be_bytes([e, f]) == three;
    v6 || address.is_v4() && first >= V4_FIRST
}

/// The probe address of that number, up to [`NUMBERS`], for a VIP. Those of one VIP differ; those of two VIPs may be
/// the same.
pub fn alias(vip: IpAddr, number: u16) -> IpAddr {
    match vip {
        IpAddr::V4(vip) => {
            let [a, b, c, d] = vip.octets();
            let high = u16::from(V4_FIRST) << 8 | number;
            let sum = u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]));
            let [e, f] = high.to_be_bytes();
            let [g, h] = difference(sum, u32::from(high)).to_be_bytes();
            Ipv4Addr::new(e, f, g, h).into()
        }
        IpAddr::V6(vip) => {
            let [one, two, three] = V6_PREFIX;
            let sum = vip.segments().iter().map(|segment| u32::from(*segment)).sum();
            let high = [one, two, three, number].iter().map(|word| u32::from(*word)).sum();
            Ipv6Addr::new(one, two, three, 0, 0, 0, number, difference(sum, high)).into()
        }
    }
}

/// The word that makes up the difference of two sums, modulo 0xffff as checksums are.
fn difference(sum: u32, high: u32) -> u16 {
    const MODULUS: u32 = 0xffff;
    ((sum % MODULUS + MODULUS - high % MODULUS) % MODULUS) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sum that checksums are made of (RFC 1071), folded.
    fn sum(address: IpAddr) -> u32 {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let words = octets.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        words.sum::<u32>() % 0xffff
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            Just(IpAddr::from([255, 255, 0, 0])),
            Just(IpAddr::from([0, 0, 0, 0])),
        ]
    }

    proptest! {
        #[test]
        fn no_checksum_changes_where_a_vip_and_its_probe_address_take_turns(
            vip in address(),
            number in 1..=NUMBERS,
        ) {
            let alias = alias(vip, number);
            prop_assert_eq!(sum(alias), sum(vip));
            prop_assert_eq!(alias.is_ipv4(), vip.is_ipv4());
            prop_assert!(is_alias(&alias.into()));
            prop_assert_ne!(alias, IpAddr::from([255; 4]));
        }

        #[test]
        fn backends_of_a_vip_have_probe_addresses_of_their_own(
            vip in address(),
            one in 1..=NUMBERS,
            two in 1..=NUMBERS,
        ) {
            prop_assert_eq!(one == two, alias(vip, one) == alias(vip, two));
        }
    }

    #[test]
    fn other_addresses_are_no_probe_addresses() {
        for other in ["10.0.0.1", "239.255.255.255", "fd70:656e:9c4e::1", "fe80::1", "::f000:1", "::1"] {
            let other: IpAddr = other.parse().unwrap();
            assert!(!is_alias(&other.into()), "{other}");
        }
    }
}
