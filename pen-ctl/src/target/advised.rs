//! What a backend's agent asks for, and what comes of it.

use super::Seen;
use crate::state::desired::{Backend, Service};
use crate::state::validate::WEIGHTS;
use crate::surroundings::Advice;

/// What the agent of a backend asks for; nothing where none is asked (any more).
pub(super) fn advice(service: &Service, backend: &Backend, seen: &Seen) -> Advice {
    let sighting = seen.health.get(&(service.vip, backend.address)).filter(|_| service.asks_agent(backend));
    sighting.map_or_else(Advice::default, |sighting| sighting.advice)
}

/// A backend's share of newcomers, in the measure of its weight; 0 = none.
pub(super) fn share(weight: u16, advice: Advice) -> u16 {
    match advice.weight.map(u32::from) {
        None => weight,
        Some(0) => 0,
        Some(percent) => {
            let rounded = (u32::from(weight) * percent + 50) / 100;
            u16::try_from(rounded).unwrap_or(u16::MAX).clamp(*WEIGHTS.start(), *WEIGHTS.end())
        }
    }
}

/// Why a backend gets no newcomers, if its agent wants that.
pub(super) fn draining(advice: Advice) -> Option<&'static str> {
    match advice {
        Advice { drain: true, .. } => Some("draining: its agent says so"),
        Advice { weight: Some(0), .. } => Some("draining: its agent says 0%"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share_at(weight: u16, percent: u16) -> u16 {
        share(weight, Advice { weight: Some(percent), drain: false })
    }

    #[test]
    fn a_share_is_rounded_and_only_nothing_is_nothing() {
        assert_eq!(share(7, Advice::default()), 7);
        assert_eq!([100, 50, 1, 0].map(|percent| share_at(100, percent)), [100, 50, 1, 0]);
        assert_eq!([50, 33, 1].map(|percent| share_at(3, percent)), [2, 1, 1]);
        assert_eq!([200, 1000, 25_600].map(|percent| share_at(100, percent)), [200, 1000, 1000]);
    }

    proptest! {
        #[test]
        fn more_is_never_less_and_every_share_is_a_weight(
            weight in 1_u16..=1000, percent in 1_u16..=25_600, more in 0_u16..1000,
        ) {
            prop_assert!(WEIGHTS.contains(&share_at(weight, percent)));
            prop_assert!(share_at(weight, percent) <= share_at(weight, percent + more));
        }
    }
}
