//! Arrays of the map ABI mapped into memory, and their values as words: only ever touched through atomics.
#![allow(unsafe_code, reason = "mmap(2), and values seen as words; each block says why it is sound")]

use std::io;
use std::marker::PhantomData;
use std::mem::{offset_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pen_common::abi;

/// A plain value of the map ABI: `repr(C)`, no padding, any bit pattern is valid, a multiple of 8 bytes long.
///
/// # Safety
/// All of the above must hold for the type.
pub(super) unsafe trait Plain: Copy + 'static {}

// SAFETY: the ABI promises it for all of its types, and its const assertions pin their sizes.
unsafe impl Plain for abi::Directory {}
// SAFETY: as above.
unsafe impl Plain for abi::DirectoryHalf {}
// SAFETY: as above.
unsafe impl Plain for abi::Backend {}
// SAFETY: as above.
unsafe impl Plain for abi::Slot {}
// SAFETY: as above.
unsafe impl Plain for abi::Ring {}
// SAFETY: as above.
unsafe impl Plain for abi::Round {}
// SAFETY: as above.
unsafe impl Plain for abi::Refused {}
// SAFETY: as above.
unsafe impl Plain for abi::Instance {}
// SAFETY: an integer of 8 bytes.
unsafe impl Plain for u64 {}

/// The words of a plain value, in memory order.
pub(super) fn words_of<T: Plain>(value: &T) -> Vec<u64> {
    let mut words = vec![0u64; size_of::<T>() / 8];
    // SAFETY: both are valid for `size_of_val(words)` ≤ size_of::<T>() bytes and do not overlap; T has no padding.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::from_ref(value).cast::<u8>(),
            words.as_mut_ptr().cast::<u8>(),
            size_of_val(words.as_slice()),
        );
    }
    words
}

/// A fixed-size mapping of an array made with [`MMAPABLE`], shared with the kernel.
///
/// The kernel (and tests) may read or write it at any time, so it is only ever touched through atomics.
pub(super) struct Mapped<T: Plain> {
    base: NonNull<u64>,
    len: usize,
    element: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone and is accessed through atomics only.
unsafe impl<T: Plain> Send for Mapped<T> {}
// SAFETY: as above; atomics may be shared.
unsafe impl<T: Plain> Sync for Mapped<T> {}

impl<T: Plain> Mapped<T> {
    /// Maps the first `len` elements of an array map whose value is a `T`.
    pub(super) fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let bytes = len * size_of::<T>();
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing of ours is replaced.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        Ok(Self { base, len, element: PhantomData })
    }

    /// All words of the mapping.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `len * size_of::<T>()` bytes long and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU64>(), self.bytes() / 8) }
    }

    /// All half-words of the mapping. Nobody mixes sizes on one address concurrently: a field is either a
    /// u32 stored through here or part of a word stored through [`Self::words`].
    pub(super) fn half_words(&self) -> &[AtomicU32] {
        // SAFETY: as in `words`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU32>(), self.bytes() / 4) }
    }

    /// The words of element `index`; empty where there is none.
    pub(super) fn element(&self, index: usize) -> &[AtomicU64] {
        let size = size_of::<T>() / 8;
        self.words().get(index * size..(index + 1) * size).unwrap_or_default()
    }

    /// A copy of element `index`, word by word.
    pub(super) fn read(&self, index: usize) -> Option<T> {
        read_plain(self.element(index))
    }

    fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Plain> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made; no reference outlives self.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes()) };
    }
}

/// A copy of the plain value that starts at the first of these words; `None` where they are too few.
pub(super) fn read_plain<T: Plain>(words: &[AtomicU64]) -> Option<T> {
    let words = words.get(..size_of::<T>() / 8)?;
    plain_from_words(&words.iter().map(|word| word.load(Ordering::Acquire)).collect::<Vec<_>>())
}

/// The plain value that these words are; `None` where they are too few.
pub(super) fn plain_from_words<T: Plain>(words: &[u64]) -> Option<T> {
    if words.len() < size_of::<T>() / 8 {
        return None;
    }
    // SAFETY: T is plain, so these bytes are a valid T; read_unaligned asks for no alignment.
    Some(unsafe { ptr::read_unaligned(words.as_ptr().cast::<T>()) })
}

/// Stores a plain value word by word, the first word last.
pub(super) fn write_plain<T: Plain>(into: &[AtomicU64], value: &T) {
    for (cell, word) in into.iter().zip(words_of(value)).rev() {
        cell.store(word, Ordering::Release);
    }
}

// The mapping rounds values up to 8 bytes, so types that are mapped must be multiples of it.
const _: () = {
    assert!(size_of::<abi::Directory>().is_multiple_of(8));
    assert!(size_of::<abi::Backend>().is_multiple_of(8));
    assert!(size_of::<abi::Slot>() == 8);
    assert!(size_of::<abi::Ring>().is_multiple_of(8) && size_of::<abi::Round>().is_multiple_of(8));
    assert!(offset_of!(abi::Directory, active) == 0);
};
