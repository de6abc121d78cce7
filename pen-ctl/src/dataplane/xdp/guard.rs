//! The loop guard: which MACs belong to backends of which service, for packets to be told from their own echo.
//!
//! Two filters stand before the exact set: a small one beside the services, and a larger one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use aya::maps::MapError;
use pen_common::abi::{Backend, LOOP_FILTER_WORDS, backend_flags};
use pen_common::mac::{backend_bit, loop_filter_bit, loop_key};

use super::error::chain;
use super::maps::Maps;

/// What `loop_filter` and `backend_macs` should hold.
#[derive(Debug, Default)]
pub(super) struct LoopGuard {
    /// Key of each backend index that has a MAC on the wire.
    keys: BTreeMap<u16, u64>,
    /// Keys that `backend_macs` holds.
    written: BTreeSet<u64>,
    /// Some of those may be nobody's.
    stale: bool,
}

impl LoopGuard {
    /// Starts with what the map holds already.
    pub(super) fn adopt(maps: &Maps) -> Result<Self, String> {
        let written = maps.backend_macs.keys().collect::<Result<_, _>>().map_err(|error| chain(&error))?;
        Ok(Self { keys: BTreeMap::new(), written, stale: true })
    }

    /// Makes packets know the MAC of a backend, before it is used.
    pub(super) fn admit(&mut self, maps: &mut Maps, index: u16, record: &Backend) -> Result<(), String> {
        if record.mac() == 0 || record.has(backend_flags::LOCAL) {
            self.withdraw(index);
            return Ok(());
        }
        let (word, bit) = backend_bit(record.mac());
        for half in 0..2 {
            if let Some(cell) = maps.no_backend_cells(half).get(word) {
                cell.fetch_and(!(1 << bit), Ordering::SeqCst);
            }
        }
        let key = loop_key(record.mac(), record.service);
        // Until it is known, the MAC that the backend has so far is, too.
        if !self.written.contains(&key) {
            maps.backend_macs.insert(key, 1, 0).map_err(|error| chain(&error))?;
            self.written.insert(key);
        }
        self.stale |= self.keys.insert(index, key).is_some_and(|before| before != key);
        let (word, bit) = loop_filter_bit(key);
        if let Some(cell) = maps.loop_filter.words().get(word) {
            cell.fetch_or(bit, Ordering::SeqCst);
        }
        Ok(())
    }

    /// What `no_backend` of a directory that is written now holds.
    pub(super) fn no_backend(&self) -> [u64; 2] {
        let mut words = [u64::MAX; 2];
        for key in self.keys.values() {
            let (word, bit) = backend_bit(*key);
            words[word] &= !(1 << bit);
        }
        words
    }

    /// This index has no MAC any more.
    pub(super) fn withdraw(&mut self, index: u16) {
        self.stale |= self.keys.remove(&index).is_some();
    }

    /// Removes the keys and bits that no backend has any more.
    pub(super) fn forget_stale(&mut self, maps: &mut Maps) -> Result<(), String> {
        if !self.stale {
            return Ok(());
        }
        let wanted: BTreeSet<u64> = self.keys.values().copied().collect();
        let stale: Vec<u64> = self.written.difference(&wanted).copied().collect();
        if stale.is_empty() {
            self.stale = false;
            return Ok(());
        }
        let mut filter = vec![0u64; LOOP_FILTER_WORDS];
        for (word, bit) in wanted.iter().map(|key| loop_filter_bit(*key)) {
            filter[word] |= bit;
        }
        for (cell, bits) in maps.loop_filter.words().iter().zip(filter) {
            cell.store(bits, Ordering::SeqCst);
        }
        for key in stale {
            match maps.backend_macs.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => self.written.remove(&key),
                Err(MapError::SyscallError(error))
                    if error.io_error.kind() == std::io::ErrorKind::NotFound =>
                {
                    self.written.remove(&key)
                }
                Err(error) => return Err(chain(&error)),
            };
        }
        self.stale = false;
        Ok(())
    }
}
