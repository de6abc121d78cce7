//! The frame an XDP program was called with. All access to packet memory is here.
#![allow(unsafe_code, reason = "packet memory is reached by pointers that the verifier checks")]

use core::arch::asm;
use core::cell::Cell;
use core::ptr::addr_of;

use aya_ebpf::helpers::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use pen_common::packet::Packet;
use pen_common::verdict::{Answer, Pass, Verdict};

/// A frame; its first buffer, the one that can be read in place, is between two pointers of its context.
pub(crate) struct XdpPacket<'a> {
    context: &'a XdpContext,
    start: usize,
    end: usize,
    /// Length of the first buffer.
    first: usize,
    /// Length of the frame as it came, as far as anybody asked: at least that of the first buffer.
    came: Cell<usize>,
}

/// The first buffer's length, read so that the compiler cannot connect it with the pointers: it would prove checks against
/// the end needless from what is known of the length, and the verifier, which sees no connection, would refuse.
#[inline(always)]
fn first_length(context: &XdpContext) -> usize {
    let context = context.ctx;
    // SAFETY: the context that the program was called with.
    let (start, end) = unsafe { (addr_of!((*context).data), addr_of!((*context).data_end)) };
    // SAFETY: live fields of it.
    let (start, end) = unsafe { (start.read_volatile(), end.read_volatile()) };
    end as usize - start as usize
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        let first = first_length(context);
        Self { context, start: context.data(), end: context.data_end(), first, came: Cell::new(first) }
    }

    /// Length of the first buffer; that of the frame, where that is known to be all of it.
    #[inline(always)]
    pub(crate) fn first_length(&self) -> usize {
        self.first
    }

    /// The frame's length as it came. Asking the kernel costs as much as half a packet's way, so where the pipeline saw
    /// that the packet ends within the first buffer, the frame does, too.
    #[inline(always)]
    pub(crate) fn length_counted(&self, verdict: Verdict) -> usize {
        match verdict {
            Verdict::Passed(Pass::NotIp | Pass::NotAddressedToUs | Pass::SplitHeaders)
            | Verdict::Answered(Answer::IcmpEcho) => self.len(),
            _ => self.came.get(),
        }
    }
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: the context is the one that the program was called with; the helper only reads it.
        unsafe { bpf_xdp_get_buff_len(self.context.ctx) as usize }
    }

    #[inline(always)]
    fn reaches(&self, end: usize) -> bool {
        if end <= self.first {
            return true;
        }
        self.came.set(self.len());
        end <= self.came.get()
    }

    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        end <= self.first
    }

    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        let start = self.start + at;
        if start + N > self.end {
            return None;
        }
        // SAFETY: `N` bytes lie before the buffer's end; they stay there until `resize`, which takes `&mut self`.
        Some(unsafe { &*(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn word_in<const N: usize, const AT: usize>(bytes: &[u8; N]) -> u64 {
        const { assert!(AT + 8 <= N) };
        let word;
        // SAFETY: reads eight of the bytes that the reference is to.
        unsafe {
            asm!(
                "{word} = *(u64 *)({bytes} + {at})",
                word = out(reg) word,
                bytes = in(reg) bytes.as_ptr(),
                at = const AT,
                options(pure, readonly, nostack)
            );
        }
        word
    }

    #[inline(always)]
    fn bytes_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        let start = self.start + at;
        if start + N > self.end {
            return None;
        }
        // SAFETY: as in `bytes`; XDP frames are writable and this borrow is the only one.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> bool {
        let delta = len as i32 - self.len() as i32;
        // SAFETY: the context is the one that the program was called with; all borrows of the frame have ended.
        let done = unsafe { bpf_xdp_adjust_tail(self.context.ctx, delta) } == 0;
        // The helper invalidates all packet pointers, whether it succeeds or not.
        self.start = self.context.data();
        self.end = self.context.data_end();
        self.first = first_length(self.context);
        done
    }
}
