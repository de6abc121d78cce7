//! The pipeline on a host: frames and tables in ordinary memory, for tests and tools.

pub mod frames;
pub mod golden;
pub mod random;
pub mod sample;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::abi::{
    Address, Backend, Directory, DirectoryHalf, Interface, LOOP_FILTER_WORDS, Refused, SLOTS, ServiceEntry,
    Slot, TrackKeyV4, TrackKeyV6, Tracked,
};
use crate::packet::Packet;
use crate::service::{self, BuildError};
use crate::tables::{Line, Memory, Puzzle, Tables, WORDS};
use crate::{mac, pipeline, ring, verdict::Verdict};

/// A frame in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

impl Packet for Frame {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.0.get(at..)?.first_chunk()
    }

    fn bytes_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.0.get_mut(at..)?.first_chunk_mut()
    }

    fn resize(&mut self, len: usize) -> bool {
        self.0.resize(len, 0);
        true
    }
}

/// A frame of which only the first bytes can be reached, as a driver hands over one that fills several buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitFrame {
    /// All of it.
    pub frame: Frame,
    /// How many bytes are in the first buffer.
    pub first: usize,
}

impl Packet for SplitFrame {
    fn len(&self) -> usize {
        self.frame.len()
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.frame.0.get(..self.first)?.get(at..)?.first_chunk()
    }

    fn bytes_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        self.frame.0.get_mut(..self.first)?.get_mut(at..)?.first_chunk_mut()
    }

    fn resize(&mut self, _: usize) -> bool {
        false
    }
}

/// A key of either tracking table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKey {
    /// Of `track_v4`.
    V4(TrackKeyV4),
    /// Of `track_v6`.
    V6(TrackKeyV6),
}

/// All tables a packet's fate depends on.
#[derive(Clone, Debug)]
pub struct HostTables {
    /// The directory.
    pub directory: Box<Directory>,
    /// Backends by index.
    pub backends: Vec<Backend>,
    /// Slot tables by service and half.
    pub slots: HashMap<(u16, u32), Vec<Slot>>,
    /// Rounds of turns by service and half.
    pub rounds: HashMap<(u16, u32), Vec<u16>>,
    /// Turns taken so far, by service.
    pub taken: RefCell<BTreeMap<u16, u64>>,
    /// What is remembered; without a bound.
    pub tracked: RefCell<HashMap<HostKey, Tracked>>,
    /// Entries that packets inserted so far, IPv4 and IPv6.
    pub inserted: Cell<[u64; 2]>,
    /// Lines of first fragments, those that were asked for.
    pub fragments: Lines,
    /// Lines of token buckets by table, of tables that there are.
    pub buckets: BTreeMap<u32, Lines>,
    /// What this CPU (line 0), and what all of them (line 1), wanted to insert, and who came in a flood (from 2 on); `None` =
    /// nobody counts.
    pub inserts: Option<Lines>,
    /// Access lists by service: prefixes with their lengths (IPv4 mapped, so 96 longer), and what each says.
    pub access: BTreeMap<u16, Vec<(Address, u32, u32)>>,
    /// Packets refused, by record.
    pub refused: RefCell<BTreeMap<u32, Refused>>,
    /// The loop filter.
    pub loop_filter: Box<[u64; LOOP_FILTER_WORDS]>,
    /// The MACs of backends, with their services: [`mac::loop_key`]s.
    pub backend_macs: HashSet<u64>,
    /// What the clock shows, in jiffies.
    pub jiffies: Cell<u64>,
    /// What puzzled the pipeline so far.
    pub puzzles: RefCell<Vec<Puzzle>>,
}

impl Default for HostTables {
    fn default() -> Self {
        let half = DirectoryHalf::EMPTY;
        // 250 jiffies a second, as most kernels have it: (jiffies >> 2) × 2²⁴ / 62.5 >> 24.
        let clock_multiplier = (1 << 24) * 4 / 250 + 1;
        Self {
            directory: Box::new(Directory {
                active: 0,
                reserved: 0,
                seed: 0,
                clock_multiplier,
                flood_per_cpu: 0,
                flood_in_all: 0,
                spare: [0; 4],
                halves: [half; 2],
            }),
            backends: Vec::new(),
            slots: HashMap::new(),
            rounds: HashMap::new(),
            taken: RefCell::default(),
            tracked: RefCell::default(),
            inserted: Cell::default(),
            fragments: Lines::default(),
            buckets: BTreeMap::new(),
            inserts: None,
            access: BTreeMap::new(),
            refused: RefCell::default(),
            loop_filter: Box::new([0; LOOP_FILTER_WORDS]),
            backend_macs: HashSet::new(),
            jiffies: Cell::new(1 << 32),
            puzzles: RefCell::default(),
        }
    }
}

impl HostTables {
    /// Decides what becomes of a frame, and rewrites it accordingly.
    pub fn run(&self, frame: &mut Frame, ingress: u32) -> Verdict {
        pipeline::run(frame, self, ingress)
    }

    /// Fills the half of the directory that is in use.
    ///
    /// # Errors
    /// As [`service::build`].
    pub fn set_directory(
        &mut self,
        entries: &[ServiceEntry],
        interfaces: &[Interface],
    ) -> Result<(), BuildError> {
        let half = &mut self.directory.halves[(self.directory.active & 1) as usize];
        service::build(half, entries, interfaces, 1)?;
        half.no_backend = [u64::MAX; 2];
        for backend in &self.backends {
            let (word, bit) = mac::backend_bit(backend.mac());
            half.no_backend[word] &= !(1 << bit);
        }
        Ok(())
    }

    /// Adds a backend and notes its MAC; returns its index.
    pub fn add_backend(&mut self, backend: Backend) -> u16 {
        let key = mac::loop_key(backend.mac(), backend.service);
        let (word, bit) = mac::loop_filter_bit(key);
        self.loop_filter[word] |= bit;
        self.backend_macs.insert(key);
        let (word, bit) = mac::backend_bit(backend.mac());
        for half in &mut self.directory.halves {
            half.no_backend[word] &= !(1 << bit);
        }
        self.backends.push(backend);
        (self.backends.len() - 1) as u16
    }

    /// Shares the slots of a service among backends of these indexes, in turn; nobody when there are none.
    pub fn share_slots(&mut self, service: u16, half: u32, owners: &[u16]) {
        let slots = (0..SLOTS as usize).map(|number| match owners {
            [] => Slot::EMPTY,
            _ => Slot::owned_by(owners[number % owners.len()]),
        });
        self.slots.insert((service, half), slots.collect());
    }

    /// Moves the clock on.
    pub fn pass_seconds(&self, seconds: u64) {
        self.jiffies.set(self.jiffies.get() + seconds * 250);
    }

    fn recall(&self, key: HostKey) -> Option<HostMemory<'_>> {
        self.tracked.borrow().contains_key(&key).then_some(HostMemory { table: &self.tracked, key })
    }
}

impl Tables for HostTables {
    type Memory<'a> = HostMemory<'a>;
    type Line<'a> = HostLine;

    fn directory(&self) -> Option<(&Directory, &DirectoryHalf)> {
        let half = &self.directory.halves[(self.directory.active & 1) as usize];
        Some((&self.directory, half))
    }

    fn backend(&self, index: u16) -> Option<&Backend> {
        self.backends.get(usize::from(index))
    }

    fn slot(&self, service: u16, half: u32, slot: u32) -> Option<Slot> {
        self.slots.get(&(service, half & 1))?.get(slot as usize).copied()
    }

    fn take_turn(&self, service: u16, half: u32) -> Option<u16> {
        let round = self.rounds.get(&(service, half & 1))?;
        let mut all = self.taken.borrow_mut();
        let taken = all.entry(service).or_default();
        *taken += 1;
        round.get(ring::place(*taken - 1, round.len() as u32)?).copied()
    }

    fn recall_v4(&self, key: &TrackKeyV4) -> Option<HostMemory<'_>> {
        self.recall(HostKey::V4(*key))
    }

    fn recall_v6(&self, key: &TrackKeyV6) -> Option<HostMemory<'_>> {
        self.recall(HostKey::V6(*key))
    }

    fn remember_v4(&self, key: &TrackKeyV4, value: &Tracked) {
        let [v4, v6] = self.inserted.get();
        self.inserted.set([v4 + 1, v6]);
        self.tracked.borrow_mut().insert(HostKey::V4(*key), *value);
    }

    fn remember_v6(&self, key: &TrackKeyV6, value: &Tracked) {
        let [v4, v6] = self.inserted.get();
        self.inserted.set([v4, v6 + 1]);
        self.tracked.borrow_mut().insert(HostKey::V6(*key), *value);
    }

    fn fragments(&self, line: u32) -> Option<HostLine> {
        Some(self.fragments.line(line))
    }

    fn buckets(&self, table: u32, line: u32) -> Option<HostLine> {
        self.buckets.get(&table).map(|lines| lines.line(line))
    }

    fn own_inserts(&self) -> Option<HostLine> {
        self.inserts.as_ref().map(|lines| lines.line(0))
    }

    fn newcomers(&self, line: u32) -> Option<HostLine> {
        self.inserts.as_ref().map(|lines| lines.line(2 + line))
    }

    fn all_inserts(&self) -> Option<HostLine> {
        self.inserts.as_ref().map(|lines| lines.line(1))
    }

    fn listed(&self, service: &ServiceEntry, client: &Address) -> Option<u32> {
        let bits = |address: &Address| u128::from_be_bytes(address.octets());
        let is_in = |prefix: &Address, length: u32| {
            length == 0 || (bits(prefix) ^ bits(client)) >> (128 - length) == 0
        };
        let list = self.access.get(&service.service)?;
        let found = list.iter().filter(|(prefix, length, _)| is_in(prefix, *length));
        found.max_by_key(|(_, length, _)| *length).map(|(_, _, says)| *says)
    }

    fn refused(&self, record: u32, client: &Address, second: u32) {
        let mut all = self.refused.borrow_mut();
        let refused = all.entry(record).or_default();
        *refused = Refused { packets: refused.packets + 1, client: *client, second, reserved: 0 };
    }

    fn loop_filter(&self, index: usize) -> u64 {
        self.loop_filter[index]
    }

    fn is_backend_mac(&self, key: u64) -> bool {
        self.backend_macs.contains(&key)
    }

    fn jiffies(&self) -> u64 {
        self.jiffies.get()
    }

    fn puzzled(&self, puzzle: Puzzle) {
        self.puzzles.borrow_mut().push(puzzle);
    }
}

/// A remembered choice in [`HostTables`].
#[derive(Debug)]
pub struct HostMemory<'a> {
    table: &'a RefCell<HashMap<HostKey, Tracked>>,
    key: HostKey,
}

impl Memory for HostMemory<'_> {
    fn read(&self) -> Tracked {
        self.table.borrow().get(&self.key).copied().unwrap_or_default()
    }

    fn touch(&self, seen: u32) {
        if let Some(tracked) = self.table.borrow_mut().get_mut(&self.key) {
            tracked.seen = seen;
        }
    }

    fn replace(&self, value: Tracked) {
        self.table.borrow_mut().insert(self.key, value);
    }
}

/// A line of words, shared by all who hold it.
#[derive(Clone, Debug, Default)]
pub struct HostLine(Rc<[Cell<u64>; WORDS as usize]>);

impl HostLine {
    /// One of these words.
    pub fn of(words: [u64; WORDS as usize]) -> Self {
        Self(Rc::new(words.map(Cell::new)))
    }

    /// All of its words.
    pub fn words(&self) -> [u64; WORDS as usize] {
        self.0.each_ref().map(Cell::get)
    }
}

impl Line for HostLine {
    fn word(&self, index: u32) -> u64 {
        self.0[index as usize].get()
    }

    fn set_word(&self, index: u32, value: u64) {
        self.0[index as usize].set(value);
    }

    fn add(&self, index: u32, amount: u64) -> u64 {
        let was = self.word(index);
        self.set_word(index, was.wrapping_add(amount));
        was
    }

    fn replace(&self, index: u32, before: u64, after: u64) -> bool {
        let same = self.word(index) == before;
        if same {
            self.set_word(index, after);
        }
        same
    }
}

/// A table of lines; those that nobody asked for are zero.
#[derive(Debug, Default)]
pub struct Lines(RefCell<BTreeMap<u32, HostLine>>);

impl Lines {
    /// One of them.
    pub fn line(&self, number: u32) -> HostLine {
        self.0.borrow_mut().entry(number).or_default().clone()
    }

    /// The words of those that are not zero.
    pub fn written(&self) -> BTreeMap<u32, [u64; WORDS as usize]> {
        let all = self.0.borrow();
        all.iter()
            .map(|(number, line)| (*number, line.words()))
            .filter(|(_, words)| words.iter().any(|word| *word != 0))
            .collect()
    }
}

/// With lines of its own: a copy does not see what becomes of the other.
impl Clone for Lines {
    fn clone(&self) -> Self {
        let copied = |words: [u64; WORDS as usize]| HostLine(Rc::new(words.map(Cell::new)));
        Self(RefCell::new(
            self.written().into_iter().map(|(number, words)| (number, copied(words))).collect(),
        ))
    }
}
