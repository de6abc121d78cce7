//! The last stage of what belongs to flows and does not make them: later fragments, and errors. They never write memory.

use super::flow::{admit, admit_error, carry_out, fragment_id};
use super::here::{Here, decide, unreadable};
use super::place::Place;
use crate::abi::{Address, ServiceEntry, backend_flags, service_flags};
use crate::fragment::{self, First};
use crate::packet::Packet;
use crate::parse::{self, Part, Ports};
use crate::select::{self, Choice, Chosen, Flow};
use crate::service::{self, TCP, UDP};
use crate::tables::Tables;
use crate::track::Key;
use crate::verdict::{Drop, Pass, Verdict, VerdictWord};

/// What is followed, as far as its headers tell.
struct Asked {
    client: Address,
    vip: Address,
    place: Place,
}

/// What is known of a flow.
struct Found<'a> {
    service: &'a ServiceEntry,
    ports: Ports,
    /// What its first fragment came to.
    first: Option<Choice<'a>>,
}

/// Hands a later fragment, or an error, to the backend of what it belongs to.
#[inline(always)]
pub fn follow<K: Key, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ingress: u32,
    place: Place,
) -> Verdict {
    decide(packet, tables, ingress, |packet, here| followed::<K, P, T>(packet, here, place))
}

#[inline(always)]
fn followed<K: Key, P: Packet, T: Tables>(
    packet: &mut P,
    here: &Here<'_, T>,
    place: Place,
) -> Result<VerdictWord, VerdictWord> {
    let asked = asked::<K, P>(packet, place)?;
    let outer = K::header(packet, here.link.payload).map_err(unreadable)?;
    // It was checked when the frame was sorted, but whoever counts its bytes must know that there may be more buffers.
    packet.reaches(outer.end());
    let Found { service, ports, first } = if place.part == Part::Later {
        later::<K, P, T>(packet, here, &asked)?
    } else {
        quoted(packet, here, &asked)?
    };
    let sender = outer.source;
    if place.part == Part::Later {
        admit(here, service, &sender)?;
    } else {
        admit_error(here, service, &sender, &asked.client)?;
    }
    let flow = Flow { service, client: &asked.client, ports };
    let choice = match first {
        Some(choice) => choice,
        None => select::choose::<K, _>(here.tables, here.directory, flow, false, || false),
    };
    Ok(carry_out(packet, here, service, choice))
}

/// Reads what a packet says of itself, or what is quoted of one, which went the other way.
#[inline(always)]
fn asked<K: Key, P: Packet>(packet: &P, place: Place) -> Result<Asked, VerdictWord> {
    let header = K::header(packet, place.at).map_err(unreadable)?;
    let (from, to) = (header.source, header.destination);
    let (client, vip) = if place.quoted { (to, from) } else { (from, to) };
    Ok(Asked { client, vip, place })
}

/// The service that sent what is quoted.
#[inline(always)]
fn quoted<'a, P: Packet, T: Tables>(
    packet: &P,
    here: &Here<'a, T>,
    asked: &Asked,
) -> Result<Found<'a>, VerdictWord> {
    let sent = parse::quoted_ports(packet, asked.place.payload).map_err(unreadable)?;
    let ports = Ports { source: sent.destination, destination: sent.source };
    match service::service(here.half, &asked.vip, ports.destination, asked.place.protocol) {
        Some(service) => Ok(Found { service, ports, first: None }),
        None => Err(Verdict::Passed(Pass::NoService).into()),
    }
}

/// The service of a later fragment: that of its first one, else the one of every port, if that chooses by client alone.
#[inline(always)]
fn later<'a, K: Key, P: Packet, T: Tables>(
    packet: &P,
    here: &Here<'a, T>,
    asked: &Asked,
) -> Result<Found<'a>, VerdictWord> {
    let place = asked.place;
    let without_first: VerdictWord = Verdict::Dropped(Drop::FragmentWithoutFirst).into();
    if let Some(first) = first_of::<K, P, T>(packet, here, asked) {
        let ports = Ports { source: 0, destination: first.port };
        let Some(service) = service::service(here.half, &asked.vip, first.port, first.protocol) else {
            return Err(Verdict::Passed(Pass::NoService).into());
        };
        let choice = match first.backend {
            Some(index) => Choice::of(still(here, service, index, first).ok_or(without_first)?),
            None => Choice::NOBODY,
        };
        return Ok(Found { service, ports, first: Some(choice) });
    }
    if !matches!(place.protocol, TCP | UDP) {
        return Err(without_first);
    }
    let vip = service::vip(here.half, &asked.vip).ok_or(without_first)?;
    let service = service::every_port(here.half, vip, &asked.vip, place.protocol).ok_or(without_first)?;
    if service.flags & service_flags::AFFINITY_FLOW != 0 {
        return Err(without_first);
    }
    Ok(Found { service, ports: Ports { source: 0, destination: 0 }, first: None })
}

/// What the first fragment of a datagram came to.
#[inline(always)]
fn first_of<K: Key, P: Packet, T: Tables>(packet: &P, here: &Here<'_, T>, asked: &Asked) -> Option<First> {
    let id = fragment_id::<K, P>(packet, here.directory, asked.place, [&asked.client, &asked.vip])?;
    fragment::recall(here.tables, id, here.now())
}

/// The backend that a first fragment went to, if packets may still go there.
#[inline(always)]
fn still<'a, T: Tables>(
    here: &Here<'a, T>,
    service: &ServiceEntry,
    index: u16,
    first: First,
) -> Option<Chosen<'a>> {
    let backend = here.tables.backend(index)?;
    let same = first.is_of_generation(backend.generation) && backend.service == service.service;
    if same && backend.has(backend_flags::USABLE) { Some(Chosen { index, backend }) } else { None }
}
