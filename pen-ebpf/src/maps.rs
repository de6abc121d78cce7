//! The maps, each beside its accessors, and how the pipeline reaches them.
//!
//! Values stay where they are for as long as a program runs: arrays never move, and the LRU tables reuse an
//! entry at worst for another key; the pipeline then finds a backend of another service, or none the worse.
#![allow(unsafe_code, reason = "map values are reached by pointers that the kernel hands out")]

use core::arch::asm;
use core::cell::Cell;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_NOEXIST};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, DevMapHash, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::bpf_jiffies64;
use aya_ebpf::macros::btf_map;
use pen_common::abi::{
    Backend, COUNTERS, Counter, Directory, DirectoryHalf, Instance, LOOP_FILTER_WORDS, MAX_BACKENDS,
    MAX_INTERFACES, MAX_SERVICES, Ring, SLOTS, SLOTS_BOTH_HALVES, Slot, TrackKeyV4, TrackKeyV6, Tracked,
    records,
};
use pen_common::ring;
use pen_common::tables::{Memory, Puzzle, Tables};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// Entries of each tracking table, unless the loader says otherwise.
const TRACKED: usize = 262_144;

type SlotTable = Array<Slot, { SLOTS_BOTH_HALVES as usize }, MMAPABLE>;

#[btf_map(name = "instance")]
static INSTANCE: Array<Instance, 1> = Array::new();
#[btf_map(name = "directory")]
static DIRECTORY: Array<Directory, 1, MMAPABLE> = Array::new();
#[btf_map(name = "backends")]
static BACKENDS: Array<Backend, { MAX_BACKENDS as usize }, MMAPABLE> = Array::new();
#[btf_map(name = "slots")]
static SLOT_TABLES: ArrayOfMaps<SlotTable, { MAX_SERVICES as usize }> = ArrayOfMaps::new();
#[btf_map(name = "rings")]
static RINGS: Array<Ring, { MAX_SERVICES as usize }, MMAPABLE> = Array::new();
#[btf_map(name = "track_v4")]
static TRACK_V4: LruHashMap<TrackKeyV4, Tracked, TRACKED> = LruHashMap::new();
#[btf_map(name = "track_v6")]
static TRACK_V6: LruHashMap<TrackKeyV6, Tracked, TRACKED> = LruHashMap::new();
#[btf_map(name = "loop_filter")]
static LOOP_FILTER: Array<[u64; LOOP_FILTER_WORDS], 1, MMAPABLE> = Array::new();
#[btf_map(name = "backend_macs")]
static BACKEND_MACS: HashMap<u64, u32, { MAX_BACKENDS as usize }> = HashMap::new();
#[btf_map(name = "egress")]
static EGRESS: DevMapHash<MAX_INTERFACES> = DevMapHash::new();
#[btf_map(name = "counters")]
static COUNTS: PerCpuArray<Counter, { COUNTERS as usize }> = PerCpuArray::new();
/// What removed backends had counted; the controller's own.
#[btf_map(name = "folded")]
static FOLDED: Array<Counter, { MAX_SERVICES as usize + 1 }> = Array::new();

/// Adds a frame to a record of this CPU; returns how many it has now.
#[inline(always)]
pub(crate) fn count(record: u32, bytes: usize) -> u64 {
    let Some(counter) = COUNTS.get_ptr_mut(record) else { return 0 };
    // SAFETY: a live value of this CPU, which runs one program at a time.
    let counter = unsafe { &mut *counter };
    counter.packets += 1;
    counter.bytes += bytes as u64;
    counter.packets
}

/// Sends the frame out of another attached interface; `otherwise` where that one is not in the map.
#[inline(always)]
pub(crate) fn redirect(ifindex: u32, otherwise: u32) -> u32 {
    EGRESS.redirect(ifindex, u64::from(otherwise)).unwrap_or_else(|action| action)
}

/// The maps as the pipeline sees them, with a note of what puzzled it on the way.
pub(crate) struct KernelTables {
    /// A retired index below, its service above, then [`PUZZLED`]: all of it is always written, because the verifier
    /// refuses loads of what an `Option` leaves undefined.
    puzzle: Cell<u64>,
}

/// Set in [`KernelTables`] once something puzzled the pipeline.
const PUZZLED: u64 = 1 << 32;

impl KernelTables {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self { puzzle: Cell::new(0) }
    }

    /// What puzzled the pipeline, if anything did.
    #[inline(always)]
    pub(crate) fn puzzle(&self) -> Option<Puzzle> {
        let noted = self.puzzle.get();
        let puzzle = Puzzle::RetiredIndex { index: noted as u16, service: (noted >> 16) as u16 };
        if noted & PUZZLED == 0 { None } else { Some(puzzle) }
    }
}

impl Tables for KernelTables {
    type Memory<'a> = KernelMemory;

    #[inline(always)]
    fn directory(&self) -> Option<(&Directory, &DirectoryHalf)> {
        let directory = DIRECTORY.get(0)?;
        // SAFETY: a live, aligned word; read once, because the controller flips it at any time.
        let active = unsafe { addr_of!(directory.active).read_volatile() };
        Some((directory, &directory.halves[(active & 1) as usize]))
    }

    #[inline(always)]
    fn backend(&self, index: u16) -> Option<&Backend> {
        BACKENDS.get(u32::from(index))
    }

    #[inline(always)]
    fn slot(&self, service: u16, half: u32, slot: u32) -> Option<Slot> {
        SLOT_TABLES.get_value(u32::from(service), &((half & 1) * SLOTS + slot)).copied()
    }

    #[inline(always)]
    fn take_turn(&self, service: u16, half: u32) -> Option<u16> {
        let ring = RINGS.get_ptr_mut(u32::from(service))?;
        // SAFETY: a live value.
        let taken = unsafe { addr_of_mut!((*ring).taken) };
        // SAFETY: an aligned word of it, which is only ever touched atomically.
        let turn = unsafe { fetch_increment(taken) };
        // SAFETY: a live value; the controller writes a round only while no packet reads it.
        let round = unsafe { &(*ring).halves[(half & 1) as usize] };
        round.backends.get(ring::place(turn, round.length)?).copied()
    }

    #[inline(always)]
    fn recall_v4(&self, key: &TrackKeyV4) -> Option<KernelMemory> {
        let words = key.words();
        // SAFETY: the key's own bytes, in words.
        TRACK_V4.get_ptr_mut(unsafe { &*words.as_ptr().cast() }).map(KernelMemory)
    }

    #[inline(always)]
    fn recall_v6(&self, key: &TrackKeyV6) -> Option<KernelMemory> {
        let words = key.words();
        // SAFETY: the key's own bytes, in words.
        TRACK_V6.get_ptr_mut(unsafe { &*words.as_ptr().cast() }).map(KernelMemory)
    }

    #[inline(always)]
    fn remember_v4(&self, key: &TrackKeyV4, value: &Tracked) {
        // A failure only means that this packet is not remembered: no entry could be had, or another CPU was faster.
        if TRACK_V4.insert(key, value, u64::from(BPF_NOEXIST)).is_ok() {
            count(records::INSERTED_V4, 0);
        }
    }

    #[inline(always)]
    fn remember_v6(&self, key: &TrackKeyV6, value: &Tracked) {
        // As above.
        if TRACK_V6.insert(key, value, u64::from(BPF_NOEXIST)).is_ok() {
            count(records::INSERTED_V6, 0);
        }
    }

    #[inline(always)]
    fn loop_filter(&self, index: usize) -> u64 {
        LOOP_FILTER.get(0).map_or(0, |words| words[index & (LOOP_FILTER_WORDS - 1)])
    }

    #[inline(always)]
    fn is_backend_mac(&self, key: u64) -> bool {
        BACKEND_MACS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn jiffies(&self) -> u64 {
        // SAFETY: the helper takes nothing and only reads a counter.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn puzzled(&self, puzzle: Puzzle) {
        let Puzzle::RetiredIndex { index, service } = puzzle;
        self.puzzle.set(PUZZLED | u64::from(service) << 16 | u64::from(index));
    }
}

/// Adds one to a word that other CPUs add to as well; returns what it was. (`core` has no such operation for BPF.)
///
/// # Safety
/// The word must be live, aligned, and touched atomically only.
#[inline(always)]
unsafe fn fetch_increment(word: *mut u64) -> u64 {
    let mut value = 1u64;
    // SAFETY: the caller vouches for the word; BPF_ATOMIC with BPF_FETCH (Linux 5.12) touches nothing else.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            value = inout(reg) value,
            word = in(reg) word,
            options(nostack)
        );
    }
    value
}

/// A value of a tracking table in its place; other CPUs may change it at any time.
pub(crate) struct KernelMemory(*mut Tracked);

impl Memory for KernelMemory {
    #[inline(always)]
    fn read(&self) -> Tracked {
        // SAFETY: the kernel handed out this pointer; any bit pattern is a valid value.
        unsafe { self.0.read() }
    }

    #[inline(always)]
    fn touch(&self, seen: u32) {
        // SAFETY: as above; one aligned word.
        unsafe { (*self.0).seen = seen };
    }

    #[inline(always)]
    fn replace(&self, value: Tracked) {
        // SAFETY: as above.
        let (choice, seen) =
            unsafe { (addr_of_mut!((*self.0).backend).cast::<u32>(), addr_of_mut!((*self.0).seen)) };
        // Backend and generation in one store, so that nobody sees one without the other.
        // SAFETY: the first two fields are one aligned word: the struct is aligned to 4 bytes and `repr(C)`.
        unsafe { choice.write(u32::from(value.backend) | u32::from(value.generation) << 16) };
        // SAFETY: as above.
        unsafe { seen.write(value.seen) };
    }
}
