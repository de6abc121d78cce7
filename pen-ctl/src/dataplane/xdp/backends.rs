//! Backends: who has which index, what stands there, and how an index is given back.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use aya::maps::PerCpuValues;
use aya::util::nr_cpus;
use pen_common::abi::{Address, Backend, COUNTER_BACKENDS, Counter, MAX_BACKENDS, backend_flags};
use pen_common::mac;

use super::error::chain;
use super::mapped;
use super::{XdpPlane, failure};
use crate::dataplane::{BackendPath, BackendTarget, DataPlaneError, HealthStatus, Mac, ServiceKey};

/// A backend that has an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) index: u16,
    pub(super) generation: u16,
    /// Removed, but the index may still be named somewhere.
    pub(super) retired: bool,
}

impl XdpPlane {
    /// Adds a backend or changes what is known of it; what packets decide by is stored as one word, last.
    pub(super) fn set_backend(
        &mut self,
        key: &ServiceKey,
        address: IpAddr,
        target: &BackendTarget,
    ) -> Result<(), DataPlaneError> {
        let what = || format!("set backend {address} of {key}");
        let Some(service) = self.services.get(key).map(|entry| entry.service) else {
            return Err(failure(what(), "there is no such service"));
        };
        let slot = (service, Address::from(address));
        let held = match self.held.get(&slot) {
            Some(held) => Held { retired: false, ..*held },
            None => self.allocate().ok_or_else(|| failure(what(), "all backend indexes are taken"))?,
        };
        let record = record_of(target, held.generation, service, address);
        self.held.insert(slot, held);
        self.guard.admit(&mut self.maps, held.index, &record).map_err(|error| failure(what(), error))?;
        mapped::write_plain(self.maps.backends.element(usize::from(held.index)), &record);
        self.guard.forget_stale(&mut self.maps).map_err(|error| failure(what(), error))
    }

    /// Takes a backend that no table names out of use, and gives its index back.
    pub(super) fn remove_backend(&mut self, key: &ServiceKey, address: IpAddr) -> Result<(), DataPlaneError> {
        let what = || format!("remove backend {address} of {key}");
        let Some(service) = self.services.get(key).map(|entry| entry.service) else {
            return Err(failure(what(), "there is no such service"));
        };
        if self.index_of(service, address).is_some_and(|index| self.is_named(service, index)) {
            return Err(failure(what(), "the table in use names it"));
        }
        self.retire((service, address.into()));
        self.collect().map_err(|error| failure(what(), error))
    }

    /// Takes all backends of a service that packets do not find any more out of use.
    pub(super) fn retire_service(&mut self, service: u16) -> Result<(), DataPlaneError> {
        let slots: Vec<_> = self.held.keys().filter(|(id, _)| *id == service).copied().collect();
        for slot in slots {
            self.retire(slot);
        }
        let what = || format!("give back the backends of service {service}");
        self.collect().map_err(|error| failure(what(), error))?;
        // After its backends: they fold into the same record.
        self.fold_service(service).map_err(|error| failure(what(), error))
    }

    /// Gives back the indexes of retired backends that no table names, their counts folded into their service's.
    pub(super) fn collect(&mut self) -> Result<(), String> {
        let retired: Vec<_> =
            self.held.iter().filter(|(_, held)| held.retired).map(|(slot, held)| (*slot, *held)).collect();
        if retired.is_empty() {
            return Ok(());
        }
        self.settle()?;
        for ((service, address), held) in retired {
            if self.is_named(service, held.index) {
                continue;
            }
            self.fold_backend(service, held.index)?;
            self.guard.withdraw(held.index);
            let free = Backend { generation: held.generation, ..Backend::default() };
            mapped::write_plain(self.maps.backends.element(usize::from(held.index)), &free);
            self.held.remove(&(service, address));
        }
        self.guard.forget_stale(&mut self.maps)
    }

    /// The index of a backend that is there now.
    pub(super) fn index_of(&self, service: u16, address: IpAddr) -> Option<u16> {
        self.held.get(&(service, address.into())).filter(|held| !held.retired).map(|held| held.index)
    }

    fn retire(&mut self, slot: (u16, Address)) {
        let Some(held) = self.held.get_mut(&slot) else { return };
        held.retired = true;
        let (service, index) = (slot.0, held.index);
        // First: whoever takes over after this gives back what is retired and owns no slot.
        let entry = self.services.values().find(|entry| entry.service == service);
        if let Some((entry, table)) = entry.zip(self.tables.get(&service)) {
            table.forget_previous(entry.table_half, index);
        }
        // The MAC stays for the loop guard until the index is given back.
        let kept = backend_flags::IN_USE | pen_common::abi::MAC_MASK;
        if let Some(word) = self.maps.backends.element(usize::from(index)).first() {
            word.store(word.load(Ordering::Acquire) & kept | backend_flags::RETIRED, Ordering::SeqCst);
        }
        self.grace.owe();
    }

    /// The lowest free index, under a new generation: what is remembered of its former owner does not count.
    fn allocate(&self) -> Option<Held> {
        let mut taken = vec![false; MAX_BACKENDS as usize];
        for held in self.held.values() {
            taken[usize::from(held.index)] = true;
        }
        let index = taken.iter().position(|taken| !taken)?;
        let before = self.maps.backends.read(index)?;
        Some(Held { index: index as u16, generation: before.generation.wrapping_add(1), retired: false })
    }

    fn is_named(&self, service: u16, index: u16) -> bool {
        let entry = self.services.values().find(|entry| entry.service == service);
        let table = self.tables.get(&service);
        entry.zip(table).is_some_and(|(entry, table)| table.names(entry.table_half, index))
    }

    /// Adds a backend's counts to those of its service's removed ones and sets them to zero, in this order:
    /// stopped in between, counts are too high but never go back.
    fn fold_backend(&mut self, service: u16, index: u16) -> Result<(), String> {
        let record = COUNTER_BACKENDS + u32::from(index);
        let count = self.maps.counter(record).map_err(|error| chain(&error))?;
        self.maps.add_folded(1 + u32::from(service), count).map_err(|error| chain(&error))?;
        let cpus = nr_cpus().map_err(|(file, error)| format!("read {file}: {error}"))?;
        let zero = PerCpuValues::try_from(vec![[0; 2]; cpus]).map_err(|error| error.to_string())?;
        self.maps.counters.set(record, zero, 0).map_err(|error| chain(&error))
    }

    /// Moves what a service's removed backends counted to the total of removed services.
    pub(super) fn fold_service(&mut self, service: u16) -> Result<(), String> {
        let from = 1 + u32::from(service);
        let count = self.maps.folded(from).map_err(|error| chain(&error))?;
        if count != Counter::default() {
            self.maps.add_folded(0, count).map_err(|error| chain(&error))?;
            self.maps.folded.set(from, [0; 2], 0).map_err(|error| chain(&error))?;
        }
        Ok(())
    }
}

/// What the map holds of a backend.
pub(super) fn record_of(target: &BackendTarget, generation: u16, service: u16, address: IpAddr) -> Backend {
    let mut word = backend_flags::IN_USE;
    let mut set = |condition: bool, flag: u64| word |= if condition { flag } else { 0 };
    set(target.usable, backend_flags::USABLE);
    set(target.serving, backend_flags::SERVING);
    set(target.health != HealthStatus::Unknown, backend_flags::HEALTH_KNOWN);
    set(target.health == HealthStatus::Up, backend_flags::HEALTH_UP);
    set(target.path.is_some_and(|path| path.local), backend_flags::LOCAL);
    Backend {
        word: word | target.path.map_or(0, |path| mac::word(path.mac.0)),
        ifindex: target.path.map_or(0, |path| path.ifindex),
        vlan: target.path.map_or(0, |path| u32::from(path.vlan) | u32::from(path.inner_vlan) << 16),
        generation,
        service,
        reserved: 0,
        address: address.into(),
        health_since: target.health_since,
        spare: [0; 2],
    }
}

/// What a record in the map says.
pub(super) fn target_of(record: &Backend) -> BackendTarget {
    let path = BackendPath {
        mac: Mac(mac::bytes(record.mac())),
        ifindex: record.ifindex,
        vlan: record.vlan as u16,
        inner_vlan: (record.vlan >> 16) as u16,
        local: record.has(backend_flags::LOCAL),
    };
    let known = record.mac() != 0 || record.ifindex != 0 || path.local;
    BackendTarget {
        path: known.then_some(path),
        usable: record.has(backend_flags::USABLE),
        serving: record.has(backend_flags::SERVING),
        health: match (record.has(backend_flags::HEALTH_KNOWN), record.has(backend_flags::HEALTH_UP)) {
            (false, _) => HealthStatus::Unknown,
            (true, true) => HealthStatus::Up,
            (true, false) => HealthStatus::Down,
        },
        health_since: record.health_since,
        proxy: None,
    }
}
