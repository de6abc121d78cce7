//! The first stage: finds what asks for an answer, lets strangers pass, and finds the headers of what is for a service.

use super::answer::{ARP, ECHO_V4, ECHO_V6, NDP};
use super::here::{Here, stranger, unreadable};
use super::place::{Place, Sorted};
use crate::abi::{Address, vip_flags};
use crate::packet::Packet;
use crate::parse::{self, Datagram, IpHeader, Part, ethertype};
use crate::service::{self, TCP, UDP};
use crate::tables::Tables;
use crate::verdict::{Drop, Pass, Verdict};
use crate::{mac, solicitation};

/// Decides about a frame that came in by the interface of kernel index `ingress`, or finds where its headers are.
#[inline(always)]
pub fn sort<P: Packet, T: Tables>(packet: &P, tables: &T, ingress: u32) -> Sorted {
    let here = match Here::of(packet, tables, ingress) {
        Ok(here) => here,
        Err(verdict) => return Sorted::Decided(verdict),
    };
    let sorted = match here.link.ethertype {
        ethertype::IPV4 => ipv4(packet, &here),
        ethertype::IPV6 => ipv6(packet, &here),
        ethertype::ARP => arp(packet, &here),
        _ => Err(Verdict::Passed(Pass::NotIp)),
    };
    sorted.unwrap_or_else(Sorted::Decided)
}

/// ARP: requests for an announced VIP are answered, everything else is the local stack's.
#[inline(always)]
fn arp<P: Packet, T: Tables>(packet: &P, here: &Here<'_, T>) -> Result<Sorted, Verdict> {
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    if here.link.destination != mac::word([0xff; 6]) && !here.interface.is_ours(here.link.destination) {
        return Err(Verdict::Passed(Pass::NotAddressedToUs));
    }
    let Some(&body) = packet.bytes::<28>(here.link.payload) else {
        return Err(Verdict::Passed(Pass::NotIp));
    };
    let [a, b, c, d, e, f, g, h, .., s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = body;
    let (sender, target) = (u32::from_ne_bytes([s0, s1, s2, s3]), u32::from_ne_bytes([t0, t1, t2, t3]));
    // Sender and target the same: an announcement (RFC 5227, 1.1), which asks nothing.
    let asks =
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]) == u64::from_ne_bytes(REQUEST) && sender != target;
    if asks && announced(here, &Address::v4(target)) {
        Ok(Sorted::Question(Place::of_question(here.link.payload, ARP)))
    } else {
        Err(Verdict::Passed(Pass::NotIp))
    }
}

/// Whether pen answers requests for this address on the interface the packet came in by.
#[inline(always)]
fn announced<T: Tables>(here: &Here<'_, T>, address: &Address) -> bool {
    here.interface.announces()
        && service::vip(here.half, address).is_some_and(|vip| vip.flags & vip_flags::ANNOUNCE != 0)
}

/// IPv4: strangers leave after one probe of the service hash; what is left is checked.
#[inline(always)]
fn ipv4<P: Packet, T: Tables>(packet: &P, here: &Here<'_, T>) -> Result<Sorted, Verdict> {
    if !here.interface.is_ours(here.link.destination) {
        return Err(Verdict::Passed(Pass::NotAddressedToUs));
    }
    let header = parse::ipv4(packet, here.link.payload).map_err(stranger)?;
    known_vip(packet, here, &header)?;
    let datagram = parse::ipv4_datagram(packet, &header).map_err(unreadable)?;
    let place = Place::of(&header, &datagram, false);
    match datagram.protocol {
        TCP | UDP => Ok(flow(place)),
        parse::ICMP if datagram.part != Part::Later => {
            match parse::icmp(packet, &datagram).map_err(unreadable)? {
                [8, 0] if is_plain(&datagram) && header.source.is_v4_host() => {
                    Ok(Sorted::Question(Place::of_question(header.at, ECHO_V4)))
                }
                // RFC 792: destination unreachable, time exceeded, parameter problem.
                [3 | 11 | 12, _] => Ok(Sorted::Error(place)),
                _ => Err(Verdict::Passed(Pass::NotForUsProtocol)),
            }
        }
        _ => Err(Verdict::Passed(Pass::NotForUsProtocol)),
    }
}

/// IPv6: as IPv4, and solicitations, which come to a multicast MAC.
#[inline(always)]
fn ipv6<P: Packet, T: Tables>(packet: &P, here: &Here<'_, T>) -> Result<Sorted, Verdict> {
    let ours = here.interface.is_ours(here.link.destination);
    if !ours && !solicitation::is_group_mac(here.link.destination) {
        return Err(Verdict::Passed(Pass::NotAddressedToUs));
    }
    let header = parse::ipv6(packet, here.link.payload).map_err(stranger)?;
    if header.protocol == parse::ICMPV6
        && let Some(target) = solicitation::target(packet, &header)
        && announced(here, &target)
    {
        return Ok(Sorted::Question(Place::of_question(header.at, NDP)));
    }
    if !ours {
        return Err(Verdict::Passed(Pass::NotAddressedToUs));
    }
    // An IPv4-mapped address on the wire is nobody's (RFC 4942, 2.2): it must not meet an IPv4 VIP.
    if header.destination.is_v4() {
        return Err(Verdict::Passed(Pass::NoService));
    }
    known_vip(packet, here, &header)?;
    let datagram = parse::ipv6_datagram(packet, &header).map_err(unreadable)?;
    let place = Place::of(&header, &datagram, true);
    match datagram.protocol {
        TCP | UDP => Ok(flow(place)),
        // What its first fragment says comes behind these headers.
        protocol if parse::is_extension(protocol) && datagram.part == Part::Later => Ok(Sorted::Later(place)),
        parse::ICMPV6 if datagram.part != Part::Later => {
            match parse::icmp(packet, &datagram).map_err(unreadable)? {
                [128, 0] if is_plain(&datagram) && header.source.is_v6_host() => {
                    Ok(Sorted::Question(Place::of_question(header.at, ECHO_V6)))
                }
                // RFC 4443, 3: destination unreachable, packet too big, time exceeded, parameter problem.
                [1..=4, _] => Ok(Sorted::Error(place)),
                _ => Err(Verdict::Passed(Pass::NotForUsProtocol)),
            }
        }
        // More headers than are followed (RFC 8504, 5.3 lets hosts drop those): what is behind them would come to a backend
        // on this host past access lists and limits.
        protocol if parse::is_extension(protocol) => Err(Verdict::Dropped(Drop::Malformed)),
        _ => Err(Verdict::Passed(Pass::NotForUsProtocol)),
    }
}

/// Lets strangers pass.
#[inline(always)]
fn known_vip<P: Packet, T: Tables>(packet: &P, here: &Here<'_, T>, header: &IpHeader) -> Result<(), Verdict> {
    if service::vip(here.half, &header.destination).is_some() {
        return Ok(());
    }
    // What it says is not checked, but whoever counts its bytes must know that there may be more buffers.
    packet.reaches(header.end());
    Err(Verdict::Passed(Pass::NoService))
}

/// Whether an echo request can be turned into its reply where it stands. Its source must be a single host, too.
#[inline(always)]
fn is_plain(datagram: &Datagram) -> bool {
    datagram.part == Part::Whole && !datagram.extended
}

#[inline(always)]
const fn flow(place: Place) -> Sorted {
    match place.part {
        Part::Whole | Part::First => Sorted::Flow(place),
        Part::Later => Sorted::Later(place),
    }
}
