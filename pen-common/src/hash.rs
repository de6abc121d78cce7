//! The keyed hash that chooses a slot. 64-bit multiplications only: BPF has no wider ones.

use crate::abi::{Address, SLOTS};

/// Odd multipliers with bits well mixed, from the golden ratio and splitmix64 (Steele and others, OOPSLA 2014).
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const SPLIT_A: u64 = 0xbf58_476d_1ce4_e5b9;
const SPLIT_B: u64 = 0x94d0_49bb_1331_11eb;

/// Absorbs a word into a running hash.
#[inline(always)]
pub(crate) const fn absorb(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(GOLDEN);
    hash ^ (hash >> 32)
}

/// Spreads what was absorbed over all 64 bits (splitmix64's finalizer).
#[inline(always)]
pub(crate) const fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(SPLIT_A);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(SPLIT_B);
    hash ^ (hash >> 31)
}

/// Hash of an address alone: what affinity `client` chooses by.
#[inline(always)]
pub const fn client(seed: u64, client: &Address) -> u64 {
    let [high, low] = client.halves();
    if client.is_v4() { finish(absorb(seed, low)) } else { finish(absorb(absorb(seed, high), low)) }
}

/// Hash of a 5-tuple: what affinity `flow` chooses by. Ports in wire order.
#[inline(always)]
pub const fn flow(
    seed: u64,
    client: &Address,
    vip: &Address,
    client_port: u16,
    service_port: u16,
    protocol: u8,
) -> u64 {
    let rest = client_port as u64 | (service_port as u64) << 16 | (protocol as u64) << 32;
    let [high, low] = client.halves();
    let [vip_high, vip_low] = vip.halves();
    let hash = if client.is_v4() {
        absorb(seed, (low >> 32) | (vip_low & !0xffff_ffff))
    } else {
        absorb(absorb(absorb(absorb(seed, high), low), vip_high), vip_low)
    };
    finish(absorb(hash, rest))
}

/// The slot of a hash, 0 to [`SLOTS`] − 1: its upper half scaled down by multiplication.
#[inline(always)]
pub const fn slot(hash: u64) -> u32 {
    (((hash >> 32) * SLOTS as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    fn spread(hashes: impl Iterator<Item = u64>) -> f64 {
        let mut buckets = [0u32; 64];
        let mut count = 0;
        for hash in hashes {
            buckets[slot(hash) as usize * 64 / SLOTS as usize] += 1;
            count += 1;
        }
        let mean = f64::from(count) / 64.0;
        buckets.iter().map(|&n| (f64::from(n) - mean).powi(2) / mean).sum()
    }

    #[test]
    fn neighboring_clients_spread_evenly() {
        // Chi-square with 63 degrees of freedom: above 120 once in 100,000 draws.
        let v4 = (0..65_536u32).map(|i| client(7, &Ipv4Addr::from(0x0a00_0000 + i).into()));
        assert!(spread(v4) < 120.0);
        let v6 = (0..65_536u128).map(|i| client(7, &Ipv6Addr::from((0x2001_0db8 << 96) + i).into()));
        assert!(spread(v6) < 120.0);
        let prefixes = (0..65_536u128).map(|i| client(7, &Ipv6Addr::from((i << 64) + 1).into()));
        assert!(spread(prefixes) < 120.0);
    }

    #[test]
    fn neighboring_ports_spread_evenly() {
        for ip in ["10.0.0.1", "2001:db8::1"] {
            let ip: Address = ip.parse::<IpAddr>().unwrap().into();
            let ports = (1..=65_535u16).map(|port| flow(7, &ip, &ip, port.to_be(), 80u16.to_be(), 6));
            assert!(spread(ports) < 120.0);
        }
    }

    proptest! {
        #[test]
        fn every_hash_has_a_slot(hash: u64) {
            prop_assert!(slot(hash) < SLOTS);
        }

        #[test]
        fn every_part_of_a_flow_counts(seed: u64, a: [u8; 16], b: [u8; 16], x: u16, y: u16) {
            prop_assume!(a != b && x != y);
            let (a, b) = (Address::from(a), Address::from(b));
            let base = flow(seed, &a, &b, x, y, 6);
            prop_assert_ne!(base, flow(seed, &b, &b, x, y, 6));
            prop_assert_ne!(base, flow(seed, &a, &a, x, y, 6));
            prop_assert_ne!(base, flow(seed, &a, &b, y, y, 6));
            prop_assert_ne!(base, flow(seed, &a, &b, x, x, 6));
            prop_assert_ne!(base, flow(seed, &a, &b, x, y, 17));
            prop_assert_ne!(base, flow(seed ^ 1, &a, &b, x, y, 6));
        }
    }

    #[test]
    fn the_choice_is_part_of_the_contract_between_nodes() {
        // Nodes of a fleet and controllers of other builds must agree: these values may never change.
        let v4: Address = Ipv4Addr::new(10, 0, 0, 1).into();
        let v6: Address = Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0001u128).into();
        assert_eq!(
            [
                slot(client(1, &v4)),
                slot(client(1, &v6)),
                slot(flow(1, &v4, &v4, 1, 2, 6)),
                slot(flow(1, &v6, &v6, 1, 2, 6)),
            ],
            [36_864, 4_078, 35_467, 64_110]
        );
    }
}
