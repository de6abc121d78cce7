//! What became of packets.

use std::collections::BTreeMap;

use pen_common::abi::{COUNTER_BACKENDS, Counter};
use pen_common::verdict::{Kind, reasons};

use super::error::chain;
use super::{XdpPlane, failure};
use crate::dataplane::{BackendAddress, Counters, DataPlaneError, ServiceKey, Traffic};

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
                Some(key) => counters.backends.entry((key, address.to_ip().into())).or_default(),
                None => &mut counters.removed_services,
            };
            sum.packets = sum.packets.wrapping_add(traffic.packets);
            sum.bytes = sum.bytes.wrapping_add(traffic.bytes);
        }
        Ok(counters)
    }

    /// What was forwarded to one backend; `None` where it is not there.
    pub(super) fn read_traffic(
        &self,
        key: &ServiceKey,
        address: BackendAddress,
    ) -> Result<Option<Traffic>, DataPlaneError> {
        let service = self.services.get(key).map(|entry| entry.service);
        let index = service.zip(address.ip()).and_then(|(service, ip)| self.index_of(service, ip));
        index.map(|index| self.counted(COUNTER_BACKENDS + u32::from(index))).transpose()
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
