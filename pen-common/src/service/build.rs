//! Builds the service hash and the table of interfaces, trying seeds until nothing collides.

use core::fmt;

use super::{bucket, hash, interface_place, place, vip_bit};
use crate::abi::{
    DIRECTORY_BUCKETS, DIRECTORY_ENTRIES, DirectoryHalf, Interface, MAX_INTERFACES, ServiceEntry, entry_kind,
};
use crate::hash::finish;

/// VIPs and services together at most: half the entries, so that seeds which fit are easily found.
const MAX_ENTRIES: usize = DIRECTORY_ENTRIES / 2;
/// Seeds tried before giving up. About four in five fit even a full directory.
const SEEDS: u64 = 256;
/// Multipliers tried before giving up. One in some thousand fits 32 interfaces with arbitrary indexes.
const MULTIPLIERS: u64 = 1 << 20;

/// Why a directory could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// More VIPs and services than half of the entries.
    TooManyEntries,
    /// Two entries (or one that is marked empty, and any) have the same address, port and protocol.
    DuplicateEntry,
    /// No seed was free of collisions.
    NoSeed,
    /// More interfaces than fit, or two with the same index, or one with index 0.
    BadInterfaces,
    /// No multiplier was free of collisions: too many interfaces with scattered indexes.
    NoMultiplier,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyEntries => "more services and virtual addresses than the directory holds",
            Self::DuplicateEntry => "two services have the same address, port and protocol",
            Self::NoSeed => "no seed keeps the services apart",
            Self::BadInterfaces => "too many interfaces, or two with the same index",
            Self::NoMultiplier => "too many interfaces to tell their indexes apart",
        })
    }
}

impl core::error::Error for BuildError {}

/// Writes the half of a directory that holds these VIPs, services and interfaces.
///
/// `entries` holds both kinds; seeds are tried from `first_seed` on, the same ones each time. On error nothing
/// is changed.
pub fn build(
    half: &mut DirectoryHalf,
    entries: &[ServiceEntry],
    interfaces: &[Interface],
    first_seed: u64,
) -> Result<(), BuildError> {
    check_entries(entries)?;
    let multiplier = find_multiplier(interfaces, first_seed)?;
    let mut displacement = [0; DIRECTORY_BUCKETS];
    let seed = (0..SEEDS)
        .map(|attempt| finish(first_seed.wrapping_add(attempt)))
        .find(|&seed| displace(seed, entries, &mut displacement))
        .ok_or(BuildError::NoSeed)?;

    half.hash_seed = seed;
    half.interface_multiplier = multiplier;
    half.reserved = 0;
    half.displacement = displacement;
    half.entries.fill(ServiceEntry::default());
    half.no_vip = [u64::MAX; 4];
    for entry in entries {
        let (word, bit) = vip_bit(&entry.address);
        half.no_vip[word] &= !(1 << bit);
        let hash = hash(seed, &entry.address, entry.port, entry.protocol);
        half.entries[place(hash, displacement[bucket(hash)])] = *entry;
    }
    half.interfaces.fill(Interface::default());
    for interface in interfaces {
        half.interfaces[interface_place(multiplier, interface.ifindex)] = *interface;
    }
    Ok(())
}

/// Refuses what no seed could keep apart.
fn check_entries(entries: &[ServiceEntry]) -> Result<(), BuildError> {
    if entries.len() > MAX_ENTRIES {
        return Err(BuildError::TooManyEntries);
    }
    for (number, entry) in entries.iter().enumerate() {
        let same = |other: &ServiceEntry| {
            (other.address, other.port, other.protocol) == (entry.address, entry.port, entry.protocol)
        };
        if entry.kind == entry_kind::EMPTY || entries[..number].iter().any(same) {
            return Err(BuildError::DuplicateEntry);
        }
    }
    Ok(())
}

/// Finds displacements under which a seed keeps all entries apart; large buckets choose first.
fn displace(seed: u64, entries: &[ServiceEntry], displacement: &mut [u16; DIRECTORY_BUCKETS]) -> bool {
    let mut hashes = [0u64; MAX_ENTRIES];
    for (slot, entry) in hashes.iter_mut().zip(entries) {
        *slot = hash(seed, &entry.address, entry.port, entry.protocol);
    }
    let hashes = &mut hashes[..entries.len()];
    hashes.sort_unstable();

    displacement.fill(0);
    let mut taken = [false; DIRECTORY_ENTRIES];
    let largest = hashes.chunk_by(|a, b| bucket(*a) == bucket(*b)).map(<[u64]>::len).max().unwrap_or(0);
    for size in (1..=largest).rev() {
        for keys in hashes.chunk_by(|a, b| bucket(*a) == bucket(*b)).filter(|keys| keys.len() == size) {
            let Some(found) = (0..DIRECTORY_ENTRIES as u16).find(|&moved| fits(keys, moved, &taken)) else {
                return false;
            };
            displacement[bucket(keys[0])] = found;
            for &key in keys {
                taken[place(key, found)] = true;
            }
        }
    }
    true
}

/// Whether a bucket's keys, so displaced, meet neither others nor each other.
fn fits(keys: &[u64], displacement: u16, taken: &[bool; DIRECTORY_ENTRIES]) -> bool {
    keys.iter().enumerate().all(|(number, &key)| {
        let at = place(key, displacement);
        !taken[at] && keys[..number].iter().all(|&other| place(other, displacement) != at)
    })
}

/// Finds a multiplier under which the interfaces' indexes do not collide. Indexes in a row always find one.
fn find_multiplier(interfaces: &[Interface], first_seed: u64) -> Result<u32, BuildError> {
    let distinct = |(number, interface): (usize, &Interface)| {
        interface.ifindex != 0 && interfaces[..number].iter().all(|other| other.ifindex != interface.ifindex)
    };
    if interfaces.len() > MAX_INTERFACES || !interfaces.iter().enumerate().all(distinct) {
        return Err(BuildError::BadInterfaces);
    }
    let last_bits = 1 << 26;
    let drawn = (0..MULTIPLIERS).map(|attempt| finish(first_seed.wrapping_add(attempt)) as u32 | 1);
    core::iter::once(last_bits)
        .chain(drawn)
        .find(|&multiplier| {
            let mut taken = 0u64;
            interfaces.iter().all(|interface| {
                let bit = 1 << interface_place(multiplier, interface.ifindex);
                let free = taken & bit == 0;
                taken |= bit;
                free
            })
        })
        .ok_or(BuildError::NoMultiplier)
}
