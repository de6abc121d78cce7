//! Services: their directory entries, and the slot tables that share their packets among backends.

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use pen_common::abi::{Directory, DirectoryHalf, MAX_SERVICES, NO_BACKEND, SLOTS, ServiceEntry, Slot};
use pen_common::maglev;

use super::border;
use super::checksum;
use super::directory;
use super::mapped::{self, Mapped};
use super::maps::{self, open_slots};
use super::pins::remove;
use super::sys;
use super::windows::{self, Window};
use super::{XdpPlane, failure};
use crate::dataplane::{DataPlaneError, Member, ServiceKey, ServiceSettings};

/// Slots of one half, as an index.
const HALF: usize = SLOTS as usize;

/// The two slot tables of a service.
pub(super) struct Table {
    slots: Mapped<Slot>,
    fd: OwnedFd,
    written: Option<Written>,
}

/// What we last wrote into a table, to notice when someone else wrote there.
struct Written {
    members: Vec<Member>,
    half: u32,
    checksum: u64,
    /// Checksum of the round beside it.
    round: u64,
}

/// What a look at all slots of one half finds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    half: u32,
    checksum: u64,
    /// How many slots are changing owner.
    pub(super) in_transition: u32,
}

impl XdpPlane {
    /// Adds a service with an empty table, or changes its settings.
    pub(super) fn set_service(
        &mut self,
        key: &ServiceKey,
        settings: &ServiceSettings,
    ) -> Result<(), DataPlaneError> {
        let what = || format!("set service {key}");
        let address = border::vip(key)?;
        let before = self.services.get(key).copied();
        let (id, half) = match before {
            Some(entry) => (entry.service, entry.table_half),
            None => (self.free_service_id().ok_or_else(|| too_many_services(key))?, 0),
        };
        if !self.tables.contains_key(&id) {
            remove(&self.pins.slots(id)).map_err(|error| failure(what(), error))?;
            let table = self.open_table(id).map_err(|error| failure(what(), error))?;
            self.tables.insert(id, table);
        }
        if before.is_none() {
            self.clear_admission(id).map_err(|error| failure(what(), error))?;
        }
        let entry = directory::entry_of(address, key, settings, id, half, self.ticks);
        self.prepare_admission(key, &entry, settings).map_err(|error| failure(what(), error))?;
        self.services.insert(*key, entry);
        if let Err(error) = self.write_directory() {
            match before {
                Some(entry) => self.services.insert(*key, entry),
                None => self.services.remove(key),
            };
            return Err(failure(what(), error));
        }
        self.settings.insert(*key, settings.clone());
        self.tidy_admission(&entry).map_err(|error| failure(what(), error))
    }

    /// Removes a service, its tables and its backends; what they counted stays in the total of removed ones.
    pub(super) fn remove_service(&mut self, key: &ServiceKey) -> Result<(), DataPlaneError> {
        let what = || format!("remove service {key}");
        self.settings.remove(key);
        let removed = self.services.remove(key);
        // Without an entry of ours someone else's may be there: written anew, the directory has neither.
        self.write_directory().map_err(|error| failure(what(), error))?;
        let Some(entry) = removed else { return Ok(()) };
        self.retire_service(entry.service)?;
        self.remove_tables(entry.service)
            .and_then(|()| self.clear_admission(entry.service))
            .map_err(|error| failure(what(), error))
    }

    /// Shares the slots and turns of a service: written into the idle half, then flipped by one store.
    pub(super) fn set_table(&mut self, key: &ServiceKey, members: &[Member]) -> Result<(), DataPlaneError> {
        let what = || format!("share the slots of {key}");
        let Some(entry) = self.services.get(key).copied() else {
            return Err(failure(what(), "there is no such service"));
        };
        let owners = members
            .iter()
            .map(|member| {
                let index = self.index_of(entry.service, border::backend(member.address)?);
                index.ok_or_else(|| failure(what(), format!("it has no backend {}", member.address)))
            })
            .collect::<Result<Vec<u16>, DataPlaneError>>()?;
        let seed = self.seed();
        let table = share(seed, &border::members(members)?, &owners);

        self.settle().map_err(|error| failure(what(), error))?;
        // The half in use is what the map says, even if someone else flipped it.
        let half = 1 - (self.active_entry(key).unwrap_or(entry).table_half & 1);
        let window = self.window(&entry).map_err(|error| failure(what(), error))?;
        let Some(slots) = self.tables.get_mut(&entry.service) else {
            return Err(failure(what(), "its slot tables are missing"));
        };
        let checksum = slots.write(half, &table, window);
        let round = self.maps.write_round(entry.service, half, members, &owners);
        slots.written = Some(Written { members: members.to_vec(), half, checksum, round });
        self.flip_table(key, half).map_err(|error| failure(what(), error))
    }

    /// Sets the seed that keys the choice of slots, and builds again the tables whose members are known.
    pub(super) fn set_seed(&mut self, seed: u64) -> Result<(), DataPlaneError> {
        if self.seed() == seed {
            return Ok(());
        }
        self.seed_cell().store(seed, Ordering::SeqCst);
        let keys: Vec<ServiceKey> = self.services.keys().copied().collect();
        for key in keys {
            let id = self.services.get(&key).map(|entry| entry.service);
            let written = id.and_then(|id| self.tables.get(&id)).and_then(|table| table.written.as_ref());
            if let Some(members) = written.map(|written| written.members.clone()) {
                self.set_table(&key, &members)?;
            }
        }
        Ok(())
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed_cell().load(Ordering::Acquire)
    }

    fn seed_cell(&self) -> &AtomicU64 {
        &self.maps.directory.words()[offset_of!(Directory, seed) / 8]
    }

    /// Builds the directory into its idle half and makes that the active one.
    pub(super) fn write_directory(&mut self) -> Result<(), String> {
        let interfaces: Vec<_> = self.interfaces.values().map(|target| self.record_of(target)).collect();
        let mut half = directory::encode(&self.services, &interfaces).map_err(|error| error.to_string())?;
        half.no_backend = self.guard.no_backend();
        self.settle()?;
        let next = 1 - (self.active_half() & 1);
        mapped::write_plain(self.maps.half_cells(next), half.as_ref());
        self.maps.directory.half_words()[offset_of!(Directory, active) / 4].store(next, Ordering::SeqCst);
        self.grace.owe();
        Ok(())
    }

    pub(super) fn active_half(&self) -> u32 {
        maps::active_half(&self.maps.directory)
    }

    /// Waits until no packet uses what was flipped away or retired before.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.grace.settle().map_err(|error| format!("wait for a grace period: {error}"))
    }

    /// Opens (or makes) the slot tables of a service and hands them to the kernel.
    pub(super) fn open_table(&mut self, id: u16) -> Result<Table, String> {
        let opened = open_slots(&self.pins, id).map_err(|error| error.to_string())?;
        let mut table = Table { slots: opened.slots, fd: opened.fd, written: None };
        if opened.made {
            sys::set_element(self.maps.slots.fd().as_fd(), u32::from(id), table.fd.as_raw_fd() as u32)
                .map_err(|error| format!("hand the slot tables to the kernel: {error}"))?;
            // Made empty, it is shared by nobody.
            self.maps.clear_rounds(id);
            let (checksum, round) = (table.survey(0).checksum, self.maps.round_checksum(id, 0));
            table.written = Some(Written { members: Vec::new(), half: 0, checksum, round });
        }
        Ok(table)
    }

    /// Removes the slot tables of a service that the directory does not name any more.
    pub(super) fn remove_tables(&mut self, id: u16) -> Result<(), String> {
        self.settle()?;
        self.tables.remove(&id);
        sys::delete_element(self.maps.slots.fd().as_fd(), u32::from(id))
            .map_err(|error| error.to_string())?;
        remove(&self.pins.slots(id)).map_err(|error| error.to_string())
    }

    /// The entry of a service as packets find it now.
    fn active_entry(&self, key: &ServiceKey) -> Option<ServiceEntry> {
        let half = self.maps.half(self.active_half())?;
        directory::position(&half, key).map(|position| half.entries[position])
    }

    /// One store makes the other half of a table the one in use; where the directory lost the service, it is
    /// written anew.
    fn flip_table(&mut self, key: &ServiceKey, table_half: u32) -> Result<(), String> {
        if let Some(entry) = self.services.get_mut(key) {
            entry.table_half = table_half;
        }
        self.grace.owe();
        let active = self.active_half() & 1;
        let position = self.maps.half(active).and_then(|half| directory::position(&half, key));
        let Some(position) = position else { return self.write_directory() };
        let offset = offset_of!(Directory, halves)
            + active as usize * size_of::<DirectoryHalf>()
            + offset_of!(DirectoryHalf, entries)
            + position * size_of::<ServiceEntry>()
            + offset_of!(ServiceEntry, table_half);
        self.maps.directory.half_words()[offset / 4].store(table_half, Ordering::SeqCst);
        Ok(())
    }

    fn free_service_id(&self) -> Option<u16> {
        (0..MAX_SERVICES as u16).find(|id| {
            self.services.values().all(|entry| entry.service != *id)
                && self.held.keys().all(|(service, _)| service != id)
        })
    }
}

impl Table {
    /// Who shares the table in use, of which this survey is and beside which there is a round of this checksum; `None` if
    /// that is not what we wrote.
    pub(super) fn members(&self, survey: Survey, round: u64) -> Option<&Vec<Member>> {
        let written = self.written.as_ref()?;
        let same = (written.half, written.checksum, written.round) == (survey.half, survey.checksum, round);
        same.then_some(&written.members)
    }

    /// All that takes a look at every slot, at once.
    pub(super) fn survey(&self, half: u32) -> Survey {
        let mut in_transition = 0;
        let owners = self.cells(half).iter().map(|cell| {
            let slot = windows::slot(cell);
            in_transition += u32::from(windows::is_marked(slot));
            u64::from(slot.owner)
        });
        // Of the owners alone: phases move by themselves.
        let checksum = checksum::of(owners);
        Survey { half, checksum, in_transition }
    }

    /// The descriptor of its map.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the table in use names any backend.
    pub(super) fn names_anyone(&self, half: u32) -> bool {
        self.any_slot(half, |slot| slot.owner != NO_BACKEND)
    }

    /// Whether the table in use names this backend as an owner.
    pub(super) fn names(&self, half: u32, index: u16) -> bool {
        self.any_slot(half, |slot| slot.owner == index)
    }

    /// Whoever is removed never gets its flows back: slots that were its before are their owners' altogether.
    pub(super) fn forget_previous(&self, half: u32, index: u16) {
        for cell in self.cells(half) {
            let slot = windows::slot(cell);
            if slot.previous == index {
                windows::replace(cell, slot, Slot { previous: slot.owner, ..slot });
            }
        }
    }

    fn any_slot(&self, half: u32, test: impl Fn(&Slot) -> bool) -> bool {
        self.cells(half).iter().any(|cell| test(&windows::slot(cell)))
    }

    /// Writes who owns each slot into the half that is not in use; gives the checksum of that. What the slots were before
    /// is in the other half.
    fn write(&mut self, half: u32, owners: &[u16], window: Option<Window>) -> u64 {
        for ((cell, before), owner) in self.cells(half).iter().zip(self.cells(1 - half)).zip(owners) {
            let given = |window: Window| window.given(windows::slot(before), *owner);
            let slot = window.map_or(Slot::owned_by(*owner), given);
            cell.store(slot.word(), Ordering::Release);
        }
        checksum::of(owners.iter().map(|owner| u64::from(*owner)))
    }

    pub(super) fn cells(&self, half: u32) -> &[AtomicU64] {
        windows::cells(&self.slots, half)
    }
}

/// A Maglev table of backend indexes.
fn share(seed: u64, members: &[maglev::Member], owners: &[u16]) -> Vec<u16> {
    let mut table = vec![NO_BACKEND; HALF];
    let mut turns = vec![maglev::Turn::default(); members.len()];
    maglev::build(seed, members, &mut table, &mut turns);
    for slot in &mut table {
        *slot = owners.get(usize::from(*slot)).copied().unwrap_or(NO_BACKEND);
    }
    table
}

fn too_many_services(key: &ServiceKey) -> DataPlaneError {
    DataPlaneError {
        what: format!("add service {key}"),
        why: format!("there are {MAX_SERVICES} services already"),
        hint: "remove one first".to_owned(),
    }
}
