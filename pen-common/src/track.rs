//! Memory of which backend was given: its keys, its clock, and when it still counts.

use crate::abi::{
    Address, Backend, Directory, ServiceEntry, TrackKeyV4, TrackKeyV6, Tracked, backend_flags, service_flags,
};
use crate::hash::absorb;
use crate::packet::Packet;
use crate::parse::{self, IpHeader, Ports, Unreadable};
use crate::pipeline::Place;
use crate::tables::Tables;

/// What a choice is remembered under: one type for each table, so that a packet's way is compiled for its family.
pub trait Key: Copy {
    /// The key of a client (affinity `client` with tracking `full`) or else of its flow.
    fn new(service: &ServiceEntry, client: &Address, ports: Ports) -> Self;

    /// What is remembered under it.
    fn recall<'a, T: Tables>(&self, tables: &'a T) -> Option<T::Memory<'a>>;

    /// Remembers something new under it.
    fn remember<T: Tables>(&self, tables: &T, value: &Tracked);

    /// A hash of it.
    fn hash(&self, seed: u64) -> u64;

    /// Reads an IP header of its family.
    fn header<P: Packet>(packet: &P, at: usize) -> Result<IpHeader, Unreadable>;

    /// What tells the datagram of a fragment from others between the same addresses: its identification, and the protocol
    /// where that counts ([`crate::fragment::Id::new`]).
    fn fragment<P: Packet>(packet: &P, place: Place) -> Option<(u32, u8)>;
}

/// Keys and values on the stack: the verifier wants eight bytes at once only where they are aligned.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Aligned<T>(pub T);

/// The ports that a key holds: none where clients are remembered as a whole.
#[inline(always)]
const fn key_ports(service: &ServiceEntry, ports: Ports) -> Ports {
    let kind = service.flags & (service_flags::AFFINITY_FLOW | service_flags::TRACK_FULL);
    if kind == service_flags::TRACK_FULL { Ports { source: 0, destination: 0 } } else { ports }
}

impl Key for TrackKeyV4 {
    #[inline(always)]
    fn new(service: &ServiceEntry, client: &Address, ports: Ports) -> Self {
        let ports = key_ports(service, ports);
        Self {
            client: client.words[3],
            client_port: ports.source,
            service_port: ports.destination,
            service: service.service,
            reserved: 0,
        }
    }

    #[inline(always)]
    fn recall<'a, T: Tables>(&self, tables: &'a T) -> Option<T::Memory<'a>> {
        tables.recall_v4(self)
    }

    #[inline(always)]
    fn remember<T: Tables>(&self, tables: &T, value: &Tracked) {
        tables.remember_v4(self, value);
    }

    #[inline(always)]
    fn hash(&self, seed: u64) -> u64 {
        let [client, service] = self.words();
        absorb(absorb(seed, client), service)
    }

    #[inline(always)]
    fn header<P: Packet>(packet: &P, at: usize) -> Result<IpHeader, Unreadable> {
        parse::ipv4(packet, at)
    }

    #[inline(always)]
    fn fragment<P: Packet>(packet: &P, place: Place) -> Option<(u32, u8)> {
        packet.bytes(place.id_at).map(|id| (u32::from(u16::from_ne_bytes(*id)), place.protocol))
    }
}

impl Key for TrackKeyV6 {
    #[inline(always)]
    fn new(service: &ServiceEntry, client: &Address, ports: Ports) -> Self {
        let ports = key_ports(service, ports);
        Self {
            client: client.words,
            client_port: ports.source,
            service_port: ports.destination,
            service: service.service,
            reserved: 0,
        }
    }

    #[inline(always)]
    fn recall<'a, T: Tables>(&self, tables: &'a T) -> Option<T::Memory<'a>> {
        tables.recall_v6(self)
    }

    #[inline(always)]
    fn remember<T: Tables>(&self, tables: &T, value: &Tracked) {
        tables.remember_v6(self, value);
    }

    #[inline(always)]
    fn hash(&self, seed: u64) -> u64 {
        let [high, low, service] = self.words();
        absorb(absorb(absorb(seed, high), low), service)
    }

    #[inline(always)]
    fn header<P: Packet>(packet: &P, at: usize) -> Result<IpHeader, Unreadable> {
        parse::ipv6(packet, at)
    }

    #[inline(always)]
    fn fragment<P: Packet>(packet: &P, place: Place) -> Option<(u32, u8)> {
        packet.bytes(place.id_at).map(|id| (u32::from_ne_bytes(*id), 0))
    }
}

/// How long an unused memory of a service counts, in seconds; 0 = for ever.
#[inline(always)]
pub const fn lifetime(service: &ServiceEntry) -> u32 {
    if remembers_all(service) { service.tracking_timeout } else { service.transition }
}

/// Whether every client, or flow, of a service is remembered.
#[inline(always)]
pub const fn remembers_all(service: &ServiceEntry) -> bool {
    service.flags & service_flags::TRACK_FULL != 0
}

/// Whether packets of a service are remembered at all.
#[inline(always)]
pub const fn remembers(service: &ServiceEntry) -> bool {
    service.flags & (service_flags::TRACK_FULL | service_flags::TRACK_TRANSITIONS) != 0
}

/// The second of the data plane's clock.
#[inline(always)]
pub const fn now(directory: &Directory, jiffies: u64) -> u32 {
    second(jiffies, directory.clock_multiplier)
}

/// The same, by the directory's multiplier.
#[inline(always)]
pub const fn second(jiffies: u64, multiplier: u64) -> u32 {
    ((jiffies >> 2).wrapping_mul(multiplier) >> 24) as u32
}

/// Whether something last seen then still counts now; a timeout of 0 never ends.
///
/// The clock may wrap, and another CPU may be a tick ahead: ages above half the clock's range are negative.
#[inline(always)]
pub const fn is_fresh(seen: u32, now: u32, timeout: u32) -> bool {
    let age = now.wrapping_sub(seen);
    timeout == 0 || age <= timeout || age > u32::MAX / 2
}

/// The backend that a memory names, if it still counts: same generation, usable, not timed out.
///
/// And of this service: the kernel may give an entry to another key while a packet writes into it, and what was
/// written must not lead clients of one service to backends of another.
#[inline(always)]
pub fn recall<'a, T: Tables>(
    tables: &'a T,
    service: &ServiceEntry,
    tracked: Tracked,
    now: u32,
) -> Option<&'a Backend> {
    let backend = tables.backend(tracked.backend)?;
    let counts = backend.generation == tracked.generation
        && backend.service == service.service
        && backend.has(backend_flags::USABLE)
        && is_fresh(tracked.seen, now, lifetime(service));
    if counts { Some(backend) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_counts_until_its_timeout_and_not_longer() {
        assert!(is_fresh(100, 160, 60));
        assert!(!is_fresh(100, 161, 60));
        assert!(is_fresh(100, 100 + (1 << 30), 0));
    }

    #[test]
    fn the_clock_may_wrap_and_cpus_may_disagree_by_a_tick() {
        assert!(is_fresh(u32::MAX - 5, 4, 60));
        assert!(!is_fresh(u32::MAX - 5, 60, 60));
        assert!(is_fresh(101, 100, 60));
    }
}
