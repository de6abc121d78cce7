//! What an access list said of late of IPv6 addresses, so that a client who sends again needs no look at the list's trie, which
//! costs several times as much. An address has one place for each answer, in a line that its hash names; the newest to come
//! there has it. The lines are empty when a list is put in place, and go with it.

use crate::abi::{BLOCK_LINES, access};
use crate::hash::{GOLDEN, absorb};
use crate::tables::Line;

/// The line of an address, whose halves these are, below [`BLOCK_LINES`].
#[inline(always)]
pub const fn line(high: u64, low: u64) -> u32 {
    (absorb(absorb(0, high), low) >> 32) as u32 & (BLOCK_LINES - 1)
}

/// What its line says of an address: a value of [`access`]; 0 = nothing.
#[inline(always)]
pub fn says<L: Line>(line: &L, high: u64, low: u64) -> u32 {
    for says in [access::ALLOW, access::DENY, access::REST] {
        let at = place(says);
        if line.word(at + 1) == low && line.word(at) == high && line.word(at + 2) == seal(high, low, says) {
            return says;
        }
    }
    0
}

/// Notes what the trie said of an address: a value of [`access`].
#[inline(always)]
pub fn note<L: Line>(line: &L, high: u64, low: u64, says: u32) {
    let at = place(says);
    line.set_word(at + 2, 0);
    line.set_word(at, high);
    line.set_word(at + 1, low);
    line.set_word(at + 2, seal(high, low, says));
}

/// Where three words are of an address of which this is said: one that is let in, or one that is refused in either way. Of two
/// addresses that two CPUs note in one place at the same time, words of both may stay, which let in no third one.
#[inline(always)]
const fn place(says: u32) -> u32 {
    if says == access::ALLOW { 0 } else { 4 }
}

/// Of two addresses that share a half, none has the other's; an empty place has nobody's.
#[inline(always)]
const fn seal(high: u64, low: u64, says: u32) -> u64 {
    high.rotate_left(31) ^ low ^ GOLDEN ^ (says as u64) << 56
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::access::{ALLOW, DENY, REST};
    use crate::host::HostLine;
    use proptest::prelude::*;

    #[test]
    fn an_empty_line_says_nothing_of_anybody() {
        let line = HostLine::of([0; 8]);
        assert_eq!([says(&line, 0, 0), says(&line, 1, 0), says(&line, GOLDEN, 0)], [0; 3]);
    }

    proptest! {
        #[test]
        fn what_was_noted_last_of_those_of_an_answer_is_said_and_of_nobody_else(
            noted in prop::collection::vec((0..3u64, 0..3u64), 1..20),
        ) {
            // The answer is the address's own, as with a list that does not change.
            let answer = |(high, low): (u64, u64)| [ALLOW, DENY, REST][(high + low) as usize % 3];
            let line = HostLine::of([0; 8]);
            let mut last = [None; 2];
            for address in noted {
                note(&line, address.0, address.1, answer(address));
                last[usize::from(answer(address) != ALLOW)] = Some(address);
                for high in 0..3 {
                    for low in 0..3 {
                        let known = last.contains(&Some((high, low)));
                        let expected = if known { answer((high, low)) } else { 0 };
                        prop_assert_eq!(says(&line, high, low), expected);
                    }
                }
            }
        }

        /// Each word may be of either of two addresses, as when two CPUs store at once.
        #[test]
        fn of_two_that_are_noted_at_once_no_third_comes(
            one in (0..4u64, 0..4u64),
            two in (0..4u64, 0..4u64),
            whose in prop::array::uniform3(any::<bool>()),
        ) {
            let of = |first: bool| if first { one } else { two };
            let (high, low) = (of(whose[0]).0, of(whose[1]).1);
            let (sealed_high, sealed_low) = of(whose[2]);
            let line = HostLine::of([high, low, seal(sealed_high, sealed_low, ALLOW), 0, 0, 0, 0, 0]);
            if says(&line, high, low) == ALLOW {
                prop_assert!([one, two].contains(&(high, low)));
            }
        }

        #[test]
        fn lines_of_neighbors_differ(high: u64, low: u64) {
            let lines: std::collections::BTreeSet<_> =
                (0..64u64).map(|near| line(high, low.wrapping_add(near))).collect();
            prop_assert!(lines.len() > 56, "{}", lines.len());
            prop_assert!(lines.iter().all(|line| *line < BLOCK_LINES));
        }
    }
}
