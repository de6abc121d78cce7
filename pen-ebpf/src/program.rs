//! The entry point: runs the pipeline, counts, logs what is rare, and turns the verdict into an action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use pen_common::abi::{COUNTER_BACKENDS, records};
use pen_common::pipeline;
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
    match plain::run(&mut packet, &KernelTables::new(), ingress) {
        Some(Plain::Forwarded(backend)) => {
            maps::count(COUNTER_BACKENDS + u32::from(backend), packet.first_length());
            XDP_TX
        }
        Some(Plain::Stranger) => {
            maps::count(Pass::NoService as u32, packet.first_length());
            XDP_PASS
        }
        None => NOT_PLAIN,
    }
}

/// Decides about every frame.
#[inline(always)]
fn general(context: *mut xdp_md) -> u32 {
    let context = XdpContext::new(context);
    let mut packet = XdpPacket::new(&context);
    let tables = KernelTables::new();
    let ingress = context.ingress_ifindex() as u32;
    let verdict = pipeline::general(&mut packet, &tables, ingress);
    let bytes = packet.length_counted(verdict);
    let seen = maps::count(verdict.counter(), bytes);
    if let Some(puzzle) = tables.puzzle() {
        report(&context, puzzle);
    }
    match verdict {
        Verdict::Forwarded { egress: Egress::Same, .. } | Verdict::Answered(_) => XDP_TX,
        Verdict::Forwarded { egress: Egress::Other(ifindex), .. } => maps::redirect(ifindex, XDP_DROP),
        Verdict::Passed(_) => XDP_PASS,
        Verdict::Dropped(Drop::Malformed) => {
            if seen.is_power_of_two() {
                warn!(
                    &context,
                    "malformed frame of {} bytes for a virtual address came in by interface {}",
                    bytes,
                    ingress
                );
            }
            XDP_DROP
        }
        Verdict::Dropped(_) => XDP_DROP,
    }
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
