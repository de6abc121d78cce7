//! The service hash: which VIP or service an address, port and protocol belong to, in one probe without collisions.
//!
//! *Hash and displace* (Belazzougui, Botelho, Dietzfelbinger, ESA 2009): the upper bits of a key's hash name a bucket,
//! further ones a place, and what stands for the bucket in `displacement` moves all its keys so that they meet
//! no others. Packets look up; the controller builds, trying seeds until one fits.

use crate::abi::{
    Address, DIRECTORY_BUCKETS, DIRECTORY_ENTRIES, DirectoryHalf, Interface, ServiceEntry, entry_kind,
    vip_flags,
};
use crate::hash::GOLDEN;

mod build;

pub use build::{BuildError, build};

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Hash of a key under a seed.
#[inline(always)]
const fn hash(seed: u64, address: &Address, port: u16, protocol: u8) -> u64 {
    let [high, low] = address.halves();
    let rest = port as u64 | (protocol as u64) << 16;
    // Three independent products: the CPU works on them at once.
    let sum = (high ^ seed)
        .wrapping_mul(GOLDEN)
        .wrapping_add((low ^ seed).wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add((rest ^ seed).wrapping_mul(0x94d0_49bb_1331_11eb));
    (sum ^ (sum >> 32)).wrapping_mul(seed | 1)
}

/// The bucket that a hash names.
#[inline(always)]
const fn bucket(hash: u64) -> usize {
    (hash >> (64 - DIRECTORY_BUCKETS.trailing_zeros())) as usize
}

/// The place that a hash names, displaced.
#[inline(always)]
const fn place(hash: u64, displacement: u16) -> usize {
    ((hash >> 32) as usize ^ displacement as usize) & (DIRECTORY_ENTRIES - 1)
}

/// The place of an interface under a multiplier.
#[inline(always)]
const fn interface_place(multiplier: u32, ifindex: u32) -> usize {
    (ifindex.wrapping_mul(multiplier) >> 26) as usize
}

/// The entry for exactly this key.
#[inline(always)]
fn probe<'a>(
    half: &'a DirectoryHalf,
    address: &Address,
    port: u16,
    protocol: u8,
) -> Option<&'a ServiceEntry> {
    let hash = hash(half.hash_seed, address, port, protocol);
    let displacement = half.displacement[bucket(hash)];
    let entry = &half.entries[place(hash, displacement)];
    // In halves: a comparison of whole arrays would become a call of memcmp, which BPF has not.
    let ([high, low], [own_high, own_low]) = (address.halves(), entry.address.halves());
    let kind = if protocol == 0 { entry_kind::VIP } else { entry_kind::SERVICE };
    let found = own_low == low && own_high == high && entry.is(port, protocol, kind);
    if found { Some(entry) } else { None }
}

impl ServiceEntry {
    /// Whether it is for this port and protocol, and of this kind: three fields, by one load.
    #[inline(always)]
    const fn is(&self, port: u16, protocol: u8, kind: u8) -> bool {
        fields(self.port, self.protocol, self.kind) == fields(port, protocol, kind)
    }
}

/// Port, protocol and kind as they stand in an entry.
#[inline(always)]
const fn fields(port: u16, protocol: u8, kind: u8) -> u32 {
    port as u32 | (protocol as u32) << 16 | (kind as u32) << 24
}

/// Where an address stands in [`DirectoryHalf::no_vip`]: the word's index, and the bit's number.
#[inline(always)]
const fn vip_bit(address: &Address) -> (usize, u32) {
    let [high, low] = address.halves();
    let hash = (high ^ low).wrapping_mul(GOLDEN);
    ((hash >> 56) as usize & 3, (hash >> 58) as u32)
}

/// Whether an address is surely no VIP: most strangers leave here.
#[inline(always)]
pub const fn is_no_vip(half: &DirectoryHalf, address: &Address) -> bool {
    let (word, bit) = vip_bit(address);
    (half.no_vip[word] >> bit) & 1 != 0
}

/// The VIP entry of an address: strangers leave here, after one probe.
#[inline(always)]
pub fn vip<'a>(half: &'a DirectoryHalf, address: &Address) -> Option<&'a ServiceEntry> {
    probe(half, address, 0, 0)
}

/// The service of exactly this address, port (wire order) and protocol.
#[inline(always)]
pub fn exact<'a>(
    half: &'a DirectoryHalf,
    address: &Address,
    port: u16,
    protocol: u8,
) -> Option<&'a ServiceEntry> {
    probe(half, address, port, protocol)
}

/// The service that a port (wire order) and protocol of an address belong to: the exact one wins over every-port.
#[inline(always)]
pub fn service<'a>(
    half: &'a DirectoryHalf,
    address: &Address,
    port: u16,
    protocol: u8,
) -> Option<&'a ServiceEntry> {
    if let Some(entry) = exact(half, address, port, protocol) {
        return Some(entry);
    }
    every_port(half, vip(half, address)?, address, protocol)
}

/// The every-port service of a VIP for a protocol.
#[inline(always)]
pub fn every_port<'a>(
    half: &'a DirectoryHalf,
    vip: &ServiceEntry,
    address: &Address,
    protocol: u8,
) -> Option<&'a ServiceEntry> {
    let flag = if protocol == TCP { vip_flags::ANY_TCP } else { vip_flags::ANY_UDP };
    if vip.flags & flag == 0 { None } else { probe(half, address, 0, protocol) }
}

/// The attached interface of a kernel index.
#[inline(always)]
pub fn interface(half: &DirectoryHalf, ifindex: u32) -> Option<&Interface> {
    let interface = &half.interfaces[interface_place(half.interface_multiplier, ifindex)];
    if interface.ifindex == ifindex && ifindex != 0 { Some(interface) } else { None }
}

#[cfg(test)]
mod tests;
