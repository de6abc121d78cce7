//! The maps, each beside its accessors, and how the pipeline reaches them.
//!
//! Values stay where they are for as long as a program runs: arrays never move, and the LRU tables reuse an
//! entry at worst for another key; the pipeline then finds a backend of another service, or none the worse.
#![allow(unsafe_code, reason = "map values are reached by pointers that the kernel hands out")]

use core::arch::asm;
use core::cell::Cell;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_NOEXIST};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::bpf_jiffies64;
use aya_ebpf::macros::btf_map;
use pen_common::abi::{
    Address, BLOCK_LINES, BUCKET_LINES, Backend, COUNTERS, Counter, Directory, DirectoryHalf, FRAGMENT_LINES,
    Instance, LOOP_FILTER_WORDS, Limit, MAX_BACKENDS, MAX_INTERFACES, MAX_LIMITS, MAX_PREFIXES, MAX_SERVICES,
    NEWCOMER_LINES, Refused, Ring, SLOTS, SLOTS_BOTH_HALVES, ServiceEntry, Slot, TrackKeyV4, TrackKeyV6,
    Tracked, records,
};
use pen_common::flood::{self, Limits};
use pen_common::tables::{Line, Memory, Puzzle, Tables, WORDS};
use pen_common::track::Aligned;
use pen_common::{blocks, fragment, limit, recent, ring};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// Entries of each tracking table, unless the loader says otherwise.
const TRACKED: usize = 262_144;

type Words = [u64; WORDS as usize];
type Buckets = Array<Words, { BUCKET_LINES as usize }>;
type Blocks = Array<Words, { BLOCK_LINES as usize }, MMAPABLE>;
type ListV4 = LpmTrie<u32, u32, { MAX_PREFIXES as usize }>;
type ListV6 = LpmTrie<[u32; 4], u32, { MAX_PREFIXES as usize }>;
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
#[btf_map(name = "fragments")]
static FRAGMENTS: Array<Words, { FRAGMENT_LINES as usize }> = Array::new();
#[btf_map(name = "limits")]
static LIMITS: ArrayOfMaps<Buckets, { MAX_LIMITS as usize }> = ArrayOfMaps::new();
#[btf_map(name = "inserts")]
static OWN_INSERTS: PerCpuArray<Words, { 1 + NEWCOMER_LINES as usize }> = PerCpuArray::new();
#[btf_map(name = "inserts_all")]
static ALL_INSERTS: Array<Words, 1> = Array::new();
#[btf_map(name = "access_v4")]
static ACCESS_V4: ArrayOfMaps<ListV4, { MAX_SERVICES as usize }> = ArrayOfMaps::new();
#[btf_map(name = "access_blocks")]
static ACCESS_BLOCKS: ArrayOfMaps<Blocks, { MAX_SERVICES as usize }> = ArrayOfMaps::new();
#[btf_map(name = "access_v6")]
static ACCESS_V6: ArrayOfMaps<ListV6, { MAX_SERVICES as usize }> = ArrayOfMaps::new();
#[btf_map(name = "refused")]
static REFUSED: PerCpuArray<Refused, { 2 * MAX_SERVICES as usize }> = PerCpuArray::new();
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
    type Line<'a> = KernelLine;

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
        let turn = unsafe { fetch_add(taken, 1) };
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
    fn fragments(&self, line: u32) -> Option<KernelLine> {
        FRAGMENTS.get_ptr_mut(line).map(KernelLine)
    }

    #[inline(always)]
    fn buckets(&self, table: u32, line: u32) -> Option<KernelLine> {
        LIMITS.get_value_ptr_mut(table, &line).map(KernelLine)
    }

    #[inline(always)]
    fn own_inserts(&self) -> Option<KernelLine> {
        OWN_INSERTS.get_ptr_mut(0).map(KernelLine)
    }

    #[inline(always)]
    fn newcomers(&self, line: u32) -> Option<KernelLine> {
        OWN_INSERTS.get_ptr_mut(1 + line).map(KernelLine)
    }

    #[inline(always)]
    fn all_inserts(&self) -> Option<KernelLine> {
        ALL_INSERTS.get_ptr_mut(0).map(KernelLine)
    }

    #[inline(always)]
    fn listed(&self, service: &ServiceEntry, client: &Address) -> Option<u32> {
        let is_v4 = service.address.is_v4();
        let service = u32::from(service.service);
        let says = if is_v4 {
            pen_listed_v4(service, client.words[3])
        } else {
            let [high, low] = client.halves();
            match pen_recent_v6(service, high, low) {
                0 => pen_note_recent_v6(service, high, low, pen_listed_v6(service, high, low)),
                says => says,
            }
        };
        if says == 0 { None } else { Some(says) }
    }

    #[inline(always)]
    fn take_token(&self, table: u32, limit: Limit, key: u64) -> bool {
        pen_take_token(table, u64::from(limit.cost) | u64::from(limit.burst) << 32, key) != 0
    }

    #[inline(always)]
    fn suppresses(&self, limits: Limits, now: u32) -> bool {
        pen_suppresses(limits.per_cpu, limits.in_all, now) != 0
    }

    #[inline(always)]
    fn note_newcomer(&self, who: u64, now: u32) {
        pen_note_newcomer(who, now);
    }

    #[inline(always)]
    fn came_before(&self, who: u64, now: u32) -> bool {
        pen_came_before(who, now) != 0
    }

    #[inline(always)]
    fn note_first(&self, line: u32, word: u64, now: u32) {
        pen_note_first(line, word, now);
    }

    #[inline(always)]
    fn first(&self, line: u32, tag: u64, now: u32) -> u64 {
        pen_first(line, tag, now)
    }

    #[inline(always)]
    fn refused(&self, record: u32, client: &Address, second: u32) {
        let [high, low] = client.halves();
        pen_refused(record, high, low, second);
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

// Functions of numbers alone, with linkage that the verifier calls global: it looks at each once, and not again wherever
// it is called.

/// What the list of a service says about an IPv4 address, wire order; 0 = nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_listed_v4(service: u32, address: u32) -> u32 {
    if let Some(line) = ACCESS_BLOCKS.get_value_ptr_mut(service, &blocks::line(address)) {
        let says = blocks::says(&KernelLine(line), address);
        if says != blocks::ASK {
            return says;
        }
    }
    let key = Aligned(Key::new(32, address));
    ACCESS_V4.get(service).and_then(|list| list.get(&key.0)).map_or(0, |says| *says)
}

/// [`recent::says`] of an IPv6 address, in halves. This, the look into the trie and the note of it are three functions because
/// each has little stack left (`xtask/tests/stack.rs`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_recent_v6(service: u32, high: u64, low: u64) -> u32 {
    let line = ACCESS_BLOCKS.get_value_ptr_mut(service, &recent::line(high, low));
    line.map_or(0, |line| recent::says(&KernelLine(line), high, low))
}

/// [`recent::note`] of what the trie said, unless that was nothing; returns it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_note_recent_v6(service: u32, high: u64, low: u64, says: u32) -> u32 {
    if says != 0
        && let Some(line) = ACCESS_BLOCKS.get_value_ptr_mut(service, &recent::line(high, low))
    {
        recent::note(&KernelLine(line), high, low, says);
    }
    says
}

/// What the list of a service says about an IPv6 address, in halves; 0 = nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_listed_v6(service: u32, high: u64, low: u64) -> u32 {
    // The address stands behind the length: it is the address that has to be aligned.
    let key = Aligned((0u32, Key::new(128, Address::of_halves([high, low]).words)));
    ACCESS_V6.get(service).and_then(|list| list.get(&key.0.1)).map_or(0, |says| *says)
}

/// [`limit::take_token`] with cost and burst in one number; 0 = there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_take_token(table: u32, limit: u64, key: u64) -> u32 {
    let limit = Limit { cost: limit as u32, burst: (limit >> 32) as u32 };
    u32::from(limit::take_token(&KernelTables::new(), table, limit, key))
}

/// [`flood::suppresses`]; 0 = no.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_suppresses(per_cpu: u32, in_all: u32, now: u32) -> u32 {
    u32::from(flood::suppresses(&KernelTables::new(), Limits { per_cpu, in_all }, now))
}

/// [`flood::note`]. The kernel wants a number back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_note_newcomer(who: u64, now: u32) -> u32 {
    flood::note(&KernelTables::new(), who, now);
    0
}

/// [`flood::came_before`]; 0 = no.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_came_before(who: u64, now: u32) -> u32 {
    u32::from(flood::came_before(&KernelTables::new(), who, now))
}

/// [`fragment::put`]. The kernel wants a number back.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_note_first(line: u32, word: u64, now: u32) -> u32 {
    fragment::put(&KernelTables::new(), line, word, now);
    0
}

/// [`fragment::find`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_first(line: u32, tag: u64, now: u32) -> u64 {
    fragment::find(&KernelTables::new(), line, tag, now)
}

/// Counts a refused packet of a client, whose address is in halves.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pen_refused(record: u32, high: u64, low: u64, second: u32) -> u32 {
    let Some(refused) = REFUSED.get_ptr_mut(record) else { return 0 };
    // SAFETY: a live value of this CPU, which runs one program at a time.
    let refused = unsafe { &mut *refused };
    refused.packets += 1;
    refused.client = Address::of_halves([high, low]);
    refused.second = second;
    0
}

/// Adds to a word that other CPUs add to as well; returns what it was. (`core` has no such operation for BPF.)
///
/// # Safety
/// The word must be live, aligned, and touched atomically only.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, amount: u64) -> u64 {
    let mut value = amount;
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

/// Stores a word that is still what it was; whether it was.
///
/// # Safety
/// The word must be live and aligned.
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, before: u64, after: u64) -> bool {
    let mut found = before;
    // SAFETY: the caller vouches for the word; BPF_CMPXCHG (Linux 5.12) takes and gives in r0, and touches nothing else.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {after})",
            inout("r0") found,
            word = in(reg) word,
            after = in(reg) after,
            options(nostack)
        );
    }
    found == before
}

/// A line of words in its place; other CPUs may change it at any time, word by word.
pub(crate) struct KernelLine(*mut Words);

impl KernelLine {
    #[inline(always)]
    fn at(&self, index: u32) -> *mut u64 {
        let index = (index & (WORDS - 1)) as usize;
        self.0.cast::<u64>().wrapping_add(index)
    }
}

impl Line for KernelLine {
    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        // SAFETY: one of the words of a live value; once, whatever others do.
        unsafe { self.at(index).read_volatile() }
    }

    #[inline(always)]
    fn set_word(&self, index: u32, value: u64) {
        // SAFETY: as above.
        unsafe { self.at(index).write_volatile(value) };
    }

    #[inline(always)]
    fn add(&self, index: u32, amount: u64) -> u64 {
        // SAFETY: one of the words of a live value. That others may store it loses a count at worst.
        unsafe { fetch_add(self.at(index), amount) }
    }

    #[inline(always)]
    fn replace(&self, index: u32, before: u64, after: u64) -> bool {
        // SAFETY: one of the words of a live value.
        unsafe { compare_exchange(self.at(index), before, after) }
    }
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
