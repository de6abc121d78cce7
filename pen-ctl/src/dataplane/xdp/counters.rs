//! What became of packets, and how full the tracking tables are.

use std::collections::BTreeMap;
use std::time::Instant;

use pen_common::abi::{COUNTER_BACKENDS, Counter};
use pen_common::verdict::{Kind, reasons};

use super::error::chain;
use super::maps::count;
use super::{XdpPlane, failure};
use crate::dataplane::{Counters, DataPlaneError, ServiceKey, TrackingUse, Traffic};

/// A count is good for this many times as long as it took, so that counting never takes more than a small share of
/// the controller's time: a million entries are counted every now and then, a few at every question.
const SHARE_OF_TIME: u32 = 20;

impl XdpPlane {
    /// All counters, summed over CPUs.
    pub(super) fn read_counters(&self) -> Result<Counters, DataPlaneError> {
        let mut counters = Counters { removed_services: self.folded(0)?, ..Counters::default() };
        for reason in reasons() {
            let by_reason = match reason.kind {
                Kind::Answered => &mut counters.answered,
                Kind::Passed => &mut counters.passed,
                Kind::Dropped => &mut counters.dropped,
            };
            by_reason.insert(reason.name, self.counted(reason.index)?);
        }
        for (key, entry) in &self.services {
            counters.removed_backends.insert(*key, self.folded(1 + u32::from(entry.service))?);
        }
        let keys: BTreeMap<u16, ServiceKey> =
            self.services.iter().map(|(key, entry)| (entry.service, *key)).collect();
        for ((service, address), held) in &self.held {
            let traffic = self.counted(COUNTER_BACKENDS + u32::from(held.index))?;
            let sum = match keys.get(service).copied() {
                Some(key) if held.retired => counters.removed_backends.entry(key).or_default(),
                Some(key) => counters.backends.entry((key, address.to_ip())).or_default(),
                None => &mut counters.removed_services,
            };
            sum.packets = sum.packets.wrapping_add(traffic.packets);
            sum.bytes = sum.bytes.wrapping_add(traffic.bytes);
        }
        Ok(counters)
    }

    /// How full the tracking tables are, or were a moment ago.
    pub(super) fn read_tracking(&mut self) -> Result<TrackingUse, DataPlaneError> {
        if let Some((good_until, tracking)) = self.tracking
            && Instant::now() < good_until
        {
            return Ok(tracking);
        }
        let start = Instant::now();
        let failed = |why| failure("count the tracking tables", why);
        let v4 = count(&self.maps.track_v4).map_err(failed)?;
        let v6 = count(&self.maps.track_v6).map_err(failed)?;
        let tracking = TrackingUse { v4, v6 };
        self.tracking = Some((Instant::now() + start.elapsed() * SHARE_OF_TIME, tracking));
        Ok(tracking)
    }

    fn counted(&self, index: u32) -> Result<Traffic, DataPlaneError> {
        let counter =
            self.maps.counter(index).map_err(|error| failure("read the counters", chain(&error)))?;
        Ok(traffic(counter))
    }

    fn folded(&self, index: u32) -> Result<Traffic, DataPlaneError> {
        let counter = self.maps.folded(index).map_err(|error| failure("read the counters", chain(&error)))?;
        Ok(traffic(counter))
    }
}

fn traffic(counter: Counter) -> Traffic {
    Traffic { packets: counter.packets, bytes: counter.bytes }
}
