//! The maps: where probe addresses lead, and which questions are out.
#![allow(unsafe_code, reason = "map values are reached by pointers that the verifier checks")]

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap};
use pen_common::abi::Address;
use pen_common::probe::{Asked, Lane, MAX_ASKED, MAX_LANES, Question};

/// Entries of this map take memory only while they are there.
const BPF_F_NO_PREALLOC: u32 = 1;

#[map(name = "probe_lanes")]
static LANES: HashMap<Address, Lane> = HashMap::with_max_entries(MAX_LANES, BPF_F_NO_PREALLOC);
#[map(name = "probe_asked")]
static ASKED: LruHashMap<Question, Asked> = LruHashMap::with_max_entries(MAX_ASKED, 0);

/// So long after a question's last packet an answer counts though nobody waits for it any more, ns: what refuses a late
/// one must find its way to the backend.
const LATE: u64 = 10_000_000_000;

/// Where a probe address leads.
#[inline(always)]
pub(crate) fn lane(alias: &Address) -> Option<Lane> {
    // SAFETY: the value is read while the program runs; the controller replaces it whole.
    unsafe { LANES.get(alias) }.copied()
}

/// Notes that a question went out just now. Without room it stays unanswered.
#[inline(always)]
pub(crate) fn remember(question: &Question, alias: Address) {
    // SAFETY: the helper only reads the clock.
    let at = unsafe { bpf_ktime_get_ns() };
    let _ = ASKED.insert(question, Asked { alias, at }, 0);
}

/// The probe address that a question was sent to.
#[inline(always)]
pub(crate) fn asked(question: &Question) -> Option<Asked> {
    // SAFETY: as in `lane`; of two packets of one question at once either is right.
    unsafe { ASKED.get(question) }.copied()
}

/// Whether a question is so old that only somebody who waits makes an answer to it count.
#[inline(always)]
pub(crate) fn is_old(asked: &Asked) -> bool {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_ktime_get_ns() }.saturating_sub(asked.at) > LATE
}
