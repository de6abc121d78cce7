//! The entry point: runs the pipeline, counts, logs what is rare, and turns the verdict into an action.

#![allow(unsafe_code, reason = "the names of stages are kept, so that they stay functions of their own")]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use pen_common::abi::{COUNTER_BACKENDS, TrackKeyV4, TrackKeyV6, records};
use pen_common::pipeline::{self, Place, Sorted};
use pen_common::plain::{self, Plain};
use pen_common::tables::Puzzle;
use pen_common::verdict::{Drop, Egress, Pass, Verdict};

use crate::maps::{self, KernelTables};
use crate::packet::XdpPacket;

/// Decides what becomes of a frame, of one or several buffers: without `frags` drivers refuse large MTUs.
#[xdp(frags)]
#[inline(always)]
fn pen_xdp(context: XdpContext) -> u32 {
    match plain(context.ctx) {
        NOT_PLAIN => general(context.ctx),
        action => action,
    }
}

/// No action of XDP: the frame is not a plain one.
const NOT_PLAIN: u32 = u32::MAX;

/// Decides about a frame if it is a plain one. Nothing but the context is shared with [`general`], so that neither holds what
/// only the other needs in registers.
#[inline(always)]
fn plain(context: *mut xdp_md) -> u32 {
    let context = XdpContext::new(context);
    let mut packet = XdpPacket::new(&context);
    let ingress = context.ingress_ifindex() as u32;
    let (record, action) = match plain::run(&mut packet, &KernelTables::new(), ingress) {
        Some(Plain::Forwarded(backend)) => (COUNTER_BACKENDS + u32::from(backend), XDP_TX),
        Some(Plain::Stranger) => (Pass::NoService as u32, XDP_PASS),
        Some(Plain::Refused(why)) => (why as u32, XDP_DROP),
        None => return NOT_PLAIN,
    };
    maps::count(record, packet.first_length());
    action
}

/// Decides about every frame, from stage to stage.
#[inline(always)]
fn general(context: *mut xdp_md) -> u32 {
    let mut next = pen_sort(context);
    if next & STAGE == QUOTE {
        next = pen_quote(context, next);
    }
    let v6 = Place::of_word(next).v6;
    match next & STAGE {
        ANSWER => pen_answer(context, next),
        SERVE if v6 => pen_serve_v6(context, next),
        SERVE => pen_serve_v4(context, next),
        FOLLOW if v6 => pen_follow_v6(context, next),
        FOLLOW => pen_follow_v4(context, next),
        _ => next as u32,
    }
}

/// What a stage returns: an action of XDP, or which stage is next with the word that it needs.
const STAGE: u64 = 7 << Place::BITS;
const ANSWER: u64 = 1 << Place::BITS;
const SERVE: u64 = 2 << Place::BITS;
const QUOTE: u64 = 3 << Place::BITS;
const FOLLOW: u64 = 4 << Place::BITS;

// Stages are functions of their own with linkage that the verifier calls global: it looks at each of them once, whatever
// was found before, where a whole packet's ways would be more than Linux 6.1 looks at, and take more stack than there is.

/// [`pipeline::sort()`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_sort(context: *mut xdp_md) -> u64 {
    stage(context, |packet, tables, ingress| match pipeline::sort(packet, tables, ingress) {
        Sorted::Decided(verdict) => Err(verdict),
        Sorted::Question(place) => Ok(ANSWER | place.word()),
        Sorted::Flow(place) => Ok(SERVE | place.word()),
        Sorted::Later(place) => Ok(FOLLOW | place.word()),
        Sorted::Error(place) => Ok(QUOTE | place.word()),
    })
}

/// [`pipeline::quote()`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_quote(context: *mut xdp_md, place: u64) -> u64 {
    stage(context, |packet, _, _| {
        pipeline::quote(packet, Place::of_word(place)).map(|place| FOLLOW | place.word())
    })
}

/// [`pipeline::answer()`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_answer(context: *mut xdp_md, place: u64) -> u32 {
    last_stage(context, place, |packet, tables, ingress, place| {
        pipeline::answer(packet, tables, ingress, place)
    })
}

/// [`pipeline::serve()`] of IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_serve_v4(context: *mut xdp_md, place: u64) -> u32 {
    last_stage(context, place, |packet, tables, ingress, place| {
        pipeline::serve::<TrackKeyV4, _, _>(packet, tables, ingress, place)
    })
}

/// [`pipeline::serve()`] of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_serve_v6(context: *mut xdp_md, place: u64) -> u32 {
    last_stage(context, place, |packet, tables, ingress, place| {
        pipeline::serve::<TrackKeyV6, _, _>(packet, tables, ingress, place)
    })
}

/// [`pipeline::follow()`] of IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_follow_v4(context: *mut xdp_md, place: u64) -> u32 {
    last_stage(context, place, |packet, tables, ingress, place| {
        pipeline::follow::<TrackKeyV4, _, _>(packet, tables, ingress, place)
    })
}

/// [`pipeline::follow()`] of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_follow_v6(context: *mut xdp_md, place: u64) -> u32 {
    last_stage(context, place, |packet, tables, ingress, place| {
        pipeline::follow::<TrackKeyV6, _, _>(packet, tables, ingress, place)
    })
}

/// Runs a stage that decides.
#[inline(always)]
fn last_stage(
    context: *mut xdp_md,
    place: u64,
    run: impl FnOnce(&mut XdpPacket<'_>, &KernelTables, u32, Place) -> Verdict,
) -> u32 {
    let place = Place::of_word(place);
    stage(context, |packet, tables, ingress| Err(run(packet, tables, ingress, place))) as u32
}

/// Runs a stage: what comes next, or the action of its verdict.
#[inline(always)]
fn stage(
    context: *mut xdp_md,
    run: impl FnOnce(&mut XdpPacket<'_>, &KernelTables, u32) -> Result<u64, Verdict>,
) -> u64 {
    let context = XdpContext::new(context);
    let mut packet = XdpPacket::new(&context);
    let tables = KernelTables::new();
    let ingress = context.ingress_ifindex() as u32;
    match run(&mut packet, &tables, ingress) {
        Ok(next) => next,
        Err(verdict) => u64::from(settle(&context, &packet, &tables, ingress, verdict)),
    }
}

/// Counts a verdict, logs what is rare, and turns it into an action.
#[inline(always)]
fn settle(
    context: &XdpContext,
    packet: &XdpPacket<'_>,
    tables: &KernelTables,
    ingress: u32,
    verdict: Verdict,
) -> u32 {
    let bytes = packet.length_counted(verdict);
    let seen = maps::count(verdict.counter(), bytes);
    if let Some(puzzle) = tables.puzzle() {
        report(context, puzzle);
    }
    match verdict {
        Verdict::Forwarded { egress: Egress::Same, .. } | Verdict::Answered(_) => XDP_TX,
        Verdict::Forwarded { egress: Egress::Other(ifindex), .. } => maps::redirect(ifindex, XDP_DROP),
        Verdict::Passed(_) => XDP_PASS,
        Verdict::Dropped(Drop::Malformed) => {
            if seen.is_power_of_two() {
                complain(context, bytes, ingress);
            }
            XDP_DROP
        }
        Verdict::Dropped(_) => XDP_DROP,
    }
}

/// Logs a malformed frame.
#[inline(never)]
fn complain(context: &XdpContext, bytes: usize, ingress: u32) {
    warn!(
        context,
        "malformed frame of {} bytes for a virtual address came in by interface {}", bytes, ingress
    );
}

/// Logs the first, second, fourth, eighth … puzzle of each CPU: enough to be noticed, too few to be a load.
#[inline(never)]
fn report(context: &XdpContext, puzzle: Puzzle) {
    if !maps::count(records::PUZZLES, 0).is_power_of_two() {
        return;
    }
    let Puzzle::RetiredIndex { index, service } = puzzle;
    warn!(
        context,
        "a slot or turn of service {} names index {}, which is none of its backends", service, index
    );
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
