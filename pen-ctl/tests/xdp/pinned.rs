//! The pinned maps as another process sees them.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::mem::offset_of;

use aya::maps::{Array, HashMap, Map, MapData};
use pen_common::abi::{
    DIRECTORY_ENTRIES, Directory, DirectoryHalf, MAC_MASK, SLOTS, ServiceEntry, Slot, backend_flags,
    entry_kind,
};
use pen_common::mac;
use pen_ctl::dataplane::ServiceKey;

use crate::place::Place;

/// Opens a pinned map.
pub(crate) fn open<M: TryFrom<Map, Error = aya::maps::MapError>>(place: &Place, name: &str) -> M {
    let data = MapData::from_pin(place.pins().join("maps").join(name)).unwrap();
    Map::from_map_data(data).and_then(M::try_from).unwrap()
}

/// Which half of the directory is in use, and the bytes of both.
pub(crate) fn directory(place: &Place) -> (u32, [Vec<u8>; 2]) {
    let map: Array<MapData, [u8; size_of::<Directory>()]> = open(place, "directory");
    let bytes = map.get(&0, 0).unwrap();
    let (head, halves) = bytes.split_at(offset_of!(Directory, halves));
    let (first, second) = halves.split_at(size_of::<DirectoryHalf>());
    (u32::from_ne_bytes(head[..4].try_into().unwrap()), [first.to_vec(), second.to_vec()])
}

/// Which half of a service's table is in use.
pub(crate) fn table_half(place: &Place, key: ServiceKey) -> u32 {
    let (active, halves) = directory(place);
    let entries = halves[active as usize].chunks(size_of::<ServiceEntry>()).take(DIRECTORY_ENTRIES);
    let is_it = |entry: &&[u8]| {
        entry[offset_of!(ServiceEntry, kind)] == entry_kind::SERVICE
            && entry[offset_of!(ServiceEntry, port)..][..2] == key.port.to_be_bytes()
    };
    let entry = entries.clone().find(is_it).unwrap();
    u32::from_ne_bytes(entry[offset_of!(ServiceEntry, table_half)..][..4].try_into().unwrap())
}

/// Owners of all slots in one half of a service's tables.
pub(crate) fn owners(place: &Place, service: u16, half: u32) -> Vec<u16> {
    let slots: Array<MapData, u64> = open(place, &format!("slots_{service}"));
    (half * SLOTS..(half + 1) * SLOTS).map(|slot| owner(slots.get(&slot, 0).unwrap())).collect()
}

/// Owner in a slot read as a word.
pub(crate) fn owner(word: u64) -> u16 {
    const { assert!(offset_of!(Slot, owner) == 0) };
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

/// Indexes of backends whose MAC packets are told to be surely no backend's.
pub(crate) fn denied(place: &Place) -> Vec<usize> {
    let (_, halves) = directory(place);
    let backends: Array<MapData, [u64; 8]> = open(place, "backends");
    let is_denied = |word: u64| {
        let (at, bit) = mac::backend_bit(word);
        let at = offset_of!(DirectoryHalf, no_backend) + 8 * at;
        let words = halves.iter().map(|half| u64::from_ne_bytes(half[at..at + 8].try_into().unwrap()));
        words.into_iter().any(|word| word >> bit & 1 != 0)
    };
    let on_the_wire = |word: u64| {
        word & backend_flags::IN_USE != 0 && word & backend_flags::LOCAL == 0 && word & MAC_MASK != 0
    };
    // Those in use are the lowest.
    let words = (0..64).map(|index| backends.get(&index, 0).unwrap()[0]).enumerate();
    words.filter(|(_, word)| on_the_wire(*word) && is_denied(*word)).map(|(index, _)| index).collect()
}
