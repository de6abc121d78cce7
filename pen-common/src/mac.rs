//! MAC addresses as words of the map ABI, and the filter that tells most of them from those of backends.

use crate::abi::{Backend, Interface, LOOP_FILTER_WORDS, MAC_MASK, interface_flags};
use crate::hash::GOLDEN;

/// A MAC as a word: 48 bits, first byte lowest.
#[inline(always)]
pub const fn word(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// The MAC in the low 48 bits of a word; flags above are ignored.
#[inline(always)]
pub const fn bytes(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
    [a, b, c, d, e, f]
}

/// Key of map `backend_macs`: the MAC of a backend below, its service in the upper 16 bits.
#[inline(always)]
pub const fn loop_key(mac: u64, service: u16) -> u64 {
    (mac & MAC_MASK) | (service as u64) << 48
}

/// Where a [`loop_key`] stands in `loop_filter`: the word's index (below [`LOOP_FILTER_WORDS`]) and the bit's mask.
#[inline(always)]
pub const fn loop_filter_bit(key: u64) -> (usize, u64) {
    let hash = key.wrapping_mul(GOLDEN);
    let word = (hash >> 48) as usize & (LOOP_FILTER_WORDS - 1);
    (word, 1 << ((hash >> 58) & 63))
}

/// Where a MAC stands in [`crate::abi::DirectoryHalf::no_backend`]: the word's index, and the bit's number. Bits of the
/// argument above the MAC are ignored.
#[inline(always)]
pub const fn backend_bit(mac: u64) -> (usize, u32) {
    let hash = (mac << 16).wrapping_mul(GOLDEN);
    ((hash >> 57) as usize & 1, (hash >> 58) as u32)
}

impl Backend {
    /// Whether all these [`crate::abi::backend_flags`] are set.
    #[inline(always)]
    pub const fn has(&self, flags: u64) -> bool {
        self.word & flags == flags
    }

    /// Its MAC as a word.
    #[inline(always)]
    pub const fn mac(&self) -> u64 {
        self.word & MAC_MASK
    }
}

impl Interface {
    /// Its MAC as a word.
    #[inline(always)]
    pub const fn mac(&self) -> u64 {
        self.word & MAC_MASK
    }

    /// Whether frames to this MAC are for us: the interface's own, or its bond's or bridge's.
    #[inline(always)]
    pub const fn is_ours(&self, mac: u64) -> bool {
        mac == self.mac() || mac == self.master_mac & MAC_MASK
    }

    /// Whether requests for VIPs that arrive here are answered.
    #[inline(always)]
    pub const fn announces(&self) -> bool {
        self.word & interface_flags::ANNOUNCE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mac_survives_the_way_there_and_back_whatever_the_flags(mac: [u8; 6], flags: u16) {
            prop_assert_eq!(bytes(word(mac) | u64::from(flags) << 48), mac);
        }

        #[test]
        fn every_key_has_a_place_in_the_filter(key: u64) {
            let (index, bit) = loop_filter_bit(key);
            prop_assert!(index < LOOP_FILTER_WORDS && bit.count_ones() == 1);
        }
    }

    #[test]
    fn neighboring_macs_and_services_spread_over_the_filter() {
        let mut filter = [0u64; LOOP_FILTER_WORDS];
        for service in 0..16 {
            for last in 0..=255 {
                let (index, bit) = loop_filter_bit(loop_key(word([2, 0, 0, 0, 0, last]), service));
                filter[index] |= bit;
            }
        }
        let set: u32 = filter.iter().map(|word| word.count_ones()).sum();
        assert!(set > 3500, "only {set} bits for 4096 keys");
    }
}
