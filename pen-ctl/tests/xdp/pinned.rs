//! The pinned maps as another process sees them.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use aya::maps::{Array, HashMap, Map, MapData};
use pen_common::abi::{SLOTS, Slot};

use crate::place::Place;

/// Opens a pinned map.
pub(crate) fn open<M: TryFrom<Map, Error = aya::maps::MapError>>(place: &Place, name: &str) -> M {
    let data = MapData::from_pin(place.pins().join("maps").join(name)).unwrap();
    Map::from_map_data(data).and_then(M::try_from).unwrap()
}

/// Owners of all slots in one half of a service's tables.
pub(crate) fn owners(place: &Place, service: u16, half: u32) -> Vec<u16> {
    let slots: Array<MapData, u64> = open(place, &format!("slots_{service}"));
    (half * SLOTS..(half + 1) * SLOTS).map(|slot| owner(slots.get(&slot, 0).unwrap())).collect()
}

/// Owner in a slot read as a word.
pub(crate) fn owner(word: u64) -> u16 {
    const { assert!(std::mem::offset_of!(Slot, owner) == 0) };
    word as u16
}

/// The IPv4 tracking table: key as three words, value as one.
pub(crate) fn track_v4(place: &Place) -> HashMap<MapData, [u32; 3], u64> {
    open(place, "track_v4")
}

/// A backend's generation and word, by index.
pub(crate) fn backend(place: &Place, index: u32) -> (u16, u64) {
    let backends: Array<MapData, [u64; 8]> = open(place, "backends");
    let words = backends.get(&index, 0).unwrap();
    (words[2] as u16, words[0])
}
