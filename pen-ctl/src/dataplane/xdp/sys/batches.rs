//! Maps read through, filled and emptied in batches (BPF_MAP_LOOKUP_BATCH, …_UPDATE_…, …_DELETE_…; Linux 5.6): one system call
//! for thousands of entries, and none of a hash map read twice, however many are added and evicted meanwhile.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

use super::{bpf, raw};

/// `linux/bpf.h`.
const BPF_MAP_LOOKUP_BATCH: u32 = 24;
/// The same.
const BPF_MAP_UPDATE_BATCH: u32 = 26;
/// The same.
const BPF_MAP_DELETE_BATCH: u32 = 27;
/// Entries asked for at a time.
const ROOM: u32 = 4096;
/// Entries of one bucket that are made room for at most: a hash of a sound size has a handful.
const ROOM_MAX: u32 = 1 << 20;

/// A hash map's entries, batch by batch.
pub(in super::super) struct Batches<'a> {
    map: BorrowedFd<'a>,
    key_size: usize,
    value_size: usize,
    /// Entries that fit into the buffers.
    room: u32,
    keys: Vec<u8>,
    values: Vec<u8>,
    position: Position,
}

/// How far the reading has come.
enum Position {
    Start,
    /// At this bucket.
    Bucket(u32),
    End,
}

/// Some entries.
pub(in super::super) struct Batch<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    key_size: usize,
    value_size: usize,
}

#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

impl<'a> Batches<'a> {
    /// A hash map from its beginning.
    pub(in super::super) fn new(map: BorrowedFd<'a>, key_size: u32, value_size: u32) -> Self {
        let (key_size, value_size) = (key_size as usize, value_size as usize);
        let (keys, values) = (Vec::new(), Vec::new());
        Self { map, key_size, value_size, room: ROOM, keys, values, position: Position::Start }
    }

    /// The next entries; `None` at the end.
    pub(in super::super) fn next(&mut self) -> io::Result<Option<Batch<'_>>> {
        let start = match self.position {
            Position::Start => None,
            Position::Bucket(bucket) => Some(bucket),
            Position::End => return Ok(None),
        };
        let count = loop {
            match self.look_up(start) {
                // Not even one bucket fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && self.room < ROOM_MAX => {
                    self.room *= 4;
                }
                done => break done?,
            }
        };
        Ok(Some(Batch {
            keys: self.keys.get(..count * self.key_size).unwrap_or_default(),
            values: self.values.get(..count * self.value_size).unwrap_or_default(),
            key_size: self.key_size,
            value_size: self.value_size,
        }))
    }

    fn look_up(&mut self, start: Option<u32>) -> io::Result<usize> {
        self.keys.resize(self.room as usize * self.key_size, 0);
        self.values.resize(self.room as usize * self.value_size, 0);
        let (from, mut next) = (start.unwrap_or_default(), 0u32);
        let mut attributes = BatchAttributes {
            in_batch: start.map_or(0, |_| ptr::from_ref(&from) as u64),
            out_batch: ptr::from_mut(&mut next) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: self.room,
            map_fd: raw(self.map),
            element_flags: 0,
            flags: 0,
        };
        match bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) {
            Ok(_) => self.position = Position::Bucket(next),
            // These are the last ones.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.position = Position::End,
            Err(error) => return Err(error),
        }
        Ok(attributes.count as usize)
    }
}

impl Batch<'_> {
    /// How many entries.
    pub(in super::super) fn len(&self) -> usize {
        self.keys.len() / self.key_size
    }

    /// Keys and values.
    pub(in super::super) fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.keys.chunks_exact(self.key_size).zip(self.values.chunks_exact(self.value_size))
    }
}

/// Removes the entries of these keys, one behind the other, from a hash map; says how many of them were there.
pub(in super::super) fn delete_all(map: BorrowedFd<'_>, key_size: usize, keys: &[u8]) -> io::Result<u64> {
    let (mut left, mut deleted) = (keys, 0);
    while !left.is_empty() {
        let mut attributes = BatchAttributes {
            in_batch: 0,
            out_batch: 0,
            keys: left.as_ptr() as u64,
            values: 0,
            count: (left.len() / key_size) as u32,
            map_fd: raw(map),
            element_flags: 0,
            flags: 0,
        };
        let outcome = bpf(BPF_MAP_DELETE_BATCH, &mut attributes);
        deleted += u64::from(attributes.count);
        match outcome {
            Ok(_) => break,
            // It stops at a key that is not there: on with the one behind.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                left = left.get((attributes.count as usize + 1) * key_size..).unwrap_or_default();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

/// Puts entries into a map: keys and values, one behind the other.
pub(in super::super) fn update_all(
    map: BorrowedFd<'_>,
    key_size: usize,
    keys: &[u8],
    values: &[u32],
) -> io::Result<()> {
    let batches = keys.chunks(key_size * ROOM as usize).zip(values.chunks(ROOM as usize));
    for (keys, values) in batches {
        let mut attributes = BatchAttributes {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: (keys.len() / key_size).min(values.len()) as u32,
            map_fd: raw(map),
            element_flags: 0,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_BATCH, &mut attributes)?;
    }
    Ok(())
}
