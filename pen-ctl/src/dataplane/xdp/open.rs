//! Opens the XDP data plane: builds it, or adopts what an earlier controller left running.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use pen_common::abi::{
    ABI_VERSION, Directory, Instance, MAGIC, MAX_SERVICES, backend_flags, interface_flags::STRIPPED,
};
use pen_common::service;

use super::access::Lists;
use super::backends::Held;
use super::churn::Churn;
use super::error::OpenError;
use super::grace::Grace;
use super::guard::LoopGuard;
use super::interfaces::pinned_links;
use super::limits::Buckets;
use super::links::xdp_states;
use super::made::{create_instance, ensure_maps_of_maps};
use super::maps::{Maps, SHAPES, backends_in_use, check_pinned, typed};
use super::pins::{Pinned, Pins, discard, inspect, remove};
use super::unusable::Unusable;
use super::{PROGRAM, XdpPlane, directory, load_patiently, number_of, privilege, sys};
use crate::held_lock::HeldLock;

/// The program and its maps, as built by `cargo xtask build-ebpf` and committed.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../pen-ebpf/prebuilt/pen.o"));

/// What to do with pins that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Adopt them if they are this instance's, else refuse. To adopt another's, pass the pins' own id.
    Adopt,
    /// Detach and remove them, and build anew.
    Discard,
}

/// How to open the XDP data plane.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The pin directory, on a BPF file system; made if missing.
    pub dir: PathBuf,
    /// The id that the pins share with the state.
    pub instance: [u8; 16],
    /// Entries of each tracking table. Adopted tables keep their size.
    pub tracking_clients: u32,
    /// What to do with pins that are there already.
    pub policy: Policy,
}

impl XdpPlane {
    /// Builds the data plane, or adopts what is pinned: programs are replaced in place, no packet is lost and no
    /// client forgotten. Refused, it has changed nothing. Set up logging before: what the program logs goes where
    /// `log` messages go at this moment.
    pub fn open(options: &OpenOptions) -> Result<Self, OpenError> {
        // CAP_PERFMON is not always needed: if it is, the verifier says so.
        let missing: Vec<_> =
            privilege::missing().into_iter().filter(|name| *name != privilege::PERFMON).collect();
        if !missing.is_empty() {
            return Err(OpenError::NoPrivilege { missing });
        }
        let pins = Pins::new(&options.dir);
        pins.check_file_system()?;
        let adopt = may_adopt(options)?;
        let lock = if options.dir.exists() { Some(pins.lock()?) } else { None };
        match lock {
            Some(lock) if adopt => return Self::adopt(pins, options, lock),
            held => {
                discard(&options.dir)?;
                drop(held);
            }
        }
        // A directory that was removed took its lock along.
        pins.create()?;
        let lock = pins.lock()?;
        let record = Instance { magic: MAGIC, abi_version: ABI_VERSION, reserved: 0, id: options.instance };
        create_instance(&pins, &record)?;
        Self::adopt(pins, options, lock).inspect_err(|_| {
            // What was just made is of no use to anybody; if it stays, the next start copes with it.
            let _ = discard(&options.dir);
        })
    }

    /// Loads the program onto the pinned maps (making those that are missing), recovers what they hold, and puts
    /// the program into the pinned links.
    fn adopt(pins: Pins, options: &OpenOptions, lock: HeldLock) -> Result<Self, OpenError> {
        pins.create()?;
        check_pinned(&pins)?;
        ensure_maps_of_maps(&pins).map_err(|error| OpenError::from_io("create the maps of maps", &error))?;
        let mut ebpf = load(&pins, options.tracking_clients)?;
        check_pinned(&pins)?;
        let program_id = load_program(&mut ebpf)?;
        let maps = Maps::open(&pins)?;
        let guard = LoopGuard::adopt(&maps).map_err(|why| recovery_failed("backend_macs", why))?;
        let log = logger(&mut ebpf);
        let churn = Churn::new(typed(&pins, "counters")?);
        let clock = sys::Jiffies::load()
            .map_err(|error| OpenError::from_io("load what tells the kernel's clock", &error))?;
        let ticks = sys::ticks_per_second()
            .map_err(|error| OpenError::from_io("ask for the resolution of the coarse clock", &error))?;
        let mut plane = Self {
            pins,
            instance: options.instance,
            _lock: lock,
            ebpf,
            program_id,
            maps,
            services: BTreeMap::new(),
            settings: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            stripped: BTreeMap::new(),
            tables: BTreeMap::new(),
            held: BTreeMap::new(),
            unusable: Unusable::default(),
            lists: Lists::default(),
            buckets: Buckets::default(),
            guard,
            ticks,
            clock: Arc::new(clock),
            churn: Arc::new(churn),
            grace: Grace::default(),
            log,
        };
        // Whoever was here before may have flipped or retired something a moment ago.
        plane.grace.owe();
        plane.set_clock();
        plane.recover_services()?;
        plane.recover_backends().map_err(|why| recovery_failed("backends", why))?;
        plane.recover_links()?;
        plane.pin_program()?;
        plane.sweep().map_err(|why| recovery_failed("slots", why))?;
        plane.adopt_admission().map_err(|why| recovery_failed("access lists and limits", why))?;
        plane.look_for_unusable().map_err(|why| recovery_failed("backends", why))?;
        Ok(plane)
    }

    /// Tells packets how many ticks a second has.
    fn set_clock(&self) {
        // Seconds = ((jiffies >> 2) × multiplier) >> 24.
        let multiplier = ((1 << 26) + self.ticks / 2) / self.ticks;
        let cell = &self.maps.directory.words()[offset_of!(Directory, clock_multiplier) / 8];
        cell.store(multiplier, Ordering::SeqCst);
    }

    fn recover_services(&mut self) -> Result<(), OpenError> {
        let half = self.maps.half(self.active_half());
        self.services = half.map(|half| directory::decode(&half)).unwrap_or_default();
        let told = |entry| directory::settings_of(entry, self.ticks);
        self.settings = self.services.iter().map(|(key, entry)| (*key, told(entry))).collect();
        let ids: Vec<u16> = self.services.values().map(|entry| entry.service).collect();
        for id in ids {
            let table = self.open_table(id).map_err(|why| recovery_failed("slots", why))?;
            self.tables.insert(id, table);
        }
        Ok(())
    }

    /// Recovers who has which index. Backends of services that are gone were being removed: that is finished.
    fn recover_backends(&mut self) -> Result<(), String> {
        for (index, backend) in backends_in_use(&self.maps.backends) {
            let orphan = self.services.values().all(|entry| entry.service != backend.service);
            let retired = orphan || backend.has(backend_flags::RETIRED);
            self.guard.admit(&mut self.maps, index, &backend)?;
            let held = Held { index, generation: backend.generation, retired };
            self.held.insert((backend.service, backend.address), held);
        }
        self.collect()
    }

    /// Puts our program into every link that still leads to an interface, and removes the other links.
    fn recover_links(&mut self) -> Result<(), OpenError> {
        let states = xdp_states().map_err(|error| OpenError::from_io("list the interfaces", &error))?;
        let half = self.maps.half(self.active_half());
        let mut attached = BTreeSet::new();
        for link in pinned_links(&self.pins)? {
            let Some(mode) = link.mode(&states) else {
                self.pins.detach(&link.interface)?;
                continue;
            };
            match sys::update_link(link.fd.as_fd(), self.program_fd()?) {
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
                    self.pins.detach(&link.interface)?;
                    continue;
                }
                done => done.map_err(|error| {
                    OpenError::from_io(format!("replace the program on {}", link.interface), &error)
                })?,
            }
            attached.insert(link.facts.ifindex);
            let found = half.as_ref().and_then(|half| service::interface(half, link.facts.ifindex));
            if let Some(found) = found {
                self.stripped.insert(found.ifindex, found.word & STRIPPED);
                self.interfaces.insert(link.interface, directory::target_of(found, mode));
            }
        }
        self.finish_detaching(&states, &attached);
        Ok(())
    }

    /// Pins the program; an earlier one keeps its pin until the new one takes its place.
    pub(super) fn pin_program(&mut self) -> Result<(), OpenError> {
        let (next, place) = (self.pins.next_program(), self.pins.program());
        remove(&next)?;
        let failed = |error| OpenError::from_io("pin the XDP program", &error);
        sys::pin(self.program_fd()?, &next).map_err(failed)?;
        fs::rename(&next, &place).map_err(failed)
    }

    /// Removes what a controller that was stopped half-way left of services that are gone.
    fn sweep(&mut self) -> Result<(), String> {
        let gone = |id: &u16| self.services.values().all(|entry| entry.service != *id);
        let tables = self.pins.slot_tables().map_err(|error| error.to_string())?;
        let tables: Vec<u16> = tables.into_iter().filter(gone).collect();
        let counts: Vec<u16> = (0..MAX_SERVICES as u16).filter(gone).collect();
        for id in tables {
            self.remove_tables(id)?;
        }
        for id in counts {
            self.fold_service(id)?;
        }
        Ok(())
    }
}

/// Decides by the policy whether what is pinned is adopted (true), or is nothing or to be removed (false).
fn may_adopt(options: &OpenOptions) -> Result<bool, OpenError> {
    let dir = options.dir.clone();
    match (options.policy, inspect(&options.dir)?) {
        (Policy::Adopt, Pinned::Instance { id }) if id == options.instance => Ok(true),
        (Policy::Adopt, Pinned::Instance { id }) => {
            Err(OpenError::ForeignInstance { dir, pins: id, state: options.instance })
        }
        (Policy::Adopt, Pinned::OtherAbi { version, .. }) => Err(OpenError::OtherAbi { dir, found: version }),
        (Policy::Adopt, Pinned::Unidentified) => Err(OpenError::Unidentified { dir }),
        (Policy::Discard, _) | (_, Pinned::Nothing) => Ok(false),
    }
}

fn load(pins: &Pins, tracking_clients: u32) -> Result<Ebpf, OpenError> {
    let mut loader = EbpfLoader::new();
    // Nothing in the object depends on the kernel's own types.
    loader.btf(None);
    for shape in SHAPES {
        loader.map_pin_path(shape.name, pins.map(shape.name));
    }
    loader.map_max_entries("track_v4", tracking_clients).map_max_entries("track_v6", tracking_clients);
    loader.load(OBJECT).map_err(|error| OpenError::from_aya("create the maps", &error))
}

/// Loads the XDP program into the kernel; returns its id.
fn load_program(ebpf: &mut Ebpf) -> Result<u32, OpenError> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| OpenError::from_aya("load the XDP program", error);
    let Some(Program::Xdp(program)) = ebpf.program_mut(PROGRAM) else {
        return Err(recovery_failed(PROGRAM, "the object holds no such program".to_owned()));
    };
    load_patiently(|| program.load(), number_of).map_err(|error| failed(&error))?;
    program.info().map(|info| info.id()).map_err(|error| failed(&error))
}

/// What reads the program's log; without one, forwarding works all the same.
fn logger(ebpf: &mut Ebpf) -> Option<Box<dyn FnMut() + Send>> {
    match EbpfLogger::init(ebpf) {
        Ok(mut logger) => Some(Box::new(move || logger.flush())),
        Err(error) => {
            tracing::warn!("what the XDP program logs cannot be read: {error}");
            None
        }
    }
}

fn recovery_failed(what: &str, why: String) -> OpenError {
    OpenError::Kernel { what: format!("open {what}"), why }
}
