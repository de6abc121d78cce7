//! Rings: whose turn it is with round-robin, each round written beside the slot table that it is flipped with.
//!
//! Every table has its round, whatever its service's scheduler: so that a change of scheduler is one bit. The count of
//! turns taken is the data plane's own and goes on through changes and adoption.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use pen_common::abi::{RING_TURNS, Ring, Round};
use pen_common::ring;

use super::checksum;
use super::mapped;
use super::maps::Maps;
use crate::dataplane::Member;

/// A round as it is before anybody takes part.
const EMPTY: Round = Round { length: 0, reserved: 0, backends: [0; RING_TURNS] };

impl Maps {
    /// Makes a service whose tables were just made begin without turns.
    pub(super) fn clear_rounds(&self, service: u16) {
        for half in 0..2 {
            mapped::write_plain(self.round(service, half), &EMPTY);
        }
    }

    /// Writes the round of these members, of these backend indexes, into a half that is not in use; gives its checksum.
    pub(super) fn write_round(&self, service: u16, half: u32, members: &[Member], owners: &[u16]) -> u64 {
        let weights: Vec<u16> = members.iter().map(|member| member.weight).collect();
        let mut round = EMPTY;
        let length = turns(&weights, &mut round.backends);
        for turn in &mut round.backends[..length] {
            *turn = owners.get(usize::from(*turn)).copied().unwrap_or(pen_common::abi::NO_BACKEND);
        }
        round.length = length as u32;
        mapped::write_plain(self.round(service, half), &round);
        self.round_checksum(service, half)
    }

    /// A checksum of a round as packets find it.
    pub(super) fn round_checksum(&self, service: u16, half: u32) -> u64 {
        checksum::of(self.round(service, half).iter().map(|cell| cell.load(Ordering::Acquire)))
    }

    fn round(&self, service: u16, half: u32) -> &[AtomicU64] {
        let size = size_of::<Round>() / 8;
        let start = offset_of!(Ring, halves) / 8 + (half & 1) as usize * size;
        self.rings.element(usize::from(service)).get(start..start + size).unwrap_or_default()
    }
}

/// As [`ring::build`]. That takes members times turns; where all weigh the same, each has one turn, in their order.
fn turns(weights: &[u16], round: &mut [u16; RING_TURNS]) -> usize {
    let alike = weights.iter().all(|weight| *weight > 0 && *weight == weights[0]);
    match round.get_mut(..weights.len()) {
        Some(turns) if alike => {
            turns.iter_mut().zip(0..).for_each(|(turn, number)| *turn = number);
            weights.len()
        }
        _ => ring::build(weights, round, &mut vec![0; weights.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_one_weight_take_the_turns_that_any_weights_would_give_them() {
        for (members, weight) in [(0, 1), (1, 7), (3, 1000), (100, 2), (RING_TURNS, 1), (RING_TURNS + 1, 1)] {
            let weights = vec![weight; members];
            let (mut quick, mut built) = ([0; RING_TURNS], [0; RING_TURNS]);
            let length = ring::build(&weights, &mut built, &mut vec![0; members]);
            assert_eq!(turns(&weights, &mut quick), length, "{members} of weight {weight}");
            assert_eq!(quick[..length], built[..length], "{members} of weight {weight}");
        }
    }
}
