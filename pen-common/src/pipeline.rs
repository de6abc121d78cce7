//! A packet's whole way, from its first byte to the verdict: the order of `docs/packet-path.md`.

use crate::abi::{
    Address, Backend, Directory, DirectoryHalf, Interface, ServiceEntry, TrackKeyV4, TrackKeyV6,
    backend_flags,
};
use crate::abi::{service_flags, vip_flags};
use crate::packet::Packet;
use crate::parse::{self, Datagram, IpHeader, Link, Part, Ports, Unreadable, ethertype};
use crate::plain::{self, Plain};
use crate::rewrite;
use crate::select::{self, Chosen, Flow};
use crate::service::{self, TCP, UDP};
use crate::tables::Tables;
use crate::track::Key;
use crate::verdict::{Answer, Drop, Egress, Pass, Verdict};
use crate::{mac, solicitation};

/// Where a packet is: the tables as they stand for it, the interface it came in by, its link layer.
struct Here<'a, T> {
    tables: &'a T,
    directory: &'a Directory,
    half: &'a DirectoryHalf,
    interface: &'a Interface,
    link: Link,
}

/// Decides what becomes of a frame that came in by the interface of kernel index `ingress`, and rewrites it
/// accordingly. A frame that passes or is dropped is unchanged.
#[inline(always)]
pub fn run<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: u32) -> Verdict {
    match plain::run(packet, tables, ingress) {
        Some(Plain::Forwarded(backend)) => Verdict::Forwarded { backend, egress: Egress::Same },
        Some(Plain::Stranger) => Verdict::Passed(Pass::NoService),
        None => general(packet, tables, ingress),
    }
}

/// The same for every frame, by the long way.
#[inline(always)]
pub fn general<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: u32) -> Verdict {
    let link = match parse::link(packet) {
        Ok(link) => link,
        Err(why) => return stranger(why),
    };
    let Some((directory, half)) = tables.directory() else { return Verdict::Passed(Pass::NoService) };
    let Some(interface) = service::interface(half, ingress) else {
        return Verdict::Passed(Pass::NotAddressedToUs);
    };
    let here = Here { tables, directory, half, interface, link };
    match link.ethertype {
        ethertype::IPV4 => ipv4(packet, &here),
        ethertype::IPV6 => ipv6(packet, &here),
        ethertype::ARP => arp(packet, &here),
        _ => Verdict::Passed(Pass::NotIp),
    }
}

/// The verdict on a frame of which it cannot be told whether it is for a VIP.
#[inline(always)]
const fn stranger(why: Unreadable) -> Verdict {
    match why {
        Unreadable::Malformed => Verdict::Passed(Pass::NotIp),
        Unreadable::Split => Verdict::Passed(Pass::SplitHeaders),
    }
}

/// The verdict on a packet to a VIP whose further headers cannot be read.
#[inline(always)]
const fn unreadable(why: Unreadable) -> Verdict {
    match why {
        Unreadable::Malformed => Verdict::Dropped(Drop::Malformed),
        Unreadable::Split => Verdict::Passed(Pass::SplitHeaders),
    }
}

/// ARP: requests for an announced VIP are answered, everything else is the local stack's.
#[inline(always)]
fn arp<P: Packet, T: Tables>(packet: &mut P, here: &Here<'_, T>) -> Verdict {
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    if here.link.destination != mac::word([0xff; 6]) && !here.interface.is_ours(here.link.destination) {
        return Verdict::Passed(Pass::NotAddressedToUs);
    }
    let Some(&body) = packet.bytes::<28>(here.link.payload) else { return Verdict::Passed(Pass::NotIp) };
    let [a, b, c, d, e, f, g, h, .., s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = body;
    let (sender, target) = (u32::from_ne_bytes([s0, s1, s2, s3]), u32::from_ne_bytes([t0, t1, t2, t3]));
    // Sender and target the same: an announcement (RFC 5227, 1.1), which asks nothing.
    let asks =
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]) == u64::from_ne_bytes(REQUEST) && sender != target;
    if !asks || !announced(here, &Address::v4(target)) {
        return Verdict::Passed(Pass::NotIp);
    }
    match rewrite::arp_reply(packet, here.link.payload, here.interface.master_mac) {
        Ok(()) => Verdict::Answered(Answer::Arp),
        Err(rewrite::TooShort) => Verdict::Passed(Pass::NotIp),
    }
}

/// Whether pen answers requests for this address on the interface the packet came in by.
#[inline(always)]
fn announced<T: Tables>(here: &Here<'_, T>, address: &Address) -> bool {
    here.interface.announces()
        && service::vip(here.half, address).is_some_and(|vip| vip.flags & vip_flags::ANNOUNCE != 0)
}

/// IPv4: strangers leave after one probe of the service hash; what is left is checked, then served.
#[inline(always)]
fn ipv4<P: Packet, T: Tables>(packet: &mut P, here: &Here<'_, T>) -> Verdict {
    if !here.interface.is_ours(here.link.destination) {
        return Verdict::Passed(Pass::NotAddressedToUs);
    }
    let header = match parse::ipv4(packet, here.link.payload) {
        Ok(header) => header,
        Err(why) => return stranger(why),
    };
    let Some(vip) = service::vip(here.half, &header.destination) else {
        // What it says is not checked, but whoever counts its bytes must know that there may be more buffers.
        packet.reaches(header.end());
        return Verdict::Passed(Pass::NoService);
    };
    let datagram = match parse::ipv4_datagram(packet, &header) {
        Ok(datagram) => datagram,
        Err(why) => return unreadable(why),
    };
    match datagram.protocol {
        TCP | UDP => serve::<TrackKeyV4, _, _>(packet, here, vip, &header, &datagram),
        parse::ICMP if datagram.part != Part::Later => match parse::icmp(packet, &datagram) {
            Ok([8, 0]) if is_plain(&datagram) && header.source.is_v4_host() => {
                answered(rewrite::echo_v4(packet, header.at), Answer::IcmpEcho)
            }
            Ok(_) => Verdict::Passed(Pass::NotForUsProtocol),
            Err(why) => unreadable(why),
        },
        _ => Verdict::Passed(Pass::NotForUsProtocol),
    }
}

/// IPv6: as IPv4, and solicitations, which come to a multicast MAC.
#[inline(always)]
fn ipv6<P: Packet, T: Tables>(packet: &mut P, here: &Here<'_, T>) -> Verdict {
    let ours = here.interface.is_ours(here.link.destination);
    if !ours && !solicitation::is_group_mac(here.link.destination) {
        return Verdict::Passed(Pass::NotAddressedToUs);
    }
    let header = match parse::ipv6(packet, here.link.payload) {
        Ok(header) => header,
        Err(why) => return stranger(why),
    };
    if header.protocol == parse::ICMPV6
        && let Some(target) = solicitation::target(packet, &header)
        && announced(here, &target)
    {
        let mac = here.interface.master_mac;
        return match rewrite::advertise(packet, &header, here.link.source, mac) {
            Ok(()) => Verdict::Answered(Answer::Ndp),
            Err(rewrite::TooShort) => Verdict::Passed(Pass::NotForUsProtocol),
        };
    }
    if !ours {
        return Verdict::Passed(Pass::NotAddressedToUs);
    }
    // An IPv4-mapped address on the wire is nobody's (RFC 4942, 2.2): it must not meet an IPv4 VIP.
    if header.destination.is_v4() {
        return Verdict::Passed(Pass::NoService);
    }
    let Some(vip) = service::vip(here.half, &header.destination) else {
        // What it says is not checked, but whoever counts its bytes must know that there may be more buffers.
        packet.reaches(header.end());
        return Verdict::Passed(Pass::NoService);
    };
    let datagram = match parse::ipv6_datagram(packet, &header) {
        Ok(datagram) => datagram,
        Err(why) => return unreadable(why),
    };
    match datagram.protocol {
        TCP | UDP => serve::<TrackKeyV6, _, _>(packet, here, vip, &header, &datagram),
        protocol if parse::is_extension(protocol) && datagram.part == Part::Later => {
            Verdict::Dropped(Drop::FragmentWithoutFirst)
        }
        parse::ICMPV6 if datagram.part != Part::Later => match parse::icmp(packet, &datagram) {
            Ok([128, 0]) if is_plain(&datagram) && header.source.is_v6_host() => {
                answered(rewrite::echo_v6(packet, header.at), Answer::IcmpEcho)
            }
            Ok(_) => Verdict::Passed(Pass::NotForUsProtocol),
            Err(why) => unreadable(why),
        },
        _ => Verdict::Passed(Pass::NotForUsProtocol),
    }
}

/// Whether an echo request can be turned into its reply where it stands. Its source must be a single host, too.
#[inline(always)]
fn is_plain(datagram: &Datagram) -> bool {
    datagram.part == Part::Whole && !datagram.extended
}

/// The verdict on an answer whose room was checked before.
#[inline(always)]
fn answered(done: Result<(), rewrite::TooShort>, answer: Answer) -> Verdict {
    match done {
        Ok(()) => Verdict::Answered(answer),
        Err(rewrite::TooShort) => Verdict::Dropped(Drop::Malformed),
    }
}

/// TCP or UDP to a VIP: finds the service, refuses loops, chooses a backend and hands the packet on.
#[inline(always)]
fn serve<K: Key, P: Packet, T: Tables>(
    packet: &mut P,
    here: &Here<'_, T>,
    vip: &ServiceEntry,
    header: &IpHeader,
    datagram: &Datagram,
) -> Verdict {
    let (service, ports) = if datagram.part == Part::Later {
        // Without ports only a service of every port that chooses by client knows where this belongs.
        match service::every_port(here.half, vip, &header.destination, datagram.protocol) {
            Some(service) if service.flags & service_flags::AFFINITY_FLOW == 0 => {
                (service, Ports { source: 0, destination: 0 })
            }
            _ => return Verdict::Dropped(Drop::FragmentWithoutFirst),
        }
    } else {
        let ports = match parse::ports(packet, datagram) {
            Ok(ports) => ports,
            Err(why) => return unreadable(why),
        };
        let found =
            service::service(here.half, vip, &header.destination, ports.destination, datagram.protocol);
        let Some(service) = found else { return Verdict::Passed(Pass::NoService) };
        (service, ports)
    };
    if came_from_backend(here, service) {
        return Verdict::Dropped(Drop::Loop);
    }
    let may_remember = datagram.part != Part::Later;
    let is_new = || may_remember && parse::opens(packet, datagram);
    let flow = Flow { service, client: &header.source, ports };
    match select::choose::<K, _>(here.tables, here.directory, flow, may_remember, is_new) {
        Some(chosen) => hand_on(packet, here, chosen),
        None if service.flags & service_flags::PASS_WHEN_EMPTY != 0 => Verdict::Passed(Pass::EmptyPool),
        None => Verdict::Dropped(Drop::NoBackend),
    }
}

/// Whether the frame comes from a backend of the service it is for: the filter first, then the exact table.
#[inline(always)]
fn came_from_backend<T: Tables>(here: &Here<'_, T>, service: &ServiceEntry) -> bool {
    let key = mac::loop_key(here.link.source, service.service);
    let (word, bit) = mac::loop_filter_bit(key);
    here.tables.loop_filter(word) & bit != 0 && here.tables.is_backend_mac(key)
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

#[cfg(test)]
mod tests;
