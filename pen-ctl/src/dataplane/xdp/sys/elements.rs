//! Single elements of maps, and which map stands in a map of maps.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

use super::{BPF_OBJ_GET_INFO_BY_FD, GetInfo, bpf, raw};

// Numbers of commands: linux/bpf.h (stable kernel interface).
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;

#[repr(C)]
struct MapElement {
    map_fd: u32,
    alignment: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets the element with this key to a value of four bytes (of a map of maps: the inner map's descriptor).
pub(in super::super) fn set_element(map: BorrowedFd<'_>, key: u32, value: u32) -> io::Result<()> {
    let mut attributes = MapElement {
        map_fd: raw(map),
        alignment: 0,
        key: ptr::from_ref(&key) as u64,
        value: ptr::from_ref(&value) as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// Removes the element with this key; one that is not there is fine.
pub(in super::super) fn delete_element(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let mut attributes =
        MapElement { map_fd: raw(map), alignment: 0, key: ptr::from_ref(&key) as u64, value: 0, flags: 0 };
    match bpf(BPF_MAP_DELETE_ELEM, &mut attributes) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The id of the map that stands at this index of a map of maps; `None` = none does.
pub(in super::super) fn inner_map(outer: BorrowedFd<'_>, index: u32) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    let mut attributes = MapElement {
        map_fd: raw(outer),
        alignment: 0,
        key: ptr::from_ref(&index) as u64,
        value: ptr::from_mut(&mut id) as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes) {
        Ok(_) => Ok(Some(id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The id of a map: no other has it, or ever had.
pub(in super::super) fn map_id(map: BorrowedFd<'_>) -> io::Result<u32> {
    // The head of `struct bpf_map_info`: type and id; longer ones are cut by the kernel.
    let mut info = [0u32; 2];
    let mut attributes = GetInfo {
        bpf_fd: raw(map),
        info_len: size_of_val(&info) as u32,
        info: ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info[1])
}

/// Takes away the map at this index of a map of maps, if there is one: asked first, because removing waits for packets.
pub(in super::super) fn remove_inner_map(outer: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    match inner_map(outer, index)? {
        Some(_) => delete_element(outer, index),
        None => Ok(()),
    }
}
