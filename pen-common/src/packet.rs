//! A frame as the pipeline sees it: bytes that may be read and written where they exist.

/// A frame, from its Ethernet header on.
pub trait Packet {
    /// Its length in bytes, all of its buffers together.
    fn len(&self) -> usize;

    /// Whether it has at least `end` bytes: cheaper to tell than its length where its first buffer has them.
    fn reaches(&self, end: usize) -> bool {
        end <= self.len()
    }

    /// Whether the part of it that can be read in place has at least `end` bytes.
    fn holds(&self, end: usize) -> bool {
        end == 0 || self.bytes::<1>(end - 1).is_some()
    }

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `N` bytes from offset `at` on; `None` where the frame ends before, or its first buffer, which is where headers
    /// are: what a driver put into further ones cannot be reached in place.
    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]>;

    /// Eight bytes of those, from offset `AT` among them on, as a little-endian word: by one load, where a compiler that sees
    /// which of its bytes count would make several of it.
    #[inline(always)]
    fn word_in<const N: usize, const AT: usize>(bytes: &[u8; N]) -> u64 {
        const { assert!(AT + 8 <= N) };
        bytes[AT..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
    }

    /// The `N` bytes from offset `at` on, to be written; `None` as for [`Packet::bytes`].
    fn bytes_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]>;

    /// Makes the frame this long: cut off, or grown by bytes of any value. `false`: not possible, unchanged.
    fn resize(&mut self, len: usize) -> bool;
}
