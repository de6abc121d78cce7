//! Round-robin: the order in which backends take turns, weighted and well mixed.
//!
//! A round gives each member as many turns as its weight says, then begins again. Its order is that of *smooth* weighted
//! round-robin (as nginx has it since 2012): every turn each member gains its share of the round, and who has most
//! takes the turn and pays with the whole round; so nobody takes its turns in one go.

use crate::abi::RING_TURNS;

/// The place of a turn in a round of this length; `None` where there are no turns.
#[inline(always)]
pub const fn place(turn: u64, length: u32) -> Option<usize> {
    if length == 0 {
        return None;
    }
    Some((turn % length as u64) as usize & (RING_TURNS - 1))
}

/// Fills `round` with positions into `weights`, as many turns as the round has, and returns how many.
///
/// Each member gets its weight, divided by the greatest divisor that all have in common. Where these add up to more
/// than [`RING_TURNS`] they are scaled down to fit: each keeps one turn, and what is left is shared in proportion,
/// rounded down. `credits` must be as long as `weights`; there are no turns when either is too short, when there
/// are no members, or when they are more than [`RING_TURNS`].
pub fn build(weights: &[u16], round: &mut [u16; RING_TURNS], credits: &mut [i64]) -> usize {
    let shares = Shares::new(weights);
    let length: u32 = weights.iter().map(|weight| shares.of(*weight)).sum();
    let length = length as usize;
    if weights.len() > RING_TURNS || credits.len() < weights.len() || length > RING_TURNS {
        return 0;
    }
    let credits = &mut credits[..weights.len()];
    credits.fill(0);
    for turn in &mut round[..length] {
        let mut next = 0;
        for (number, weight) in weights.iter().enumerate() {
            credits[number] += i64::from(shares.of(*weight));
            if credits[number] > credits[next] {
                next = number;
            }
        }
        credits[next] -= length as i64;
        *turn = next as u16;
    }
    length
}

/// How weights become turns.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// What all weights are divided by.
    divisor: u32,
    /// The sum of the weights so divided.
    total: u32,
    members: u32,
}

impl Shares {
    fn new(weights: &[u16]) -> Self {
        let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u32::from(*weight))).max(1);
        let total = weights.iter().map(|weight| u32::from(*weight) / divisor).sum();
        Self { divisor, total, members: weights.len() as u32 }
    }

    /// The turns of a member of this weight in one round.
    const fn of(&self, weight: u16) -> u32 {
        let exact = weight as u32 / self.divisor;
        let turns = RING_TURNS as u32;
        if self.total <= turns || self.members > turns {
            return exact;
        }
        // The sum is above the limit and the number of members is not, so somebody has more than one.
        1 + ((turns - self.members) as u64 * (exact as u64 - 1) / (self.total - self.members) as u64) as u32
    }
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_of(weights: &[u16]) -> Vec<u16> {
        let mut round = [0; RING_TURNS];
        let mut credits = vec![0; weights.len()];
        let length = build(weights, &mut round, &mut credits);
        round[..length].to_vec()
    }

    fn count(round: &[u16], member: usize) -> usize {
        round.iter().filter(|turn| usize::from(**turn) == member).count()
    }

    #[test]
    fn equals_take_turns() {
        assert_eq!(round_of(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(round_of(&[1000, 1000]), [0, 1], "only their proportion counts");
        assert_eq!(round_of(&[7]), [0]);
    }

    #[test]
    fn whoever_has_more_turns_takes_them_spread_over_the_round() {
        assert_eq!(round_of(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(round_of(&[2, 4, 2]), [1, 0, 2, 1]);
        assert_eq!(round_of(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nobody_is_nobodys_turn() {
        assert!(round_of(&[]).is_empty());
        assert_eq!(place(7, 0), None);
        assert!(round_of(&vec![1; RING_TURNS + 1]).is_empty(), "more members than turns");
        assert_eq!(round_of(&vec![1000; RING_TURNS]).len(), RING_TURNS);
    }

    #[test]
    fn a_round_that_would_be_too_long_keeps_everyone_and_nearly_the_proportions() {
        let weights: Vec<u16> = [vec![1000; 6], vec![500, 1]].concat();
        let round = round_of(&weights);
        assert!(round.len() <= RING_TURNS);
        let (heavy, half, light) = (count(&round, 0), count(&round, 6), count(&round, 7));
        assert!(heavy.abs_diff(2 * half) <= 2 && light == 1, "{heavy} {half} {light}");
        // Many of the lightest beside one of the heaviest: nobody goes without.
        let crowd: Vec<u16> = [vec![1; RING_TURNS - 96], vec![1000]].concat();
        let round = round_of(&crowd);
        assert!((0..crowd.len()).all(|member| count(&round, member) > 0));
    }

    proptest! {
        #[test]
        fn a_round_is_exact_and_nobody_waits_longer_than_fair(
            weights in prop::collection::vec(1u16..=20, 1..12),
        ) {
            let round = round_of(&weights);
            let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u32::from(*weight)));
            let length = weights.iter().map(|weight| u32::from(*weight) / divisor).sum::<u32>() as usize;
            prop_assert_eq!(round.len(), length);
            for (member, weight) in weights.iter().enumerate() {
                let share = usize::from(*weight) / divisor as usize;
                prop_assert_eq!(count(&round, member), share);
                // After any number of turns a member has had its fair part of them, to within its number of rivals.
                for taken in 1..=length {
                    let (had, fair) = (count(&round[..taken], member) * length, taken * share);
                    prop_assert!(had.abs_diff(fair) <= length * weights.len(), "{:?}", round);
                }
            }
        }
    }
}
