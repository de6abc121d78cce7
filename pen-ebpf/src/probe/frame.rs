//! The frame a classifier was called with, and what the kernel knows of it.
#![allow(unsafe_code, reason = "the context is reached by a pointer that the verifier checks")]

use core::ptr::addr_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_MAC;
use aya_ebpf::helpers::bpf_skb_load_bytes_relative;
use aya_ebpf::programs::TcContext;

/// The verifier wants a bound where a packet is read in place; all headers end before this one.
const IN_PLACE: usize = 256;

/// Numbers, of which any bytes are one. No single bytes: where one may be read, the compiler asks whether it is before the
/// end, and the verifier wants to hear of what is after it.
pub(crate) trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for [u16; 3] {}
impl Plain for [u32; 4] {}

/// Length of an Ethernet header; VLAN tags are beside the frame where classifiers see it.
const ETHERNET: usize = 14;

/// A frame.
pub(crate) struct Frame<'a> {
    context: &'a TcContext,
    /// Where the packet begins in what is read.
    packet: usize,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub(crate) fn outgoing(context: &'a TcContext) -> Self {
        Self { context, packet: ETHERNET }
    }

    /// After XDP in generic mode kernels may have forgotten how long the Ethernet header is (`mac_len`, seen with 6.18):
    /// what is read begins with the packet then.
    #[inline(always)]
    pub(crate) fn incoming(context: &'a TcContext) -> Option<Self> {
        let frame = Self::outgoing(context);
        let ethertype: u16 = frame.read(ETHERNET - 2)?;
        let packet = if ethertype == frame.protocol() { ETHERNET } else { 0 };
        Some(Self { context, packet })
    }

    /// Where the packet begins in what is read.
    #[inline(always)]
    pub(crate) fn packet(&self) -> usize {
        self.packet
    }

    /// The sender's MAC, two bytes at a time in wire order.
    #[inline(always)]
    pub(crate) fn sender(&self) -> Option<[u16; 3]> {
        if self.packet == ETHERNET {
            return self.read(6);
        }
        let mut word = 0_u64;
        // SAFETY: the context that the program was called with, and eight bytes of room.
        let done = unsafe {
            bpf_skb_load_bytes_relative(
                self.context.as_ptr(),
                6,
                (&raw mut word).cast(),
                8,
                BPF_HDR_START_MAC,
            )
        };
        let [a, b, c, d, e, f, ..] = word.to_ne_bytes();
        let pair = |one, two| u16::from_ne_bytes([one, two]);
        (done == 0).then_some([pair(a, b), pair(c, d), pair(e, f)])
    }

    #[inline(always)]
    pub(crate) fn context(&self) -> &'a TcContext {
        self.context
    }

    /// What stands at that place, in wire order. It is read in place, where the kernel brings it if it is elsewhere.
    #[inline(always)]
    pub(crate) fn read<T: Plain>(&self, at: usize) -> Option<T> {
        if at >= IN_PLACE {
            return None;
        }
        self.read_in_place(at).or_else(|| {
            self.context.skb.pull_data((at + size_of::<T>()) as u32).ok()?;
            self.read_in_place(at)
        })
    }

    /// Where the part that is read in place begins and ends; looked at anew each time, because the verifier loses sight of
    /// pointers that the compiler carries over from one time to the next.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let context = self.context.skb.skb;
        // SAFETY: the context that the program was called with.
        let (start, end) = unsafe { (addr_of!((*context).data), addr_of!((*context).data_end)) };
        // SAFETY: live fields of it.
        let (start, end) = unsafe { (start.read_volatile(), end.read_volatile()) };
        (start as usize, end as usize)
    }

    #[inline(always)]
    fn read_in_place<T: Plain>(&self, at: usize) -> Option<T> {
        let (start, end) = self.bounds();
        let start = start + at;
        if start + size_of::<T>() > end {
            return None;
        }
        // SAFETY: its bytes lie before the end of the part that is read in place; any bytes are a `T`.
        Some(unsafe { (start as *const T).read_unaligned() })
    }

    /// Puts something else there.
    #[inline(always)]
    pub(crate) fn put<T: Plain>(&self, at: usize, value: T) -> Option<()> {
        self.context.store(at, &value, 0).ok()
    }

    /// The protocol after Ethernet and VLAN tags, in wire order.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u16 {
        self.context.skb.protocol() as u16
    }

    /// Whether it comes from this machine, not from one that it is a router for.
    #[inline(always)]
    pub(crate) fn is_our_own(&self) -> bool {
        // SAFETY: a field of the context that the program was called with.
        let ingress = unsafe { (*self.context.skb.skb).ingress_ifindex };
        ingress == 0
    }

    /// The interface it goes out or came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: a field of the context that the program was called with.
        unsafe { (*self.context.skb.skb).ifindex }
    }
}

/// The two bytes of a number in wire order.
#[inline(always)]
pub(crate) fn pair(word: u16) -> [u8; 2] {
    word.to_ne_bytes()
}
