//! The maps as the controller holds them, and the check that what is pinned has the shape of our ABI.

use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Array, DevMapHash, HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use pen_common::abi::{
    self, Backend, Counter, Directory, DirectoryHalf, FRAGMENT_LINES, Instance, LOOP_FILTER_WORDS,
    MAX_BACKENDS, MAX_INTERFACES, MAX_LIMITS, MAX_SERVICES, NEWCOMER_LINES, Refused, Ring, SLOTS_BOTH_HALVES,
    Slot, TrackKeyV4, TrackKeyV6, Tracked,
};

use super::error::OpenError;
use super::made::create_slot_tables;
use super::mapped::{self, Mapped};
use super::pins::Pins;
use super::sys::{self, MMAPABLE};

/// A counter record as aya reads it: packets, bytes.
pub(super) type CounterWords = [u64; 2];

/// A line as aya reads it.
pub(super) type LineWords = [u64; 8];
/// A record of refused packets as aya reads it.
pub(super) type RefusedWords = [u64; size_of::<Refused>() / 8];

/// The shape of a pinned map.
pub(super) struct Shape {
    /// Its name, also that of its pin.
    pub(super) name: &'static str,
    map_type: MapType,
    key: usize,
    value: usize,
    /// `None` = as many as the administrator asked for when it was made.
    entries: Option<u32>,
    flags: u32,
}

/// Bytes of a line: of first fragments, of token buckets, of what was to be inserted.
pub(super) const LINE: usize = size_of::<LineWords>();

/// All maps that are pinned under their own names, the instance record first.
pub(super) const SHAPES: &[Shape] = &[
    shape("instance", MapType::Array, 4, size_of::<Instance>(), Some(1), 0),
    shape("directory", MapType::Array, 4, size_of::<Directory>(), Some(1), MMAPABLE),
    shape("backends", MapType::Array, 4, size_of::<Backend>(), Some(MAX_BACKENDS), MMAPABLE),
    shape("counters", MapType::PerCpuArray, 4, size_of::<Counter>(), Some(abi::COUNTERS), 0),
    shape("folded", MapType::Array, 4, size_of::<Counter>(), Some(1 + MAX_SERVICES), 0),
    shape("track_v4", MapType::LruHash, size_of::<TrackKeyV4>(), size_of::<Tracked>(), None, 0),
    shape("track_v6", MapType::LruHash, size_of::<TrackKeyV6>(), size_of::<Tracked>(), None, 0),
    shape("slots", MapType::ArrayOfMaps, 4, 4, Some(MAX_SERVICES), 0),
    shape("rings", MapType::Array, 4, size_of::<Ring>(), Some(MAX_SERVICES), MMAPABLE),
    shape("loop_filter", MapType::Array, 4, 8 * LOOP_FILTER_WORDS, Some(1), MMAPABLE),
    shape("backend_macs", MapType::Hash, 8, 4, Some(MAX_BACKENDS), 0),
    shape("egress", MapType::DevMapHash, 4, 8, Some(MAX_INTERFACES as u32), 0),
    shape("access_v4", MapType::ArrayOfMaps, 4, 4, Some(MAX_SERVICES), 0),
    shape("access_blocks", MapType::ArrayOfMaps, 4, 4, Some(MAX_SERVICES), 0),
    shape("access_v6", MapType::ArrayOfMaps, 4, 4, Some(MAX_SERVICES), 0),
    shape("limits", MapType::ArrayOfMaps, 4, 4, Some(MAX_LIMITS), 0),
    shape("refused", MapType::PerCpuArray, 4, size_of::<Refused>(), Some(2 * MAX_SERVICES), 0),
    shape("inserts", MapType::PerCpuArray, 4, LINE, Some(1 + NEWCOMER_LINES), 0),
    shape("inserts_all", MapType::Array, 4, LINE, Some(1), 0),
    shape("fragments", MapType::Array, 4, LINE, Some(FRAGMENT_LINES), 0),
];

/// The shape of a service's slot tables.
const SLOT_TABLE: Shape =
    shape("slots_N", MapType::Array, 4, size_of::<Slot>(), Some(SLOTS_BOTH_HALVES), MMAPABLE);

const fn shape(
    name: &'static str,
    map_type: MapType,
    key: usize,
    value: usize,
    entries: Option<u32>,
    flags: u32,
) -> Shape {
    Shape { name, map_type, key, value, entries, flags }
}

/// The opened maps.
pub(super) struct Maps {
    pub(super) directory: Mapped<Directory>,
    pub(super) backends: Mapped<Backend>,
    pub(super) folded: Array<MapData, CounterWords>,
    pub(super) loop_filter: Mapped<u64>,
    pub(super) counters: PerCpuArray<MapData, CounterWords>,
    pub(super) backend_macs: HashMap<MapData, u64, u32>,
    pub(super) egress: DevMapHash<MapData>,
    pub(super) slots: MapData,
    pub(super) rings: Mapped<Ring>,
    pub(super) track_v4: MapData,
    pub(super) track_v6: MapData,
    pub(super) access_v4: MapData,
    pub(super) access_blocks: MapData,
    pub(super) access_v6: MapData,
    pub(super) limits: MapData,
    pub(super) refused: PerCpuArray<MapData, RefusedWords>,
    pub(super) inserts: PerCpuArray<MapData, LineWords>,
}

impl Maps {
    /// Opens all maps from their pins.
    pub(super) fn open(pins: &Pins) -> Result<Self, OpenError> {
        Ok(Self {
            directory: map_array(pins, "directory", 1)?,
            backends: map_array(pins, "backends", MAX_BACKENDS as usize)?,
            folded: typed(pins, "folded")?,
            loop_filter: map_array(pins, "loop_filter", LOOP_FILTER_WORDS)?,
            counters: typed(pins, "counters")?,
            backend_macs: typed(pins, "backend_macs")?,
            egress: typed(pins, "egress")?,
            slots: data(pins, "slots")?,
            rings: map_array(pins, "rings", MAX_SERVICES as usize)?,
            track_v4: data(pins, "track_v4")?,
            track_v6: data(pins, "track_v6")?,
            access_v4: data(pins, "access_v4")?,
            access_blocks: data(pins, "access_blocks")?,
            access_v6: data(pins, "access_v6")?,
            limits: data(pins, "limits")?,
            refused: typed(pins, "refused")?,
            inserts: typed(pins, "inserts")?,
        })
    }

    /// A copy of one half of the directory.
    pub(super) fn half(&self, which: u32) -> Option<Box<DirectoryHalf>> {
        mapped::read_plain(self.half_cells(which)).map(Box::new)
    }

    /// The words of one half of the directory.
    pub(super) fn half_cells(&self, which: u32) -> &[AtomicU64] {
        half_cells(&self.directory, which)
    }

    /// The words of one half of the directory that tell most MACs from those of backends.
    pub(super) fn no_backend_cells(&self, which: u32) -> &[AtomicU64] {
        let at = offset_of!(DirectoryHalf, no_backend) / 8;
        self.half_cells(which).get(at..at + 2).unwrap_or_default()
    }

    /// A counter record, summed over CPUs.
    pub(super) fn counter(&self, index: u32) -> Result<Counter, MapError> {
        let per_cpu = self.counters.get(&index, 0)?;
        let sum = |word: usize| per_cpu.iter().map(|record| record[word]).fold(0, u64::wrapping_add);
        Ok(Counter { packets: sum(0), bytes: sum(1) })
    }

    /// What removed backends of a service counted: record 1 + its id; record 0 is of removed services.
    pub(super) fn folded(&self, index: u32) -> Result<Counter, MapError> {
        let [packets, bytes] = self.folded.get(&index, 0)?;
        Ok(Counter { packets, bytes })
    }

    /// Adds to a folded record.
    pub(super) fn add_folded(&mut self, index: u32, count: Counter) -> Result<(), MapError> {
        let sum = self.folded(index)?;
        let sum = [sum.packets.wrapping_add(count.packets), sum.bytes.wrapping_add(count.bytes)];
        self.folded.set(index, sum, 0)
    }
}

/// Which half of the directory is in use.
pub(super) fn active_half(directory: &Mapped<Directory>) -> u32 {
    directory.half_words()[offset_of!(Directory, active) / 4].load(Ordering::Acquire)
}

/// The words of one half of the directory.
pub(super) fn half_cells(directory: &Mapped<Directory>, which: u32) -> &[AtomicU64] {
    let size = size_of::<DirectoryHalf>() / 8;
    let start = offset_of!(Directory, halves) / 8 + (which as usize & 1) * size;
    directory.words().get(start..start + size).unwrap_or_default()
}

/// The pinned directory by itself; `None` where none is pinned.
pub(super) fn pinned_directory(pins: &Pins) -> Result<Option<Mapped<Directory>>, OpenError> {
    let shape =
        SHAPES.iter().find(|shape| shape.name == "directory").filter(|shape| pins.map(shape.name).exists());
    let Some(shape) = shape else { return Ok(None) };
    check(pins.map(shape.name), shape)?;
    map_array(pins, shape.name, 1).map(Some)
}

/// Refuses pinned maps that have not the shape of our ABI; those that are missing are fine.
pub(super) fn check_pinned(pins: &Pins) -> Result<(), OpenError> {
    for shape in SHAPES {
        check(pins.map(shape.name), shape)?;
    }
    for service in pins.slot_tables()? {
        check(pins.slots(service), &SLOT_TABLE)?;
    }
    Ok(())
}

fn check(path: PathBuf, shape: &Shape) -> Result<(), OpenError> {
    if !path.exists() {
        return Ok(());
    }
    let info = MapInfo::from_pin(&path)
        .map_err(|error| OpenError::from_aya(format!("look at {}", path.display()), &error))?;
    match difference(&info, shape) {
        Some(difference) => Err(OpenError::MapMismatch { path, difference }),
        None => Ok(()),
    }
}

/// In what a map differs from its shape.
fn difference(info: &MapInfo, shape: &Shape) -> Option<String> {
    // The kernel sets flags of its own, such as BPF_F_RDONLY_PROG on device maps: ours must be there.
    let numbers = [
        ("a key of {} bytes", info.key_size(), shape.key as u32),
        ("a value of {} bytes", info.value_size(), shape.value as u32),
        ("{} entries", info.max_entries(), shape.entries.unwrap_or(info.max_entries())),
        ("flags {}", info.map_flags() & MMAPABLE, shape.flags & MMAPABLE),
    ];
    match info.map_type() {
        Ok(found) if found != shape.map_type => {
            return Some(format!("is a map of type {found:?} instead of {:?}", shape.map_type));
        }
        Err(_) => return Some(format!("is a map of a type that is not {:?}", shape.map_type)),
        Ok(_) => {}
    }
    numbers.into_iter().find(|(_, found, wanted)| found != wanted).map(|(what, found, wanted)| {
        format!("has {} instead of {wanted}", what.replace("{}", &found.to_string()))
    })
}

/// The slot tables of a service, opened.
pub(super) struct OpenedSlots {
    pub(super) slots: Mapped<Slot>,
    /// Their descriptor.
    pub(super) fd: OwnedFd,
    /// They were made: the kernel does not know them yet.
    pub(super) made: bool,
}

/// Opens the slot tables of a service from their pin, or makes them, filled with nobody.
pub(super) fn open_slots(pins: &Pins, service: u16) -> io::Result<OpenedSlots> {
    let path = pins.slots(service);
    let len = SLOTS_BOTH_HALVES as usize;
    match sys::open_pin(&path) {
        Ok(fd) => Ok(OpenedSlots { slots: Mapped::new(fd.as_fd(), len)?, fd, made: false }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) => {
            let fd = create_slot_tables(&format!("slots_{service}"))?;
            let slots = Mapped::<Slot>::new(fd.as_fd(), len)?;
            for cell in slots.words() {
                cell.store(Slot::EMPTY.word(), Ordering::Release);
            }
            sys::pin(fd.as_fd(), &path)?;
            Ok(OpenedSlots { slots, fd, made: true })
        }
    }
}

fn data(pins: &Pins, name: &str) -> Result<MapData, OpenError> {
    MapData::from_pin(pins.map(name)).map_err(|error| OpenError::from_aya(format!("open map {name}"), &error))
}

/// Opens a map from its pin.
pub(super) fn typed<M: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &str) -> Result<M, OpenError> {
    Map::from_map_data(data(pins, name)?)
        .and_then(M::try_from)
        .map_err(|error| OpenError::from_aya(format!("open map {name}"), &error))
}

pub(super) fn map_array<T: mapped::Plain>(
    pins: &Pins,
    name: &str,
    len: usize,
) -> Result<Mapped<T>, OpenError> {
    let map = data(pins, name)?;
    Mapped::new(map.fd().as_fd(), len)
        .map_err(|error| OpenError::from_io(format!("map {name} into memory"), &error))
}

/// Indexes of the backends in use, and what they hold.
pub(super) fn backends_in_use(backends: &Mapped<Backend>) -> BTreeMap<u16, Backend> {
    (0..MAX_BACKENDS as u16)
        .filter_map(|index| {
            let word = backends.element(usize::from(index)).first()?;
            let in_use = word.load(Ordering::Acquire) & abi::backend_flags::IN_USE != 0;
            in_use.then(|| backends.read(usize::from(index)).map(|backend| (index, backend)))?
        })
        .collect()
}
