//! Maps that the controller makes itself: the instance record, and the maps of maps with what is put into them.
//!
//! The loader would make maps of maps from the object's type information; Linux 6.1 then refuses inner maps that were
//! made without (`timer_off` differs in its `bpf_map_meta_equal`), as ours are.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Array, Map, MapData};
use pen_common::abi::{
    AccessKeyV4, AccessKeyV6, BLOCK_LINES, BUCKET_LINES, Instance, MAX_LIMITS, MAX_SERVICES,
    SLOTS_BOTH_HALVES, Slot,
};

use super::error::OpenError;
use super::mapped;
use super::maps::LINE;
use super::pins::Pins;
use super::sys::{self, MMAPABLE};

/// Creates and pins the instance record, so that whatever is pinned later has an owner.
pub(super) fn create_instance(pins: &Pins, record: &Instance) -> Result<(), OpenError> {
    let failed = |error: io::Error| OpenError::from_io("pin the instance record", &error);
    let fd = sys::create_array("instance", size_of::<Instance>() as u32, 1, 0).map_err(failed)?;
    let words: [u64; size_of::<Instance>() / 8] = std::array::from_fn({
        let words = mapped::words_of(record);
        move |index| words[index]
    });
    let array = MapData::from_fd(fd)
        .and_then(Map::from_map_data)
        .and_then(Array::<MapData, [u64; size_of::<Instance>() / 8]>::try_from);
    let written = array.and_then(|mut array| array.set(0, words, 0).map(|()| array));
    let array = written.map_err(|error| OpenError::from_aya("write the instance record", &error))?;
    array.pin(pins.instance()).map_err(|error| OpenError::from_aya("pin the instance record", &error))
}

/// Creates and pins the maps of maps, unless they are there.
pub(super) fn ensure_maps_of_maps(pins: &Pins) -> io::Result<()> {
    ensure(pins, "slots", MAX_SERVICES, create_slot_tables)?;
    ensure(pins, "access_v4", MAX_SERVICES, |name| create_list(name, size_of::<AccessKeyV4>(), 1))?;
    ensure(pins, "access_v6", MAX_SERVICES, |name| create_list(name, size_of::<AccessKeyV6>(), 1))?;
    ensure(pins, "access_blocks", MAX_SERVICES, create_blocks)?;
    ensure(pins, "limits", MAX_LIMITS, create_buckets)
}

/// Creates and pins a map of maps that are made by `template`, unless it is there.
fn ensure(
    pins: &Pins,
    name: &str,
    entries: u32,
    template: impl FnOnce(&str) -> io::Result<OwnedFd>,
) -> io::Result<()> {
    let path = pins.map(name);
    if path.exists() {
        return Ok(());
    }
    let template = template(&format!("{name}_template"))?;
    let map = sys::create_array_of_maps(name, template.as_fd(), entries)?;
    sys::pin(map.as_fd(), &path)
}

/// Creates the slot tables of a service.
pub(super) fn create_slot_tables(name: &str) -> io::Result<OwnedFd> {
    sys::create_array(name, size_of::<Slot>() as u32, SLOTS_BOTH_HALVES, MMAPABLE)
}

/// Creates an access list with room for so many prefixes.
pub(super) fn create_list(name: &str, key: usize, prefixes: u32) -> io::Result<OwnedFd> {
    sys::create_trie(name, key as u32, prefixes)
}

/// Creates lines that stand before an access list.
pub(super) fn create_blocks(name: &str) -> io::Result<OwnedFd> {
    sys::create_array(name, LINE as u32, BLOCK_LINES, MMAPABLE)
}

/// Creates a table of token buckets, all full.
pub(super) fn create_buckets(name: &str) -> io::Result<OwnedFd> {
    sys::create_array(name, LINE as u32, BUCKET_LINES, 0)
}
