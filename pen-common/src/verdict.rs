//! What became of a packet: forwarded, answered, passed or dropped, the last three with one named reason.
//!
//! Each reason has a fixed record in map `counters`. Reasons are added, never renamed or renumbered.

use crate::abi::COUNTER_BACKENDS;

/// What became of a packet. Aligned to words: compilers move it by words, which a BPF stack takes where they are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub enum Verdict {
    /// Rewritten for a backend.
    Forwarded {
        /// Its index.
        backend: u16,
        /// Which way it is.
        egress: Egress,
    },
    /// Turned into its own answer, to leave where it came in.
    Answered(Answer),
    /// Left to the local stack, unchanged.
    Passed(Pass),
    /// Dropped.
    Dropped(Drop),
}

/// The way a forwarded packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By the interface it came in.
    Same,
    /// By another attached interface, of this kernel index.
    Other(u32),
}

/// Which of the three kinds of verdict that have reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Verdict::Answered`].
    Answered,
    /// [`Verdict::Passed`].
    Passed,
    /// [`Verdict::Dropped`].
    Dropped,
}

/// A reason as counters, JSON and metrics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    /// Its record in map `counters`, below [`COUNTER_BACKENDS`].
    pub index: u32,
}

/// Defines the enum of one kind's reasons from their numbers and names.
macro_rules! reasons {
    ($(#[$doc:meta])* $kind:ident, $type:ident { $($(#[$why:meta])* $reason:ident = $index:literal $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $type {
            $($(#[$why])* $reason = $index,)+
        }

        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Reason] =
                &[$(Reason { kind: Kind::$kind, name: $name, index: $index },)+];

            /// The one of a number.
            #[inline(always)]
            const fn of(index: u32) -> Option<Self> {
                match index { $($index => Some(Self::$reason),)+ _ => None }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)+ }
            }
        }
    };
}

reasons! {
    /// Why a packet was turned into an answer.
    Answered, Answer {
        /// An ARP request for a VIP.
        Arp = 0 "arp",
        /// A neighbor solicitation for a VIP.
        Ndp = 1 "ndp",
        /// An ICMP or ICMPv6 echo request to a VIP.
        IcmpEcho = 2 "icmp_echo",
    }
}

reasons! {
    /// Why a packet was left to the local stack.
    Passed, Pass {
        /// Its destination MAC is not ours.
        NotAddressedToUs = 8 "not_addressed_to_us",
        /// Neither IPv4 nor IPv6, nor a request for the link address of a VIP.
        NotIp = 9 "not_ip",
        /// No service has this address, port and protocol.
        NoService = 10 "no_service",
        /// The chosen backend is on this host.
        LocalBackend = 11 "local_backend",
        /// To a VIP, but neither TCP nor UDP nor anything pen answers.
        NotForUsProtocol = 12 "not_for_us_protocol",
        /// Nobody is serving, and the service says `on_empty = "pass"`.
        EmptyPool = 13 "empty_pool",
        /// Its headers are not in the frame's first buffer, which is all that is read of it.
        SplitHeaders = 14 "split_headers",
    }
}

reasons! {
    /// Why a packet was dropped.
    Dropped, Drop {
        /// Nobody is serving.
        NoBackend = 32 "no_backend",
        /// To a VIP, but its headers contradict its length or each other.
        Malformed = 33 "malformed",
        /// Refused by an access list.
        Denied = 34 "denied",
        /// Above a rate limit.
        RateLimited = 35 "rate_limited",
        /// A fragment whose first one, which names the ports, is not known.
        FragmentWithoutFirst = 36 "fragment_without_first",
        /// Came from a backend of the very service it is for.
        Loop = 37 "loop",
        /// The chosen backend is on another VLAN.
        WrongVlan = 38 "wrong_vlan",
        /// Larger than the way to the backend allows.
        TooBig = 39 "too_big",
        /// The chosen backend is behind an interface that is not attached.
        NoEgress = 40 "no_egress",
    }
}

impl Kind {
    /// Its name: `answered`, `passed` or `dropped`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Passed => "passed",
            Self::Dropped => "dropped",
        }
    }
}

/// All reasons of all kinds, in the order of their records.
pub fn reasons() -> impl Iterator<Item = &'static Reason> {
    Answer::ALL.iter().chain(Pass::ALL).chain(Drop::ALL)
}

impl Verdict {
    /// The record in map `counters` that this packet counts in.
    #[inline(always)]
    pub const fn counter(self) -> u32 {
        match self {
            Self::Forwarded { backend, .. } => COUNTER_BACKENDS + backend as u32,
            Self::Answered(answer) => answer as u32,
            Self::Passed(pass) => pass as u32,
            Self::Dropped(drop) => drop as u32,
        }
    }
}

/// A verdict as one number: its record below, above it the interface by which it leaves. All bits of it mean something,
/// where those of an enum's other variants do not: the kernel's verifier wants to know all that is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictWord(u64);

impl From<Verdict> for VerdictWord {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        let egress = match verdict {
            Verdict::Forwarded { egress: Egress::Other(ifindex), .. } => ifindex,
            _ => 0,
        };
        Self(u64::from(verdict.counter()) | u64::from(egress) << 32)
    }
}

impl From<VerdictWord> for Verdict {
    #[inline(always)]
    fn from(VerdictWord(word): VerdictWord) -> Self {
        let (record, ifindex) = (word as u32, (word >> 32) as u32);
        if record >= COUNTER_BACKENDS {
            let egress = if ifindex == 0 { Egress::Same } else { Egress::Other(ifindex) };
            return Self::Forwarded { backend: (record - COUNTER_BACKENDS) as u16, egress };
        }
        if let Some(why) = Drop::of(record) {
            return Self::Dropped(why);
        }
        if let Some(why) = Pass::of(record) {
            return Self::Passed(why);
        }
        // Nothing else makes such a number.
        Answer::of(record).map_or(Self::Passed(Pass::NotIp), Self::Answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_a_record_and_a_name_of_its_own() {
        let records: BTreeSet<_> = reasons().map(|reason| reason.index).collect();
        let names: BTreeSet<_> = reasons().map(|reason| reason.name).collect();
        assert_eq!(records.len(), reasons().count());
        assert_eq!(names.len(), reasons().count());
        assert!(records.iter().all(|&index| index < crate::abi::records::INSERTED_V4));
    }

    #[test]
    fn a_word_tells_a_verdict() {
        let reasons = reasons().map(|reason| reason.index);
        let (same, other) = (Egress::Same, Egress::Other(u32::MAX));
        let forwarded = [(0, same), (16_383, same), (7, other)]
            .map(|(backend, egress)| Verdict::Forwarded { backend, egress });
        let all = reasons.map(|index| Verdict::from(VerdictWord(index.into()))).chain(forwarded);
        for verdict in all {
            assert_eq!(Verdict::from(VerdictWord::from(verdict)), verdict);
        }
        assert_eq!(Verdict::from(VerdictWord(37)), Verdict::Dropped(Drop::Loop));
        assert_eq!(Verdict::from(VerdictWord(8)), Verdict::Passed(Pass::NotAddressedToUs));
        assert_eq!(Verdict::from(VerdictWord(1)), Verdict::Answered(Answer::Ndp));
    }

    #[test]
    fn a_verdict_counts_where_its_reason_says() {
        assert_eq!(Verdict::Dropped(Drop::Loop).counter(), 37);
        assert_eq!(Drop::ALL[5], Reason { kind: Kind::Dropped, name: Drop::Loop.name(), index: 37 });
        assert_eq!(Verdict::Forwarded { backend: 3, egress: Egress::Same }.counter(), COUNTER_BACKENDS + 3);
    }
}
