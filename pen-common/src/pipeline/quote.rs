//! The second stage of errors: whose flow an ICMP or ICMPv6 error is about, by what it quotes.

use super::here::unreadable;
use super::place::Place;
use crate::packet::Packet;
use crate::parse::{self, Datagram, IpHeader, Part, Unreadable};
use crate::service::{TCP, UDP};
use crate::verdict::{Drop, Pass, Verdict};

/// Length of an error's header, behind which it quotes (RFC 792; RFC 4443, 3).
const HEADER: usize = 8;
/// Of TCP and UDP routers quote this much at least (RFC 792).
const LEAST: usize = 8;

/// Finds the packet that an error quotes; an error that is about none of the VIP's flows has its verdict.
#[inline(always)]
pub fn quote<P: Packet>(packet: &P, error: Place) -> Result<Place, Verdict> {
    let outer = header(packet, error.at, error.v6).map_err(unreadable)?;
    let (at, end) = (error.payload + HEADER, outer.end());
    // It was checked when the frame was sorted, but whoever counts its bytes must know that there may be more buffers.
    packet.reaches(end);
    let quoted = header(packet, at, error.v6).map_err(unreadable)?;
    let datagram = datagram(packet, &quoted, end, error.v6).map_err(unreadable)?;
    // What the VIP did not send is none of its services' business.
    if quoted.source != outer.destination || !matches!(datagram.protocol, TCP | UDP) {
        return Err(Verdict::Passed(Pass::NotForUsProtocol));
    }
    // Errors are about first fragments alone (RFC 1122, 3.2.2); the first of what the VIP sent did not come by here.
    if datagram.part == Part::Later {
        return Err(Verdict::Dropped(Drop::FragmentWithoutFirst));
    }
    if datagram.payload + LEAST > end {
        return Err(unreadable(Unreadable::Malformed));
    }
    Ok(Place { quoted: true, ..Place::of(&quoted, &datagram, error.v6) })
}

#[inline(always)]
fn header<P: Packet>(packet: &P, at: usize, v6: bool) -> Result<IpHeader, Unreadable> {
    if v6 { parse::ipv6(packet, at) } else { parse::ipv4(packet, at) }
}

#[inline(always)]
fn datagram<P: Packet>(packet: &P, header: &IpHeader, end: usize, v6: bool) -> Result<Datagram, Unreadable> {
    if v6 { parse::ipv6_quoted(packet, header, end) } else { parse::ipv4_quoted(header, end) }
}
