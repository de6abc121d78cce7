//! Since when backends have not been usable: who was remembered with nobody meanwhile cannot be told from their own clients.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use pen_common::abi::backend_flags;

use super::XdpPlane;

/// Backends that are not usable, by index.
#[derive(Debug, Default)]
pub(super) struct Unusable {
    /// The second of the data plane's clock in which each was first seen so; `None` = when this was first looked at.
    since: BTreeMap<u16, Option<u32>>,
    /// Looked at before.
    looked: bool,
}

impl Unusable {
    /// Takes down who is not usable in this second.
    fn look(&mut self, now: u32, unusable: impl Iterator<Item = u16>) {
        let first = self.looked.then_some(now);
        let since = |index: u16| (index, self.since.get(&index).copied().unwrap_or(first));
        self.since = unusable.map(since).collect();
        self.looked = true;
    }

    /// Whether a backend has not been usable since before newcomers were last not remembered (`suppressed`). Of those that
    /// were so when this was first looked at nobody knows since when: that counts as from the beginning.
    pub(super) fn missed(&self, index: u16, suppressed: Option<u32>) -> bool {
        match (self.since.get(&index), suppressed) {
            (Some(Some(since)), Some(suppressed)) => suppressed.wrapping_sub(*since).cast_signed() >= 0,
            (Some(None), Some(_)) => true,
            _ => false,
        }
    }
}

impl XdpPlane {
    /// Takes down which backends are not usable now.
    pub(super) fn look_for_unusable(&mut self) -> Result<(), String> {
        let now = self.second()?;
        let usable = |index: u16| {
            let word = self.maps.backends.element(usize::from(index)).first();
            word.is_some_and(|word| word.load(Ordering::Acquire) & backend_flags::USABLE != 0)
        };
        let held = self.held.values().map(|held| held.index);
        self.unusable.look(now, held.filter(|index| !usable(*index)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_usable_when_newcomers_were_last_not_remembered_missed_nobody() {
        let mut unusable = Unusable::default();
        unusable.look(100, [].into_iter());
        unusable.look(110, [7].into_iter());
        unusable.look(120, [7, 8].into_iter());
        assert!(!unusable.missed(7, None) && !unusable.missed(7, Some(109)));
        assert!(unusable.missed(7, Some(110)) && unusable.missed(7, Some(115)));
        assert!(
            !unusable.missed(8, Some(115)) && unusable.missed(8, Some(125)) && !unusable.missed(9, Some(125))
        );
        unusable.look(130, [8].into_iter());
        unusable.look(140, [7, 8].into_iter());
        assert!(!unusable.missed(7, Some(135)) && unusable.missed(8, Some(135)), "7 was usable in between");
    }

    #[test]
    fn of_one_that_was_found_so_nobody_knows_since_when() {
        let mut unusable = Unusable::default();
        unusable.look(100, [7].into_iter());
        unusable.look(110, [7].into_iter());
        assert!(unusable.missed(7, Some(3)) && !unusable.missed(7, None));
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut unusable = Unusable::default();
        unusable.look(u32::MAX - 9, [].into_iter());
        unusable.look(u32::MAX - 1, [7].into_iter());
        assert!(unusable.missed(7, Some(3)) && !unusable.missed(7, Some(u32::MAX - 5)));
    }
}
