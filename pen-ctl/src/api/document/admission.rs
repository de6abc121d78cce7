//! Documents about who was turned away, or not remembered: what services refused, and floods.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dataplane::{RefusedClients, RefusedPackets};

/// What a service refused since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedDocument {
    /// By its access list.
    pub denied: RefusedCount,
    /// Above a limit.
    pub rate_limited: RefusedCount,
}

/// Packets that were refused for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCount {
    /// How many.
    pub packets: u64,
    /// Where the newest came from; absent over TCP, where clients' addresses are not shown.
    #[serde(default)]
    pub last: Option<IpAddr>,
    /// How long ago that was.
    #[serde(default)]
    pub seconds_ago: Option<u32>,
}

/// Newcomers that were not remembered, because there were too many at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloodDocument {
    /// That goes on now.
    pub active: bool,
    /// How many, since the data plane was built.
    pub suppressed: u64,
    /// How many in the flood that is on; absent while none is.
    #[serde(default)]
    pub suppressed_now: Option<u64>,
    /// How long ago the last one came.
    #[serde(default)]
    pub last_seconds_ago: Option<u32>,
}

impl RefusedDocument {
    /// The same for those who may not know clients' addresses.
    #[must_use]
    pub fn without_clients(self) -> Self {
        let without = |count| RefusedCount { last: None, ..count };
        Self { denied: without(self.denied), rate_limited: without(self.rate_limited) }
    }
}

impl From<RefusedClients> for RefusedDocument {
    fn from(refused: RefusedClients) -> Self {
        Self { denied: refused.denied.into(), rate_limited: refused.rate_limited.into() }
    }
}

impl From<RefusedPackets> for RefusedCount {
    fn from(refused: RefusedPackets) -> Self {
        Self {
            packets: refused.packets,
            last: refused.newest.map(|newest| newest.client),
            seconds_ago: refused.newest.map(|newest| newest.seconds_ago),
        }
    }
}
