//! A checksum that shows that somebody else wrote where we did. Taken of every table at each look, so it is quick; it
//! need not withstand anybody: whoever may write there may do worse.

/// An odd number without a pattern: multiplying by it loses nothing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Sums side by side, as processors multiply several numbers at once.
const LANES: usize = 4;

/// The checksum of these numbers in their order. It differs whenever a single one does.
pub(super) fn of(numbers: impl ExactSizeIterator<Item = u64>) -> u64 {
    let mut lanes = [numbers.len() as u64; LANES];
    for (at, number) in numbers.enumerate() {
        let lane = &mut lanes[at % LANES];
        *lane = step(*lane, number);
    }
    lanes.into_iter().reduce(step).unwrap_or_default()
}

/// Each of the two being given, no two values of the other lead to the same.
fn step(sum: u64, number: u64) -> u64 {
    (sum ^ number).wrapping_mul(FACTOR).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_other_number_or_another_order_is_another_checksum() {
        let numbers: Vec<u64> = (0..1000).map(|n| n * n % 17).collect();
        let sum = of(numbers.iter().copied());
        assert_eq!(sum, of(numbers.iter().copied()));
        for at in 0..numbers.len() {
            let mut other = numbers.clone();
            other[at] ^= 1;
            assert_ne!(sum, of(other.into_iter()), "number {at} is another");
        }
        for (one, two) in [(0, 1), (0, 4), (2, 7), (998, 999)] {
            let mut other = numbers.clone();
            other.swap(one, two);
            assert!(numbers[one] == numbers[two] || sum != of(other.into_iter()), "{one} and {two} swapped");
        }
        assert_ne!(of([0; 4].into_iter()), of([0; 5].into_iter()), "one more");
    }
}
