//! What an access list says of blocks of IPv4 addresses, /24s: two bits for each, so that most packets need no look at the
//! list's trie, which costs several times as much. The first sixteen bits of an address name the line, the next eight the
//! block in it.

use crate::tables::Line;

/// The trie knows: something in the block is listed by itself.
pub const ASK: u32 = 0;
/// Blocks in a word.
const BLOCKS: u32 = 32;

/// The line of an address in wire order, below [`crate::abi::BLOCK_LINES`].
#[inline(always)]
pub const fn line(address: u32) -> u32 {
    let [a, b, ..] = address.to_ne_bytes();
    (a as u32) << 8 | b as u32
}

/// What its line says of an address in wire order: a value of [`crate::abi::access`], or [`ASK`].
#[inline(always)]
pub fn says<L: Line>(line: &L, address: u32) -> u32 {
    let [_, _, block, _] = address.to_ne_bytes();
    let block = block as u32;
    (line.word(block / BLOCKS) >> (2 * (block % BLOCKS))) as u32 & 3
}

/// Words of all lines.
pub const WORDS: usize = (1 << 24) / BLOCKS as usize;

/// Writes the lines of a list, one behind the other, eight words each: `prefixes` are addresses in host order, their lengths
/// and what becomes of them, shorter ones before longer ones, which overrule them; `others` is what becomes of all else.
pub fn write(words: &mut [u64; WORDS], prefixes: impl Iterator<Item = (u32, u8, u32)>, others: u32) {
    /// The same in each block of a word.
    const EACH: u64 = u64::MAX / 3;
    words.fill(EACH * u64::from(others));
    for (address, length, becomes) in prefixes {
        let (first, count) = (address >> 8, 1 << (24 - u32::from(length.min(24))));
        let says = u64::from(if length > 24 { ASK } else { becomes });
        if count >= BLOCKS {
            // Such a prefix begins and ends where words do.
            words[(first / BLOCKS) as usize..((first + count) / BLOCKS) as usize].fill(EACH * says);
            continue;
        }
        for block in first..first + count {
            let (word, shift) = (&mut words[(block / BLOCKS) as usize], 2 * (block % BLOCKS));
            *word = *word & !(3 << shift) | says << shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::access::{ALLOW, DENY};
    use crate::host::HostLine;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What the longest prefix says that an address is in.
    fn longest(prefixes: &[(u32, u8, u32)], others: u32, address: u32) -> u32 {
        let is_in = |&&(prefix, length, _): &&(u32, u8, u32)| {
            length == 0 || (prefix ^ address) >> (32 - u32::from(length)) == 0
        };
        prefixes.iter().filter(is_in).max_by_key(|(_, length, _)| *length).map_or(others, |found| found.2)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_say_what_the_longest_prefix_does_or_to_ask(
            listed in prop::collection::btree_map((0..4u32, 0..4u32, 1..=32u8), any::<bool>(), 0..12),
            others: bool,
            near in prop::collection::vec((0..4u32, 0..4u32, any::<u8>()), 60),
        ) {
            let word = |allowed: bool| if allowed { ALLOW } else { DENY };
            let at = |high: u32, low: u32| (high << 30 | 0x0a0a_0000) + (low << 7);
            let cut = |address: u32, length: u8| address & u32::MAX << (32 - u32::from(length));
            // No prefix twice.
            let prefixes: BTreeMap<_, _> = listed
                .iter()
                .map(|(&(high, low, length), &allowed)| ((cut(at(high, low), length), length), word(allowed)))
                .collect();
            let prefixes: Vec<_> =
                prefixes.into_iter().map(|((prefix, length), says)| (prefix, length, says)).collect();
            let mut ordered = prefixes.clone();
            ordered.sort_by_key(|(_, length, _)| *length);
            let mut lines: Box<[u64; WORDS]> = vec![0; WORDS].try_into().unwrap();
            write(&mut lines, ordered.into_iter(), word(others));
            for (high, low, host) in near {
                let address = at(high, low) + u32::from(host);
                let wire = address.to_be();
                let start = 8 * line(wire) as usize;
                let words = HostLine::of(lines[start..start + 8].try_into().unwrap());
                let expected = longest(&prefixes, word(others), address);
                let said = says(&words, wire);
                let own = prefixes.iter().any(|(prefix, length, _)| *length > 24 && prefix >> 8 == address >> 8);
                prop_assert_eq!(said, if own { ASK } else { expected });
            }
        }
    }
}
