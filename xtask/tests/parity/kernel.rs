//! The kernel's side: the program and its maps, filled from the host's tables.
#![allow(unsafe_code, reason = "map values are plain structs, seen as bytes")]

use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;
use std::path::PathBuf;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, ArrayOfMaps, HashMap as BpfHashMap, MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use pen_common::abi::{
    Address, BUCKET_LINES, Backend, Counter, Directory, FRAGMENT_LINES, LOOP_FILTER_WORDS, MAX_SERVICES,
    Refused, Ring, Round, SLOTS, SLOTS_BOTH_HALVES, TrackKeyV4, TrackKeyV6, Tracked,
};
use pen_common::host::sample::OTHER;
use pen_common::host::{HostKey, HostTables};
use pen_common::tables::WORDS;
use pen_ctl::dataplane::xdp::{OpenOptions, Policy, XdpPlane};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity, unshare_unsafe};

const OBJECT: &[u8] = aya::include_bytes_aligned!("../../../pen-ebpf/prebuilt/pen.o");
/// `BPF_F_MMAPABLE`: inner maps must be like the one the program was verified with.
const MMAPABLE: u32 = 1 << 10;

/// `BPF_F_NO_PREALLOC`, which tries must have.
const NO_PREALLOC: u32 = 1;

/// A line of words, as several maps hold them.
pub(crate) type Words = [u64; WORDS as usize];

const RING: usize = size_of::<Ring>();
/// Bytes of the keys of tracking tables.
const V4: usize = size_of::<TrackKeyV4>();
const V6: usize = size_of::<TrackKeyV6>();

/// The loaded program and its maps.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    /// Token buckets by table.
    buckets: BTreeMap<u32, Array<MapData, Words>>,
    /// Room for a frame that comes out.
    out: Vec<u8>,
}

/// Bytes of the longest frame that comes out of a test run, and more.
const ROOM: usize = 16 * 1024;

/// A value of the ABI as bytes.
fn bytes_of<T: Copy, const N: usize>(value: &T) -> [u8; N] {
    assert_eq!(size_of::<T>(), N);
    // SAFETY: the ABI's types have no padding and any bit pattern is valid; the size was just checked.
    unsafe { std::mem::transmute_copy(value) }
}

/// Lets the controller make its maps, in a mount namespace of this thread's own, and lends the pin of the map of
/// slot tables. One made by the loader would refuse on Linux 6.1 any table that we can make.
fn with_slots_map<R>(use_it: impl FnOnce(PathBuf) -> R) -> R {
    // SAFETY: a thread of a test shares no descriptor table or memory by this flag.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    let bpffs = tempfile::tempdir().unwrap();
    mount("none", bpffs.path(), "bpf", MountFlags::empty(), None).unwrap();
    let dir = bpffs.path().join("pen");
    let slots = dir.join("maps/slots");
    let options = OpenOptions { dir, instance: [1; 16], tracking_clients: 64, policy: Policy::Adopt };
    drop(XdpPlane::open(&options).unwrap());
    let result = use_it(slots);
    unmount(bpffs.path(), UnmountFlags::DETACH).unwrap();
    result
}

/// Keeps this thread on one CPU that it may use; which.
pub(crate) fn pin_to_one_cpu() -> usize {
    let may = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).find(|cpu| may.is_set(*cpu)).unwrap();
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).unwrap();
    cpu
}

impl Kernel {
    /// Loads the committed program, onto the controller's own map of slot tables.
    pub(crate) fn load(loader: &mut EbpfLoader<'_>) -> Self {
        let mut ebpf = with_slots_map(|pin| loader.map_pin_path("slots", pin).load(OBJECT).unwrap());
        let program: &mut Xdp = ebpf.program_mut("pen_xdp").unwrap().try_into().unwrap();
        program.load().unwrap();
        Self { ebpf, buckets: BTreeMap::new(), out: vec![0; ROOM] }
    }

    /// Fills the maps from the host's tables.
    pub(crate) fn install(&mut self, tables: &HostTables) {
        const DIRECTORY: usize = size_of::<Directory>();
        const BACKEND: usize = size_of::<Backend>();
        self.array::<[u8; DIRECTORY]>("directory").set(0, bytes_of(&*tables.directory), 0).unwrap();
        let mut backends = self.array::<[u8; BACKEND]>("backends");
        for (index, backend) in tables.backends.iter().enumerate() {
            backends.set(index as u32, bytes_of(backend), 0).unwrap();
        }
        self.array::<[u64; LOOP_FILTER_WORDS]>("loop_filter").set(0, *tables.loop_filter, 0).unwrap();
        let mut macs: BpfHashMap<_, u64, u32> =
            self.ebpf.map_mut("backend_macs").unwrap().try_into().unwrap();
        for key in &tables.backend_macs {
            macs.insert(key, 1, 0).unwrap();
        }
        self.install_slots(tables);
        self.install_rounds(tables);
        self.install_lists(tables);
        self.install_buckets(tables);
        // A way out that exists; a test run does not use it.
        let mut egress: DevMapHash<_> = self.ebpf.map_mut("egress").unwrap().try_into().unwrap();
        egress.insert(OTHER, 1, None, 0).unwrap();
    }

    fn install_slots(&mut self, tables: &HostTables) {
        let mut outer: ArrayOfMaps<_, Array<MapData, u64>> =
            self.ebpf.map_mut("slots").unwrap().try_into().unwrap();
        let services: std::collections::BTreeSet<u16> = tables.slots.keys().map(|key| key.0).collect();
        for service in services {
            let mut inner = Array::<MapData, u64>::create(SLOTS_BOTH_HALVES, MMAPABLE).unwrap();
            for (&(_, half), slots) in tables.slots.iter().filter(|(key, _)| key.0 == service) {
                for (number, slot) in slots.iter().enumerate() {
                    inner.set(half * SLOTS + number as u32, u64::from_ne_bytes(bytes_of(slot)), 0).unwrap();
                }
            }
            outer.set(u32::from(service), &inner, 0).unwrap();
        }
    }

    fn install_lists(&mut self, tables: &HostTables) {
        for (&service, list) in &tables.access {
            let v4 = list.iter().all(|(prefix, ..)| prefix.is_v4());
            let (room, service) = (list.len() as u32, u32::from(service));
            if v4 {
                let mut inner = LpmTrie::<MapData, u32, u32>::create(room, NO_PREALLOC).unwrap();
                for (prefix, length, says) in list {
                    inner.insert(&Key::new(length - 96, prefix.words[3]), says, 0).unwrap();
                }
                let mut outer: ArrayOfMaps<_, LpmTrie<MapData, u32, u32>> =
                    self.ebpf.map_mut("access_v4").unwrap().try_into().unwrap();
                outer.set(service, &inner, 0).unwrap();
            } else {
                let mut inner = LpmTrie::<MapData, [u32; 4], u32>::create(room, NO_PREALLOC).unwrap();
                for (prefix, length, says) in list {
                    inner.insert(&Key::new(*length, prefix.words), says, 0).unwrap();
                }
                let mut outer: ArrayOfMaps<_, LpmTrie<MapData, [u32; 4], u32>> =
                    self.ebpf.map_mut("access_v6").unwrap().try_into().unwrap();
                outer.set(service, &inner, 0).unwrap();
            }
        }
    }

    fn install_buckets(&mut self, tables: &HostTables) {
        let mut outer: ArrayOfMaps<_, Array<MapData, Words>> =
            self.ebpf.map_mut("limits").unwrap().try_into().unwrap();
        for &table in tables.buckets.keys() {
            let inner = Array::<MapData, Words>::create(BUCKET_LINES, 0).unwrap();
            outer.set(table, &inner, 0).unwrap();
            self.buckets.insert(table, inner);
        }
    }

    /// Fills all token buckets whose lines are named, by table.
    pub(crate) fn fill_buckets(&mut self, table: u32, lines: impl Iterator<Item = u32>) {
        let buckets = self.buckets.get_mut(&table).unwrap();
        lines.for_each(|line| buckets.set(line, Words::default(), 0).unwrap());
    }

    /// Lines of first fragments that are not zero.
    pub(crate) fn fragments(&mut self) -> BTreeMap<u32, Words> {
        let lines = self.array::<Words>("fragments");
        let written = (0..FRAGMENT_LINES).map(|line| (line, lines.get(&line, 0).unwrap()));
        written.filter(|(_, words)| *words != Words::default()).collect()
    }

    /// Packets refused, by record, of those where any were: how many on all CPUs, and the newest one's client of the last
    /// CPU that has one.
    pub(crate) fn refused(&self) -> BTreeMap<u32, Refused> {
        let refused: PerCpuArray<_, [u32; 8]> = self.ebpf.map("refused").unwrap().try_into().unwrap();
        let mut sums = BTreeMap::new();
        for record in 0..2 * MAX_SERVICES {
            for [low, high, a, b, c, d, second, _] in refused.get(&record, 0).unwrap().iter() {
                let packets = u64::from(*low) | u64::from(*high) << 32;
                if packets > 0 {
                    let sum: &mut Refused = sums.entry(record).or_default();
                    let client = Address { words: [*a, *b, *c, *d] };
                    *sum = Refused { packets: sum.packets + packets, client, second: *second, reserved: 0 };
                }
            }
        }
        sums
    }

    /// A line of what was to be inserted, as [`HostTables::inserts`] has them, of a CPU's own.
    pub(crate) fn inserts(&mut self, cpu: usize, line: u32) -> Words {
        let Some(index) = own_inserts(line) else {
            return self.array::<Words>("inserts_all").get(&0, 0).unwrap();
        };
        let own: PerCpuArray<_, Words> = self.ebpf.map("inserts").unwrap().try_into().unwrap();
        own.get(&index, 0).unwrap()[cpu]
    }

    fn install_rounds(&mut self, tables: &HostTables) {
        let mut rings = self.array::<[u8; RING]>("rings");
        for (&(service, half), turns) in &tables.rounds {
            let mut words = words_of_ring(&rings.get(&u32::from(service), 0).unwrap());
            let start = (offset_of!(Ring, halves) + half as usize * size_of::<Round>()) / 2;
            words[start] = turns.len() as u16;
            words[start + 4..start + 4 + turns.len()].copy_from_slice(turns);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            rings.set(u32::from(service), <[u8; RING]>::try_from(bytes).unwrap(), 0).unwrap();
        }
    }

    /// Turns taken so far, of services where any were.
    pub(crate) fn taken(&mut self) -> BTreeMap<u16, u64> {
        let rings = self.array::<[u8; RING]>("rings");
        let taken = |service: u16| {
            let ring = rings.get(&u32::from(service), 0).unwrap();
            (service, u64::from_ne_bytes(*ring.first_chunk().unwrap()))
        };
        (0..MAX_SERVICES as u16).map(taken).filter(|(_, taken)| *taken > 0).collect()
    }

    fn array<T: aya::Pod>(&mut self, name: &str) -> Array<&mut MapData, T> {
        self.ebpf.map_mut(name).unwrap().try_into().unwrap()
    }

    /// Runs a frame through the program: the action, and the frame as it is then.
    pub(crate) fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        let program: &mut Xdp = self.ebpf.program_mut("pen_xdp").unwrap().try_into().unwrap();
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut self.out);
        let result = program.test_run(options).unwrap();
        (result.return_value, self.out[..result.data_size_out as usize].to_vec())
    }

    /// A record of `counters`, summed over CPUs.
    pub(crate) fn counter(&self, record: u32) -> Counter {
        let counters: PerCpuArray<_, [u64; 2]> = self.ebpf.map("counters").unwrap().try_into().unwrap();
        let values = counters.get(&record, 0).unwrap();
        values.iter().fold(Counter::default(), |sum, [packets, bytes]| Counter {
            packets: sum.packets + packets,
            bytes: sum.bytes + bytes,
        })
    }

    /// Takes all messages out of the log; how many there were.
    pub(crate) fn logged(&mut self) -> usize {
        let mut log = RingBuf::try_from(self.ebpf.map_mut("AYA_LOGS").unwrap()).unwrap();
        std::iter::from_fn(|| log.next().map(drop)).count()
    }

    /// Everything that is remembered.
    #[allow(dead_code, reason = "rows of frames ask about what the host remembers")]
    pub(crate) fn tracked(&self) -> HashMap<HostKey, Tracked> {
        let (v4, v6) = (self.track::<V4>("track_v4"), self.track::<V6>("track_v6"));
        let v4 = v4.iter().map(Result::unwrap).map(|(key, value)| {
            // SAFETY: any bit pattern is a valid key; the sizes are the same by type.
            (HostKey::V4(unsafe { std::mem::transmute::<[u8; V4], TrackKeyV4>(key) }), tracked_of(value))
        });
        let v6 = v6.iter().map(Result::unwrap).map(|(key, value)| {
            // SAFETY: as above.
            (HostKey::V6(unsafe { std::mem::transmute::<[u8; V6], TrackKeyV6>(key) }), tracked_of(value))
        });
        v4.chain(v6).collect()
    }

    /// What is remembered under a key.
    #[allow(dead_code, reason = "the parity test reads all")]
    pub(crate) fn remembered(&self, key: &HostKey) -> Option<Tracked> {
        let value = match key {
            HostKey::V4(key) => self.track::<V4>("track_v4").get(&bytes_of(key), 0),
            HostKey::V6(key) => self.track::<V6>("track_v6").get(&bytes_of(key), 0),
        };
        value.ok().map(tracked_of)
    }

    /// Puts a memory in.
    pub(crate) fn remember(&mut self, key: &HostKey, value: Tracked) {
        let value = words_of(value);
        match key {
            HostKey::V4(key) => self.track_mut::<V4>("track_v4").insert(bytes_of(key), value, 0),
            HostKey::V6(key) => self.track_mut::<V6>("track_v6").insert(bytes_of(key), value, 0),
        }
        .unwrap();
    }

    fn track<const KEY: usize>(&self, name: &str) -> BpfHashMap<&MapData, [u8; KEY], [u16; 4]> {
        self.ebpf.map(name).unwrap().try_into().unwrap()
    }

    fn track_mut<const KEY: usize>(&mut self, name: &str) -> BpfHashMap<&mut MapData, [u8; KEY], [u16; 4]> {
        self.ebpf.map_mut(name).unwrap().try_into().unwrap()
    }

    /// Makes undone what frames left in the tables, as far as the host's side knows of it.
    #[allow(
        dead_code,
        reason = "for rows of frames that begin anew; the parity test goes on from frame to frame"
    )]
    pub(crate) fn forget(&mut self, host: &HostTables) {
        for key in host.tracked.borrow().keys() {
            match key {
                HostKey::V4(key) => self.track_mut::<V4>("track_v4").remove(&bytes_of(key)),
                HostKey::V6(key) => self.track_mut::<V6>("track_v6").remove(&bytes_of(key)),
            }
            .unwrap();
        }
        for line in host.fragments.written().into_keys() {
            self.array::<[u64; WORDS as usize]>("fragments").set(line, [0; WORDS as usize], 0).unwrap();
        }
        for line in host.inserts.iter().flat_map(|lines| lines.written().into_keys()) {
            let Some(index) = own_inserts(line) else {
                self.array::<Words>("inserts_all").set(0, Words::default(), 0).unwrap();
                continue;
            };
            let mut own: PerCpuArray<_, Words> = self.ebpf.map_mut("inserts").unwrap().try_into().unwrap();
            let nothing = vec![Words::default(); aya::util::nr_cpus().unwrap()];
            own.set(index, PerCpuValues::try_from(nothing).unwrap(), 0).unwrap();
        }
        for service in host.taken.borrow().keys() {
            let mut rings = self.array::<[u8; RING]>("rings");
            let mut ring = rings.get(&u32::from(*service), 0).unwrap();
            ring[..size_of::<u64>()].fill(0);
            rings.set(u32::from(*service), ring, 0).unwrap();
        }
    }
}

/// The element of a CPU's own map that is a line of [`HostTables::inserts`]; `None`: it is all CPUs' line.
fn own_inserts(line: u32) -> Option<u32> {
    (line != 1).then(|| line.saturating_sub(1))
}

fn words_of_ring(bytes: &[u8; RING]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|pair| u16::from_ne_bytes(*pair)).collect()
}

fn tracked_of([backend, generation, low, high]: [u16; 4]) -> Tracked {
    Tracked { backend, generation, seen: u32::from(low) | u32::from(high) << 16 }
}

fn words_of(value: Tracked) -> [u16; 4] {
    [value.backend, value.generation, value.seen as u16, (value.seen >> 16) as u16]
}
