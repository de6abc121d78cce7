//! What a data plane counts: packets and bytes by what became of them, and entries of the tracking tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BackendAddress, ServiceKey};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes from the Ethernet header on.
    pub bytes: u64,
}

/// What became of packets since the data plane was built; never goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By backend that is there now.
    pub backends: BTreeMap<(ServiceKey, BackendAddress), Traffic>,
    /// What was forwarded to backends since removed, by service that is there now.
    pub removed_backends: BTreeMap<ServiceKey, Traffic>,
    /// What was forwarded for services since removed.
    pub removed_services: Traffic,
    /// Answered, by reason.
    pub answered: BTreeMap<&'static str, Traffic>,
    /// Passed, by reason.
    pub passed: BTreeMap<&'static str, Traffic>,
    /// Dropped, by reason.
    pub dropped: BTreeMap<&'static str, Traffic>,
}

impl Counters {
    /// To backends: those that are there now and those since removed, of whichever service.
    pub fn forwarded(&self) -> Traffic {
        let each = self.backends.values().chain(self.removed_backends.values());
        each.fold(self.removed_services, |sum, one| Traffic {
            packets: sum.packets.wrapping_add(one.packets),
            bytes: sum.bytes.wrapping_add(one.bytes),
        })
    }
}

/// How full a tracking table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableUse {
    /// Entries in use.
    pub used: u64,
    /// Entries at most.
    pub max: u64,
    /// Entries that were made so far.
    #[serde(default)]
    pub inserted: u64,
    /// Entries that gave way to others so far: those made, less those deleted and those in use. What was made before
    /// anybody counted is not among them.
    #[serde(default)]
    pub evicted: u64,
}

/// Entries of the tracking tables that were made so far, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inserted {
    /// IPv4.
    pub v4: u64,
    /// IPv6.
    pub v6: u64,
}

/// How full the tracking tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingUse {
    /// IPv4.
    pub v4: TableUse,
    /// IPv6.
    pub v6: TableUse,
}
