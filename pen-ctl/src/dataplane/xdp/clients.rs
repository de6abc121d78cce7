//! Reads who is remembered from the tracking tables, with descriptors and mappings of its own.

use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::maps::MapData;
use pen_common::abi::{
    Address, Backend, Directory, DirectoryHalf, SLOTS, SLOTS_BOTH_HALVES, ServiceEntry, Slot, TrackKeyV4,
    TrackKeyV6, Tracked, backend_flags, service_flags,
};
use pen_common::parse::Ports;
use pen_common::select;
use pen_common::tables::{Memory, Puzzle, Tables};
use pen_common::track::{self, Key};

use super::churn::{Churn, Records};
use super::error::chain;
use super::mapped::Mapped;
use super::maps::{backends_in_use, map_array};
use super::pins::Pins;
use super::{XdpPlane, directory, failure, sys};
use crate::dataplane::clients::{Clients, Fate, FlowPorts, Remembered, Standing};
use crate::dataplane::{BackendAddress, DataPlaneError, ServiceKey, TableUse, TrackingUse};

/// Who is remembered, for use beside the plane.
pub(super) struct XdpClients {
    pins: Pins,
    track_v4: TrackTable,
    track_v6: TrackTable,
    directory: Mapped<Directory>,
    backends: Mapped<Backend>,
    clock: Arc<sys::Jiffies>,
}

/// A tracking table.
struct TrackTable {
    fd: OwnedFd,
    /// Entries at most.
    max: u64,
    /// What comes and goes, and where that of this table is counted.
    churn: Arc<Churn>,
    records: Records,
}

impl XdpPlane {
    /// Opens what reads who is remembered; costs some system calls.
    pub(super) fn open_clients(&self) -> Result<XdpClients, DataPlaneError> {
        let what = "open the tracking tables";
        let own = |map: &MapData, records| {
            let info = map.info().map_err(|error| failure(what, chain(&error)))?;
            let fd = map.fd().as_fd().try_clone_to_owned().map_err(|error| failure(what, error))?;
            Ok(TrackTable { fd, max: info.max_entries().into(), churn: Arc::clone(&self.churn), records })
        };
        Ok(XdpClients {
            pins: self.pins.clone(),
            track_v4: own(&self.maps.track_v4, Records::V4)?,
            track_v6: own(&self.maps.track_v6, Records::V6)?,
            directory: map_array(&self.pins, "directory", 1).map_err(|error| failure(what, error))?,
            backends: map_array(&self.pins, "backends", pen_common::abi::MAX_BACKENDS as usize)
                .map_err(|error| failure(what, error))?,
            clock: Arc::clone(&self.clock),
        })
    }
}

impl Clients for XdpClients {
    fn read(&self, visit: &mut dyn FnMut(&Remembered) -> Fate) -> Result<u64, DataPlaneError> {
        let snapshot = self.snapshot().map_err(|error| failure("look at services and backends", error))?;
        let failed = |error: io::Error| failure("read the tracking tables", error);
        let now = track::now(&snapshot.directory, snapshot.jiffies);
        let mut v4 = |key: &KeyParts, tracked| visit(&snapshot.interpret::<TrackKeyV4>(key, tracked, now));
        let read = self.track_v4.each::<TrackKeyV4>(&mut v4).map_err(failed)?;
        if read.stopped {
            return Ok(read.forgotten);
        }
        let mut v6 = |key: &KeyParts, tracked| visit(&snapshot.interpret::<TrackKeyV6>(key, tracked, now));
        Ok(read.forgotten + self.track_v6.each::<TrackKeyV6>(&mut v6).map_err(failed)?.forgotten)
    }

    fn occupancy(&self) -> Result<TrackingUse, DataPlaneError> {
        let failed = |error: io::Error| failure("count the tracking tables", error);
        Ok(TrackingUse {
            v4: self.track_v4.count::<TrackKeyV4>().map_err(failed)?,
            v6: self.track_v6.count::<TrackKeyV6>().map_err(failed)?,
        })
    }

    fn end_windows(&self) -> Result<(), DataPlaneError> {
        self.end_closing().map_err(|error| failure("end the windows of slots that changed owner", error))
    }

    fn newcomer(
        &self,
        service: &ServiceKey,
        client: IpAddr,
    ) -> Result<Option<BackendAddress>, DataPlaneError> {
        let failed = |error: io::Error| failure(format!("look at the slots of {service}"), error);
        let mut snapshot = self.snapshot().map_err(failed)?;
        let found = snapshot.services.values().find(|(key, _)| key == service).copied();
        const NOT_BY_CLIENT: u16 = service_flags::AFFINITY_FLOW | service_flags::ROUND_ROBIN;
        let Some((_, entry)) = found.filter(|(_, entry)| entry.flags & NOT_BY_CLIENT == 0) else {
            return Ok(None);
        };
        let slots = sys::open_pin(&self.slots_pin(entry.service)).map_err(failed)?;
        snapshot.slots = Some(Mapped::new(slots.as_fd(), SLOTS_BOTH_HALVES as usize).map_err(failed)?);
        let ports = Ports { source: 0, destination: 0 };
        let number = select::slot_number(&snapshot.directory, &entry, &client.into(), ports);
        let slot = snapshot.slot(entry.service, entry.table_half, number);
        let chosen = slot.and_then(|slot| select::by_slot(&snapshot, &entry, slot, true));
        Ok(chosen.map(|chosen| chosen.backend.address.to_ip().into()))
    }
}

impl XdpClients {
    /// Shows every entry of both tables; they stay or are forgotten.
    pub(super) fn each_memory(&self, visit: &mut dyn FnMut(&KeyParts, Tracked) -> Fate) -> io::Result<()> {
        self.track_v4.each::<TrackKeyV4>(visit)?;
        self.track_v6.each::<TrackKeyV6>(visit).map(drop)
    }

    /// Where the slot tables of a service are pinned.
    pub(super) fn slots_pin(&self, service: u16) -> PathBuf {
        self.pins.slots(service)
    }

    /// Services, backends and the clock as packets find them now.
    pub(super) fn snapshot(&self) -> io::Result<Snapshot> {
        let active =
            || self.directory.half_words()[offset_of!(Directory, active) / 4].load(Ordering::Acquire);
        let directory = loop {
            let before = active();
            let read = self.directory.read(0).map(Box::new);
            let read = read.ok_or_else(|| io::Error::other("the directory is shorter than it should be"))?;
            // Flipped meanwhile, the half that was in use may have been written anew.
            if active() == before {
                break read;
            }
        };
        let services = directory::decode(half(&directory));
        Ok(Snapshot {
            services: services.into_iter().map(|(key, entry)| (entry.service, (key, entry))).collect(),
            backends: backends_in_use(&self.backends),
            jiffies: self.clock.now()?,
            slots: None,
            directory,
        })
    }
}

impl TrackTable {
    fn batches<K: WireKey>(&self) -> sys::Batches<'_> {
        sys::Batches::new(self.fd.as_fd(), size_of::<K>() as u32, size_of::<Tracked>() as u32)
    }

    /// Shows every entry to `visit` and does with it as that says.
    fn each<K: WireKey>(&self, visit: &mut dyn FnMut(&KeyParts, Tracked) -> Fate) -> io::Result<Read> {
        let (mut batches, mut doomed) = (self.batches::<K>(), Vec::new());
        let mut read = Read::default();
        while !read.stopped
            && let Some(batch) = batches.next()?
        {
            doomed.clear();
            for (key, value) in batch.entries() {
                let Some((parts, tracked)) = K::read(key).zip(tracked(value)) else { continue };
                match visit(&parts, tracked) {
                    Fate::Keep => {}
                    Fate::Forget => doomed.extend_from_slice(key),
                    Fate::Stop => {
                        read.stopped = true;
                        break;
                    }
                }
            }
            let delete = || sys::delete_all(self.fd.as_fd(), size_of::<K>(), &doomed);
            read.forgotten += self.churn.delete(self.records, delete)?;
        }
        Ok(read)
    }

    fn count<K: WireKey>(&self) -> io::Result<TableUse> {
        // What is made or deleted during the count is not taken for evicted: this is before it, that after it.
        let inserted = self.churn.inserted_into(self.records)?;
        let (mut batches, mut used) = (self.batches::<K>(), 0);
        while let Some(batch) = batches.next()? {
            used += batch.len() as u64;
        }
        let left = inserted.saturating_sub(self.churn.deleted_from(self.records)?);
        Ok(TableUse { used, max: self.max, inserted, evicted: left.saturating_sub(used) })
    }
}

/// What came of reading a table.
#[derive(Default)]
struct Read {
    /// How many entries were forgotten.
    forgotten: u64,
    /// The visitor had seen enough.
    stopped: bool,
}

/// Services and backends at one moment.
pub(super) struct Snapshot {
    pub(super) directory: Box<Directory>,
    pub(super) services: BTreeMap<u16, (ServiceKey, ServiceEntry)>,
    backends: BTreeMap<u16, Backend>,
    pub(super) jiffies: u64,
    /// The slot tables of the one service that is asked about.
    slots: Option<Mapped<Slot>>,
}

impl Snapshot {
    /// What an entry means to packets.
    fn interpret<K: WireKey>(&self, key: &KeyParts, tracked: Tracked, now: u32) -> Remembered {
        let service = self.services.get(&key.service);
        let backend = self.backends.get(&tracked.backend).filter(|backend| {
            backend.generation == tracked.generation
                && backend.service == key.service
                && !backend.has(backend_flags::RETIRED)
        });
        let age = now.wrapping_sub(tracked.seen);
        let whole = key.ports.source == 0 && key.ports.destination == 0;
        let flow = FlowPorts {
            client: u16::from_be(key.ports.source),
            service: u16::from_be(key.ports.destination),
        };
        Remembered {
            client: key.client.to_ip(),
            flow: (!whole).then_some(flow),
            service: service.map(|(key, _)| *key),
            backend: backend.map(|backend| backend.address.to_ip().into()),
            // Another CPU, or a packet since, may be ahead.
            idle: if age > u32::MAX / 2 { 0 } else { age },
            standing: match (service, backend) {
                (None, _) => Standing::ServiceRemoved,
                (_, None) => Standing::BackendRemoved,
                (Some((_, entry)), Some(_)) => self.standing::<K>(entry, key, whole, tracked, now),
            },
        }
    }

    fn standing<K: WireKey>(
        &self,
        service: &ServiceEntry,
        key: &KeyParts,
        whole: bool,
        tracked: Tracked,
        now: u32,
    ) -> Standing {
        if !track::remembers(service) || K::is_whole(service, key) != whole {
            Standing::NotAsked
        } else if track::recall(self, service, tracked, now).is_some() {
            Standing::Counts
        } else if track::is_fresh(tracked.seen, now, track::lifetime(service)) {
            Standing::BackendDown
        } else {
            Standing::TimedOut
        }
    }
}

/// What a key says, whichever family's it is.
pub(super) struct KeyParts {
    pub(super) client: Address,
    pub(super) ports: Ports,
    pub(super) service: u16,
}

/// A key as its bytes stand in the table.
trait WireKey: Key {
    /// Reads it; `None` where the bytes are too few.
    fn read(bytes: &[u8]) -> Option<KeyParts>;

    /// The ports, wire order.
    fn ports(&self) -> (u16, u16);

    /// Whether the service remembers such clients as a whole.
    fn is_whole(service: &ServiceEntry, parts: &KeyParts) -> bool {
        let some = Ports { source: 1, destination: 1 };
        Self::new(service, &parts.client, some).ports() == (0, 0)
    }
}

impl WireKey for TrackKeyV4 {
    fn read(bytes: &[u8]) -> Option<KeyParts> {
        Some(KeyParts {
            client: Address::v4(word(bytes, offset_of!(Self, client))?),
            ports: Ports {
                source: half_word(bytes, offset_of!(Self, client_port))?,
                destination: half_word(bytes, offset_of!(Self, service_port))?,
            },
            service: half_word(bytes, offset_of!(Self, service))?,
        })
    }

    fn ports(&self) -> (u16, u16) {
        (self.client_port, self.service_port)
    }
}

impl WireKey for TrackKeyV6 {
    fn read(bytes: &[u8]) -> Option<KeyParts> {
        Some(KeyParts {
            client: Address::from(*bytes.get(offset_of!(Self, client)..)?.first_chunk::<16>()?),
            ports: Ports {
                source: half_word(bytes, offset_of!(Self, client_port))?,
                destination: half_word(bytes, offset_of!(Self, service_port))?,
            },
            service: half_word(bytes, offset_of!(Self, service))?,
        })
    }

    fn ports(&self) -> (u16, u16) {
        (self.client_port, self.service_port)
    }
}

fn tracked(bytes: &[u8]) -> Option<Tracked> {
    Some(Tracked {
        backend: half_word(bytes, offset_of!(Tracked, backend))?,
        generation: half_word(bytes, offset_of!(Tracked, generation))?,
        seen: word(bytes, offset_of!(Tracked, seen))?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half_word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(directory: &Directory) -> &DirectoryHalf {
    &directory.halves[(directory.active & 1) as usize]
}

/// A snapshot as packets see it, so that their own code decides. It remembers nothing itself.
impl Tables for Snapshot {
    type Memory<'a> = Nothing;
    type Line<'a>
        = std::convert::Infallible
    where
        Self: 'a;

    fn directory(&self) -> Option<(&Directory, &DirectoryHalf)> {
        Some((&self.directory, half(&self.directory)))
    }

    fn backend(&self, index: u16) -> Option<&Backend> {
        self.backends.get(&index)
    }

    fn slot(&self, _: u16, half: u32, slot: u32) -> Option<Slot> {
        self.slots.as_ref()?.read(((half & 1) * SLOTS + slot) as usize)
    }

    /// To look takes no turn.
    fn take_turn(&self, _: u16, _: u32) -> Option<u16> {
        None
    }

    fn recall_v4(&self, _: &TrackKeyV4) -> Option<Nothing> {
        None
    }

    fn recall_v6(&self, _: &TrackKeyV6) -> Option<Nothing> {
        None
    }

    fn remember_v4(&self, _: &TrackKeyV4, _: &Tracked) {}

    fn remember_v6(&self, _: &TrackKeyV6, _: &Tracked) {}

    fn loop_filter(&self, _: usize) -> u64 {
        0
    }

    fn is_backend_mac(&self, _: u64) -> bool {
        false
    }

    fn jiffies(&self) -> u64 {
        self.jiffies
    }

    fn puzzled(&self, _: Puzzle) {}
}

/// A memory that there never is.
pub(super) enum Nothing {}

impl Memory for Nothing {
    fn read(&self) -> Tracked {
        match *self {}
    }

    fn touch(&self, _: u32) {
        match *self {}
    }

    fn replace(&self, _: Tracked) {
        match *self {}
    }
}
