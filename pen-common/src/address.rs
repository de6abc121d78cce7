//! IP addresses as the map ABI holds them, and conversion from and to those of `core::net`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::abi::Address;

/// Third word of an IPv4-mapped address: `00 00 ff ff` as it stands in memory (RFC 4291, 2.5.5.2).
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Address {
    /// An IPv4 address from its word in wire order.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// Whether a single host may have this IPv4 address, so that there is somebody to answer: no group, broadcast,
    /// loopback or unspecified address (RFC 1122, 3.2.1.3).
    #[inline(always)]
    pub const fn is_v4_host(&self) -> bool {
        let [first, ..] = self.words[3].to_ne_bytes();
        first != 0 && first != 127 && first >> 4 != 0xe && self.words[3] != u32::MAX
    }

    /// The same of an IPv6 address: no group (RFC 4291, 2.7), and none of `::/64`, where the unspecified and the
    /// loopback address are and those that mean IPv4 ones (2.5.2 to 2.5.5).
    #[inline(always)]
    pub const fn is_v6_host(&self) -> bool {
        let [first, ..] = self.words[0].to_ne_bytes();
        first != 0xff && self.words[0] | self.words[1] != 0
    }

    /// The 16 bytes, an IPv4 address mapped.
    pub const fn octets(&self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = [
            self.words[0].to_ne_bytes(),
            self.words[1].to_ne_bytes(),
            self.words[2].to_ne_bytes(),
            self.words[3].to_ne_bytes(),
        ];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The address for people and sockets; an IPv4-mapped one becomes IPv4.
    pub fn to_ip(&self) -> IpAddr {
        Ipv6Addr::from(self.octets()).to_canonical()
    }

    /// The address of these halves.
    #[inline(always)]
    pub const fn of_halves([high, low]: [u64; 2]) -> Self {
        Self { words: [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32] }
    }

    /// The 16 bytes in two words, for hashing.
    #[inline(always)]
    pub const fn halves(&self) -> [u64; 2] {
        [
            self.words[0] as u64 | (self.words[1] as u64) << 32,
            self.words[2] as u64 | (self.words[3] as u64) << 32,
        ]
    }
}

impl From<[u8; 16]> for Address {
    #[inline(always)]
    fn from(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self {
            words: [
                u32::from_ne_bytes([a, b, c, d]),
                u32::from_ne_bytes([e, f, g, h]),
                u32::from_ne_bytes([i, j, k, l]),
                u32::from_ne_bytes([m, n, o, p]),
            ],
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Self::v4(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Self {
        Self::from(ip.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::from(ip),
            IpAddr::V6(ip) => Self::from(ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_ipv4_address_survives_the_way_there_and_back(bytes: [u8; 4]) {
            let ip = IpAddr::from(bytes);
            prop_assert!(Address::from(ip).is_v4());
            prop_assert_eq!(Address::from(ip).to_ip(), ip);
        }

        #[test]
        fn an_ipv6_address_survives_the_way_there_and_back(bytes: [u8; 16]) {
            let ip = IpAddr::from(bytes).to_canonical();
            prop_assert_eq!(Address::from(ip).to_ip(), ip);
            prop_assert_eq!(Address::from(ip).is_v4(), ip.is_ipv4());
        }
    }

    #[test]
    fn words_are_in_wire_order() {
        let address = Address::from(Ipv4Addr::new(10, 0, 0, 100));
        assert_eq!(address.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 100]);
        assert_eq!(address.words[3].to_ne_bytes(), [10, 0, 0, 100]);
    }
}
