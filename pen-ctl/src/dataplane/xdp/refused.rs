//! Packets that access lists and limits refused, by service.

use std::collections::BTreeMap;
use std::io;

use aya::maps::PerCpuValues;
use aya::util::nr_cpus;
use pen_common::abi::{Refused, refused_record};

use super::error::chain;
use super::mapped;
use super::maps::{Maps, RefusedWords};
use super::{XdpPlane, failure};
use crate::dataplane::{DataPlaneError, NewestRefused, RefusedClients, RefusedPackets, ServiceKey};

impl XdpPlane {
    /// Of every service.
    pub(super) fn read_refused(&self) -> Result<BTreeMap<ServiceKey, RefusedClients>, DataPlaneError> {
        let failed = |why: String| failure("read who was refused", why);
        let now = self.second().map_err(failed)?;
        let of = |record: u32| {
            self.maps
                .refused(record)
                .map(|records| sum(&records, now))
                .map_err(|error| failed(error.to_string()))
        };
        let each = self.services.iter().map(|(key, entry)| {
            let first = refused_record(entry.service);
            Ok((*key, RefusedClients { denied: of(first)?, rate_limited: of(first + 1)? }))
        });
        each.collect()
    }
}

impl Maps {
    /// What each CPU noted in a record.
    fn refused(&self, record: u32) -> io::Result<Vec<Refused>> {
        let per_cpu = self.refused.get(&record, 0).map_err(|error| io::Error::other(chain(&error)))?;
        Ok(per_cpu.iter().filter_map(|words| mapped::plain_from_words(words)).collect())
    }

    /// Makes a service begin without any.
    pub(super) fn forget_refused(&mut self, service: u16) -> io::Result<()> {
        let cpus = nr_cpus().map_err(|(file, error)| io::Error::other(format!("read {file}: {error}")))?;
        let first = refused_record(service);
        for record in [first, first + 1] {
            let zero = PerCpuValues::try_from(vec![RefusedWords::default(); cpus])?;
            self.refused.set(record, zero, 0).map_err(|error| io::Error::other(chain(&error)))?;
        }
        Ok(())
    }
}

/// What all CPUs noted, together, at a second of the data plane's clock.
fn sum(records: &[Refused], now: u32) -> RefusedPackets {
    let counted = records.iter().filter(|record| record.packets > 0);
    // A CPU may be a tick ahead of us.
    let ago = |record: &Refused| u32::try_from(now.wrapping_sub(record.second).cast_signed()).unwrap_or(0);
    let newest = counted.clone().min_by_key(|record| ago(record));
    RefusedPackets {
        packets: counted.fold(0, |sum, record| sum.wrapping_add(record.packets)),
        newest: newest
            .map(|record| NewestRefused { client: record.client.to_ip(), seconds_ago: ago(record) }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn record(packets: u64, last: u8, second: u32) -> Refused {
        Refused { packets, client: IpAddr::from([10, 0, 0, last]).into(), second, reserved: 0 }
    }

    #[test]
    fn the_newest_of_all_cpus_is_told_and_a_cpu_that_refused_nobody_is_not_asked() {
        let found = sum(&[record(3, 1, 90), record(0, 2, 100), record(4, 3, 95)], 100);
        let newest = found.newest.unwrap();
        assert_eq!((found.packets, newest.client, newest.seconds_ago), (7, [10, 0, 0, 3].into(), 5));
        assert_eq!(sum(&[record(0, 0, 0)], 100), RefusedPackets::default());
    }

    #[test]
    fn a_cpu_that_is_ahead_refused_just_now_and_the_clock_may_wrap() {
        assert_eq!(sum(&[record(1, 1, 101)], 100).newest.unwrap().seconds_ago, 0);
        assert_eq!(sum(&[record(1, 1, u32::MAX)], 3).newest.unwrap().seconds_ago, 4);
    }
}
