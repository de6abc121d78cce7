//! What comes into the tracking tables and is taken out of them. Packets count what they insert, the controller what it
//! deletes; what the kernel evicts it tells nobody: it is what is missing then.

use std::io;
use std::sync::{Mutex, PoisonError};

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuValues};
use pen_common::abi::records;

use super::error::chain;
use super::maps::CounterWords;
use crate::dataplane::Inserted;

/// Where the entries of a tracking table are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records {
    inserted: u32,
    deleted: u32,
}

impl Records {
    /// Of `track_v4`.
    pub(super) const V4: Self = Self { inserted: records::INSERTED_V4, deleted: records::DELETED_V4 };
    /// Of `track_v6`.
    pub(super) const V6: Self = Self { inserted: records::INSERTED_V6, deleted: records::DELETED_V6 };
}

/// The records, shared by all who delete.
pub(super) struct Churn(Mutex<PerCpuArray<MapData, CounterWords>>);

impl Churn {
    /// In this map.
    pub(super) fn new(counters: PerCpuArray<MapData, CounterWords>) -> Churn {
        Churn(Mutex::new(counters))
    }

    /// Entries that packets inserted so far.
    pub(super) fn inserted(&self) -> io::Result<Inserted> {
        Ok(Inserted { v4: self.sum(Records::V4.inserted)?, v6: self.sum(Records::V6.inserted)? })
    }

    /// How many entries of a table packets inserted so far.
    pub(super) fn inserted_into(&self, records: Records) -> io::Result<u64> {
        self.sum(records.inserted)
    }

    /// How many entries of a table the controller deleted so far, those that it is deleting now among them.
    pub(super) fn deleted_from(&self, records: Records) -> io::Result<u64> {
        self.sum(records.deleted)
    }

    /// Deletes entries and notes how many. Nobody else writes that record; its sum is kept in the place of one processor.
    pub(super) fn delete(
        &self,
        records: Records,
        delete: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<u64> {
        // Held meanwhile, so that nobody finds entries neither there nor deleted.
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = delete()?;
        if entries == 0 {
            return Ok(0);
        }
        let mut values = map.get(&records.deleted, 0).map_err(told)?.to_vec();
        if let Some([deleted, _]) = values.first_mut() {
            *deleted = deleted.wrapping_add(entries);
        }
        map.set(records.deleted, PerCpuValues::try_from(values)?, 0).map_err(told)?;
        Ok(entries)
    }

    fn sum(&self, record: u32) -> io::Result<u64> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(&record, 0).map_err(told)?.iter().map(|[count, _]| *count).fold(0, u64::wrapping_add))
    }
}

fn told(error: MapError) -> io::Error {
    io::Error::other(chain(&error))
}
