//! Maps made by hand, without type information: the kernel compares inner maps with their outer map's template, and Linux
//! 6.1 finds those that differ in it unlike.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use super::{bpf, raw};

// Numbers of commands, types and flags: linux/bpf.h (stable kernel interface).
const BPF_MAP_CREATE: u32 = 0;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_LPM_TRIE`.
const TRIE: u32 = 11;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const ARRAY_OF_MAPS: u32 = 12;
/// `BPF_F_NO_PREALLOC`, without which there are no tries.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`: the array can be mapped into memory.
pub(in super::super) const MMAPABLE: u32 = 1 << 10;

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// Creates an array of `entries` values of `value_size` bytes.
pub(in super::super) fn create_array(
    name: &str,
    value_size: u32,
    entries: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let map = MapCreate { map_type: ARRAY, value_size, map_flags: flags, ..indexed(entries) };
    create(name, map)
}

/// Creates an array of `entries` maps, each of which must be like `template`.
pub(in super::super) fn create_array_of_maps(
    name: &str,
    template: BorrowedFd<'_>,
    entries: u32,
) -> io::Result<OwnedFd> {
    let inner_map_fd = raw(template);
    create(name, MapCreate { map_type: ARRAY_OF_MAPS, value_size: 4, inner_map_fd, ..indexed(entries) })
}

/// Creates a trie of at most `entries` prefixes, with a value of four bytes each; the key is a length in bits and then an
/// address.
pub(in super::super) fn create_trie(name: &str, key_size: u32, entries: u32) -> io::Result<OwnedFd> {
    let map_flags = NO_PREALLOC;
    create(
        name,
        MapCreate { map_type: TRIE, key_size, value_size: 4, max_entries: entries, map_flags, ..indexed(0) },
    )
}

/// A map whose keys are indexes.
fn indexed(entries: u32) -> MapCreate {
    MapCreate { key_size: 4, max_entries: entries, ..MapCreate::default() }
}

fn create(name: &str, mut attributes: MapCreate) -> io::Result<OwnedFd> {
    // One byte less than the field: the kernel wants a terminating zero.
    for (to, from) in attributes.map_name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let fd = bpf(BPF_MAP_CREATE, &mut attributes)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
