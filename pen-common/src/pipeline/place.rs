//! What one stage of the long way tells the next: where the headers are. In a word, so that it can be handed on as a number.

use crate::parse::{Datagram, IpHeader, Part};
use crate::verdict::Verdict;

/// What sorting a frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// Its verdict.
    Decided(Verdict),
    /// A question that pen answers.
    Question(Place),
    /// TCP or UDP, whole or a first fragment: to be served.
    Flow(Place),
    /// A later fragment of TCP or UDP, or of what may be: to follow its first.
    Later(Place),
    /// An ICMP or ICMPv6 error; its message begins at `payload`.
    Error(Place),
}

/// Where the headers of a packet to a VIP, or of the one that an error quotes, are in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the IP header.
    pub at: usize,
    /// Offset of what follows the IP headers.
    pub payload: usize,
    /// Offset of a fragment's identification, else anything.
    pub id_at: usize,
    /// Protocol after all extension headers; of a question, what is asked.
    pub protocol: u8,
    /// Whether it is a fragment.
    pub part: Part,
    /// It is IPv6.
    pub v6: bool,
    /// It is quoted: it went from the VIP to the client.
    pub quoted: bool,
}

/// Bits of an offset. Headers that lie further on are of no use to anybody: six extension headers take 12 KiB.
const OFFSET: u32 = 15;
const OFFSET_MASK: u64 = (1 << OFFSET) - 1;
const PAYLOAD: u32 = OFFSET;
const ID_AT: u32 = 2 * OFFSET;
const PROTOCOL: u32 = 3 * OFFSET;
const PART: u32 = PROTOCOL + 8;
const V6: u32 = PART + 2;
const QUOTED: u32 = V6 + 1;

impl Place {
    /// Bits of its word, from the lowest one on; those above are zero.
    pub const BITS: u32 = QUOTED + 1;

    /// Of a checked packet.
    #[inline(always)]
    pub(super) const fn of(header: &IpHeader, datagram: &Datagram, v6: bool) -> Self {
        let &Datagram { payload, id_at, protocol, part, .. } = datagram;
        Self { at: header.at, payload, id_at, protocol, part, v6, quoted: false }
    }

    /// Of a question: where its header begins, and what it asks.
    #[inline(always)]
    pub(super) const fn of_question(at: usize, asks: u8) -> Self {
        Self { at, payload: 0, id_at: 0, protocol: asks, part: Part::Whole, v6: false, quoted: false }
    }

    /// As a word; never 0, as a header never begins a frame.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        let part = match self.part {
            Part::Whole => 0,
            Part::First => 1,
            Part::Later => 2,
        };
        self.at as u64 & OFFSET_MASK
            | (self.payload as u64 & OFFSET_MASK) << PAYLOAD
            | (self.id_at as u64 & OFFSET_MASK) << ID_AT
            | (self.protocol as u64) << PROTOCOL
            | part << PART
            | (self.v6 as u64) << V6
            | (self.quoted as u64) << QUOTED
    }

    /// The place that a word tells.
    #[inline(always)]
    pub const fn of_word(word: u64) -> Self {
        Self {
            at: (word & OFFSET_MASK) as usize,
            payload: (word >> PAYLOAD & OFFSET_MASK) as usize,
            id_at: (word >> ID_AT & OFFSET_MASK) as usize,
            protocol: (word >> PROTOCOL) as u8,
            part: match word >> PART & 3 {
                0 => Part::Whole,
                1 => Part::First,
                _ => Part::Later,
            },
            v6: word >> V6 & 1 != 0,
            quoted: word >> QUOTED & 1 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_word_tells_a_place(
            offsets in [0..1usize << OFFSET, 0..1 << OFFSET, 0..1 << OFFSET],
            protocol: u8,
            part in prop_oneof![Just(Part::Whole), Just(Part::First), Just(Part::Later)],
            v6: bool,
            quoted: bool,
        ) {
            let [at, payload, id_at] = offsets;
            let place = Place { at, payload, id_at, protocol, part, v6, quoted };
            prop_assert_eq!(Place::of_word(place.word()), place);
            prop_assert_eq!(place.word() >> Place::BITS, 0);
        }
    }
}
