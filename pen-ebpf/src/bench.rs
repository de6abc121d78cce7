//! Floor programs, the harness that restores a frame and tail-calls the program to be timed, and a sink that counts.
//!
//! `cargo xtask bench` loads this object; the balancer never does. All take frames of several buffers, as the balancer
//! does: a program calls only its like. The floors are written by hand against raw
//! pointers, as a C programmer would, so that they are a floor.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    allow(
        unsafe_code,
        reason = "the floors are raw pointer programs: every access is checked against data_end"
    )
)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
    use aya_ebpf::macros::{map, xdp};
    use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, ProgramArray};
    use aya_ebpf::programs::XdpContext;
    use pen_common::bench::{FLOOR_FLOWS, FloorKey, Plan, RESTORED};

    #[map(name = "bench_plan")]
    static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
    #[map(name = "bench_target")]
    static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);
    #[map(name = "floor_flows")]
    static FLOWS: LruHashMap<FloorKey, u32> = LruHashMap::with_max_entries(FLOOR_FLOWS, 0);
    #[map(name = "floor_macs")]
    static MACS: Array<u64> = Array::with_max_entries(256, 0);
    #[map(name = "bench_sunk")]
    static SUNK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

    const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
    const TCP: u8 = 6;
    /// Ethernet, an IPv4 header without options, and TCP's ports.
    const HEADERS: usize = 14 + 20 + 20;

    /// Restores the frame, gives it the next client's address, and calls the program under test.
    #[xdp(frags)]
    fn harness(ctx: XdpContext) -> u32 {
        let Some(plan) = PLAN.get_ptr_mut(0) else { return XDP_ABORTED };
        if ctx.data() + RESTORED > ctx.data_end() {
            return XDP_ABORTED;
        }
        let words = ctx.data() as *mut u64;
        // SAFETY: `plan` is a live map value; one CPU at a time runs the benchmark.
        let plan = unsafe { &mut *plan };
        for (at, word) in plan.frame.iter().enumerate() {
            // SAFETY: `RESTORED` bytes were checked above, and XDP frames are writable and 8-byte aligned.
            unsafe { words.add(at).write(*word) };
        }
        if plan.client_mask != 0 {
            let client = (plan.made as u32).wrapping_mul(plan.stride) & plan.client_mask;
            plan.made += 1;
            let at = (plan.client_at as usize) & (RESTORED - 1);
            let place = ctx.data() + at;
            if place + 4 > ctx.data_end() {
                return XDP_ABORTED;
            }
            // SAFETY: checked on the line above.
            unsafe { (place as *mut u32).write_unaligned(plan.client_base ^ client.to_be()) };
        }
        // SAFETY: the context is the one this program was called with.
        unsafe { TARGET.tail_call(&ctx, 0) };
        XDP_ABORTED
    }

    /// F0: sends everything back as it is.
    #[xdp(frags)]
    fn f0(_: XdpContext) -> u32 {
        XDP_TX
    }

    /// F1: checks bounds and types of Ethernet, IPv4 and TCP, and swaps the MACs.
    #[xdp(frags)]
    fn f1(ctx: XdpContext) -> u32 {
        let Some(frame) = tcp_frame(&ctx) else { return XDP_PASS };
        // SAFETY: `HEADERS` bytes were checked; halfwords at even offsets of an aligned frame are aligned.
        unsafe {
            let macs = frame.cast::<[u16; 6]>();
            let [a, b, c, d, e, f] = *macs;
            *macs = [d, e, f, a, b, c];
        }
        XDP_TX
    }

    /// F2: F1 plus one hit in a million-entry LRU table and one array read for the new MAC.
    #[xdp(frags)]
    fn f2(ctx: XdpContext) -> u32 {
        let Some(frame) = tcp_frame(&ctx) else { return XDP_PASS };
        // SAFETY: `HEADERS` bytes were checked; the reads ask for no alignment.
        let key = unsafe {
            FloorKey {
                source: frame.add(26).cast::<u32>().read_unaligned(),
                destination: frame.add(30).cast::<u32>().read_unaligned(),
                source_port: frame.add(34).cast::<u16>().read_unaligned(),
                destination_port: frame.add(36).cast::<u16>().read_unaligned(),
                protocol: u32::from(TCP),
            }
        };
        let Some(index) = FLOWS.get_ptr(&key) else { return XDP_PASS };
        // SAFETY: a pointer that the map just gave; the value is never freed while the program runs.
        let Some(mac) = MACS.get(unsafe { *index }) else { return XDP_PASS };
        // SAFETY: `HEADERS` bytes were checked; halfwords at even offsets of an aligned frame are aligned.
        unsafe {
            let macs = frame.cast::<[u16; 6]>();
            let [a, b, c, ..] = *macs;
            *macs = [*mac as u16, (*mac >> 16) as u16, (*mac >> 32) as u16, a, b, c];
        }
        XDP_TX
    }

    /// Where frames come back to: counts those that the benchmark sent, and drops everything.
    #[xdp(frags)]
    fn sink(ctx: XdpContext) -> u32 {
        if tcp_frame(&ctx).is_some()
            && let Some(count) = SUNK.get_ptr_mut(0)
        {
            // SAFETY: a pointer that the map just gave, to this CPU's own value.
            unsafe { *count += 1 };
        }
        XDP_DROP
    }

    /// The frame, if it is Ethernet + IPv4 without options + TCP and long enough.
    #[inline(always)]
    fn tcp_frame(ctx: &XdpContext) -> Option<*mut u8> {
        if ctx.data() + HEADERS > ctx.data_end() {
            return None;
        }
        let frame = ctx.data() as *mut u8;
        // SAFETY: `HEADERS` bytes were checked on entry.
        let (ethertype, version, protocol) =
            unsafe { (*frame.add(12).cast::<u16>(), *frame.add(14), *frame.add(23)) };
        (ethertype == ETHERTYPE_IPV4 && version == 0x45 && protocol == TCP).then_some(frame)
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
