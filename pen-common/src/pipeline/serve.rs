//! The last stage of most: a flow's service, whether its packet may come in, its backend, and the way there.

use super::flow::{admit, carry_out, fragment_id};
use super::here::{Here, decide, unreadable};
use super::place::Place;
use crate::abi::ServiceEntry;
use crate::fragment::{self, First};
use crate::guard;
use crate::packet::Packet;
use crate::parse::{self, Datagram, IpHeader, Part, Ports};
use crate::select::{self, Choice, Chosen, Flow};
use crate::service;
use crate::tables::Tables;
use crate::track::Key;
use crate::verdict::{Pass, Verdict, VerdictWord};

/// Hands TCP or UDP to a VIP, whole or a first fragment, to its backend.
#[inline(always)]
pub fn serve<K: Key, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ingress: u32,
    place: Place,
) -> Verdict {
    decide(packet, tables, ingress, |packet, here| served::<K, P, T>(packet, here, place))
}

#[inline(always)]
fn served<K: Key, P: Packet, T: Tables>(
    packet: &mut P,
    here: &Here<'_, T>,
    place: Place,
) -> Result<VerdictWord, VerdictWord> {
    let header = K::header(packet, place.at).map_err(unreadable)?;
    let Place { payload, id_at, protocol, part, .. } = place;
    let datagram = Datagram { protocol, part, payload, end: header.end(), id_at, extended: false };
    // It was checked when the frame was sorted, but whoever counts its bytes must know that there may be more buffers.
    packet.reaches(datagram.end);
    let ports = parse::ports(packet, &datagram).map_err(unreadable)?;
    let Some(service) = service::service(here.half, &header.destination, ports.destination, protocol) else {
        note_first::<K, P, T>(packet, here, place, &header, ports.destination, None);
        return Err(Verdict::Passed(Pass::NoService).into());
    };
    admit(here, service, &header.source)?;
    let choice = chosen::<K, P, T>(packet, here, service, &header, &datagram, ports);
    // One too many is not let in, and left to nobody either: nor is what follows it.
    if !choice.is_limited() {
        note_first::<K, P, T>(packet, here, place, &header, ports.destination, choice.backend());
    }
    Ok(carry_out(packet, here, service, choice))
}

/// The backend of a flow, unless it is one too many.
#[inline(always)]
fn chosen<'a, K: Key, P: Packet, T: Tables>(
    packet: &P,
    here: &Here<'a, T>,
    service: &ServiceEntry,
    header: &IpHeader,
    datagram: &Datagram,
    ports: Ports,
) -> Choice<'a> {
    let client = &header.source;
    let opens = || parse::opens(packet, datagram);
    if guard::counts_connections(service)
        && opens()
        && guard::flows(here.tables, here.directory, service, client).is_err()
    {
        return Choice::LIMITED;
    }
    select::choose::<K, _>(here.tables, here.directory, Flow { service, client, ports }, true, opens)
}

/// Remembers what a first fragment came to, for those that follow it.
#[inline(always)]
fn note_first<K: Key, P: Packet, T: Tables>(
    packet: &P,
    here: &Here<'_, T>,
    place: Place,
    header: &IpHeader,
    port: u16,
    chosen: Option<Chosen<'_>>,
) {
    if place.part != Part::First {
        return;
    }
    let between = [&header.source, &header.destination];
    let Some(id) = fragment_id::<K, P>(packet, here.directory, place, between) else { return };
    let first = match chosen {
        Some(Chosen { index, backend }) => First::to(port, place.protocol, index, backend.generation),
        None => First::passed(port, place.protocol),
    };
    fragment::remember(here.tables, id, first, here.now());
}
