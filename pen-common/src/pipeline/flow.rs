//! What serving flows and following them have in common: whether a packet may come in, and the way out.

use super::here::Here;
use crate::abi::{Address, Backend, Directory, ServiceEntry, backend_flags, service_flags};
use crate::fragment::Id;
use crate::guard;
use crate::mac;
use crate::packet::Packet;
use crate::rewrite;
use crate::select::{Choice, Chosen};
use crate::service;
use crate::tables::Tables;
use crate::track::Key;
use crate::verdict::{Drop, Egress, Pass, Verdict, VerdictWord};

use super::place::Place;

/// Whether a packet may come in: neither from a backend of the service itself, nor from a client whom its list refuses, nor
/// from a prefix that sends too many.
#[inline(always)]
pub(super) fn admit<T: Tables>(
    here: &Here<'_, T>,
    service: &ServiceEntry,
    client: &Address,
) -> Result<(), VerdictWord> {
    if !is_guarded(here, service)? {
        return Ok(());
    }
    guard::listed(here.tables, here.directory, service, client)
        .and_then(|()| guard::packets(here.tables, here.directory, service, client))
        .map_err(|why| Verdict::Dropped(why).into())
}

/// Whether an error may come in that a router sends about what went to a client: as [`admit`], but that it need not be a
/// client, and is charged for what it sends itself.
#[inline(always)]
pub(super) fn admit_error<T: Tables>(
    here: &Here<'_, T>,
    service: &ServiceEntry,
    router: &Address,
    client: &Address,
) -> Result<(), VerdictWord> {
    if !is_guarded(here, service)? {
        return Ok(());
    }
    guard::listed_error(here.tables, here.directory, service, router, client)
        .and_then(|()| guard::packets(here.tables, here.directory, service, router))
        .map_err(|why| Verdict::Dropped(why).into())
}

/// Whether more is to be asked about a packet, which does not come from a backend of the service itself.
#[inline(always)]
fn is_guarded<T: Tables>(here: &Here<'_, T>, service: &ServiceEntry) -> Result<bool, VerdictWord> {
    if came_from_backend(here, service) {
        return Err(Verdict::Dropped(Drop::Loop).into());
    }
    Ok(guard::is_guarded(service))
}

/// Whether the frame comes from a backend of the service it is for: the filter first, then the exact table.
#[inline(always)]
fn came_from_backend<T: Tables>(here: &Here<'_, T>, service: &ServiceEntry) -> bool {
    let key = mac::loop_key(here.link.source, service.service);
    let (word, bit) = mac::loop_filter_bit(key);
    here.tables.loop_filter(word) & bit != 0 && here.tables.is_backend_mac(key)
}

/// Which datagram a fragment between these addresses is of.
#[inline(always)]
pub(super) fn fragment_id<K: Key, P: Packet>(
    packet: &P,
    directory: &Directory,
    place: Place,
    [source, destination]: [&Address; 2],
) -> Option<Id> {
    let (number, protocol) = K::fragment(packet, place)?;
    Some(Id::new(directory.seed, source, destination, number, protocol))
}

/// The verdict on a choice, and what it takes.
#[inline(always)]
pub(super) fn carry_out<P: Packet, T: Tables>(
    packet: &mut P,
    here: &Here<'_, T>,
    service: &ServiceEntry,
    choice: Choice<'_>,
) -> VerdictWord {
    if let Some(chosen) = choice.backend() {
        hand_on(packet, here, chosen).into()
    } else if choice.is_limited() {
        Verdict::Dropped(Drop::RateLimited).into()
    } else if service.flags & service_flags::PASS_WHEN_EMPTY != 0 {
        Verdict::Passed(Pass::EmptyPool).into()
    } else {
        Verdict::Dropped(Drop::NoBackend).into()
    }
}

/// Hands a packet to its backend, if the backend is where the packet can go.
#[inline(always)]
fn hand_on<P: Packet, T: Tables>(packet: &mut P, here: &Here<'_, T>, chosen: Chosen<'_>) -> Verdict {
    let backend: &Backend = chosen.backend;
    if backend.has(backend_flags::LOCAL) {
        return Verdict::Passed(Pass::LocalBackend);
    }
    if backend.vlan != here.link.vlan {
        return Verdict::Dropped(Drop::WrongVlan);
    }
    let (egress, source) = if backend.ifindex == here.interface.ifindex {
        // The MAC it was sent to is ours here, whichever of ours it is.
        (Egress::Same, here.link.destination)
    } else {
        match service::interface(here.half, backend.ifindex) {
            Some(interface) => (Egress::Other(backend.ifindex), interface.master_mac),
            None => return Verdict::Dropped(Drop::NoEgress),
        }
    };
    match rewrite::macs(packet, backend.mac(), source) {
        Ok(()) => Verdict::Forwarded { backend: chosen.index, egress },
        Err(rewrite::TooShort) => Verdict::Dropped(Drop::Malformed),
    }
}
