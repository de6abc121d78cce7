//! Which probe address stands for which VIP at which backend. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pen_common::probe::{self, NUMBERS};

use crate::dataplane::Mac;
use crate::surroundings::Lane;

/// What a probe address stands for; two addresses of one host are one.
pub(super) type Key = (IpAddr, u32, Mac);

/// What a lane's probe address stands for.
pub(super) fn key(lane: &Lane) -> Key {
    (lane.vip, lane.ifindex, lane.mac)
}

/// The addresses in use.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    of: BTreeMap<Key, IpAddr>,
    taken: BTreeSet<IpAddr>,
}

impl Numbers {
    /// The probe address for a VIP at a backend: the one it has, else the first that nobody has. `None` = all of that
    /// VIP are taken.
    pub(super) fn allot(&mut self, key: Key) -> Option<IpAddr> {
        if let Some(alias) = self.of.get(&key) {
            return Some(*alias);
        }
        let alias = (1..=NUMBERS).map(|number| probe::alias(key.0, number));
        let alias = alias.into_iter().find(|alias| !self.taken.contains(alias))?;
        self.taken.insert(alias);
        self.of.insert(key, alias);
        Some(alias)
    }

    /// Keeps these, and returns the addresses of all others, which are free now.
    pub(super) fn keep_only(&mut self, keys: &BTreeSet<Key>) -> Vec<IpAddr> {
        let freed: Vec<IpAddr> =
            self.of.extract_if(.., |key, _| !keys.contains(key)).map(|(_, alias)| alias).collect();
        for alias in &freed {
            self.taken.remove(alias);
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_with_the_same_sum_share_no_probe_address_and_one_that_stays_keeps_its_own() {
        let vips: [IpAddr; 2] = [[10, 0, 0, 100].into(), [0, 100, 10, 0].into()];
        let keys: BTreeSet<Key> =
            (0..100u8).flat_map(|n| vips.map(|vip| (vip, 2, Mac([2, 0, 0, 0, 0, n])))).collect();
        let mut numbers = Numbers::default();
        let before: BTreeMap<Key, IpAddr> =
            keys.iter().map(|key| (*key, numbers.allot(*key).unwrap())).collect();
        assert_eq!(before.values().collect::<BTreeSet<_>>().len(), keys.len());

        let kept: BTreeSet<Key> = keys.iter().filter(|(vip, ..)| *vip == vips[1]).copied().collect();
        assert_eq!(numbers.keep_only(&kept).len(), 100);
        assert!(kept.iter().all(|key| numbers.allot(*key) == Some(before[key])));
    }

    #[test]
    fn the_4096th_backend_of_a_vip_has_no_probe_address_until_another_goes() {
        let vip = IpAddr::from([10, 0, 0, 100]);
        let key = |n: u16| (vip, 2, Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]));
        let mut numbers = Numbers::default();
        assert!((0..NUMBERS).all(|n| numbers.allot(key(n)).is_some()));
        assert_eq!(numbers.allot(key(NUMBERS)), None);
        numbers.keep_only(&(1..NUMBERS).map(key).collect());
        assert!(numbers.allot(key(NUMBERS)).is_some());
    }
}
