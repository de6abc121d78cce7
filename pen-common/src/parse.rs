//! Reads headers: Ethernet and VLAN tags, IPv4 with options, IPv6 with extension headers, ports.
//!
//! Two steps each: what is needed to tell a stranger from a VIP's packet is read first and never complains;
//! [`Datagram`]s are checked, because by then the packet is known to be for a VIP.

use crate::abi::{Address, MAC_MASK};
use crate::packet::Packet;
use crate::service::{TCP, UDP};

/// EtherTypes, in wire order (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800_u16.to_be();
    /// ARP.
    pub const ARP: u16 = 0x0806_u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86dd_u16.to_be();
    /// A customer's VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100_u16.to_be();
    /// A service provider's VLAN tag (IEEE 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();
}

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header.
pub const IPV6_HEADER: usize = 40;

/// The extension headers of IPv6 that are followed (RFC 8200, 4.3 to 4.6).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Extension headers followed at most; packets with more are of no protocol that pen knows.
const EXTENSIONS: usize = 6;

/// The link layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination MAC as a word.
    pub destination: u64,
    /// Source MAC as a word.
    pub source: u64,
    /// EtherType after the tags, wire order.
    pub ethertype: u16,
    /// VLAN IDs: outer in the low 16 bits, inner in the high ones; 0 = untagged.
    pub vlan: u32,
    /// Offset of what follows.
    pub payload: usize,
}

/// The fixed part of an IP header: enough to know whether the packet is for a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Offset of the header.
    pub at: usize,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// IPv4: the version and header length; IPv6: the version and half the traffic class.
    first: u8,
    /// IPv4: total length; IPv6: payload length.
    length: u16,
    /// IPv4: flags and fragment offset.
    fragment: u16,
    /// IPv4: protocol; IPv6: next header.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub hops: u8,
}

impl IpHeader {
    /// The version it says it is of, whatever its EtherType says.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.first >> 4
    }

    /// Where the packet ends, as it says itself.
    #[inline(always)]
    pub const fn end(&self) -> usize {
        let header = if self.version() == 6 { IPV6_HEADER } else { 0 };
        self.at + header + self.length as usize
    }

    /// IPv6: length of what follows the header.
    #[inline(always)]
    pub const fn payload_length(&self) -> usize {
        self.length as usize
    }
}

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment, with the ports.
    First,
    /// A later fragment.
    Later,
}

/// A checked IP packet: its headers agree with each other and with the frame's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Protocol after all extension headers.
    pub protocol: u8,
    /// Whether it is a fragment.
    pub part: Part,
    /// Offset of what follows the IP headers.
    pub payload: usize,
    /// Offset at which the datagram ends; padding of the frame may follow.
    pub end: usize,
    /// Of a fragment: offset of its identification, which has two bytes with IPv4 and four with IPv6.
    pub id_at: usize,
    /// It has IPv4 options or IPv6 extension headers.
    pub extended: bool,
}

/// Ports, in wire order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The client's.
    pub source: u16,
    /// The service's.
    pub destination: u16,
}

/// Why headers could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They contradict the packet's length or each other.
    Malformed,
    /// They are in the frame, but not in the part of it that can be read ([`Packet::bytes`]).
    Split,
}

use Unreadable::Malformed;

/// The `N` bytes of a header from offset `at` on.
#[inline(always)]
fn read<P: Packet, const N: usize>(packet: &P, at: usize) -> Result<&[u8; N], Unreadable> {
    match packet.bytes(at) {
        Some(bytes) => Ok(bytes),
        None if packet.reaches(at + N) => Err(Unreadable::Split),
        None => Err(Malformed),
    }
}

/// Reads the Ethernet header and up to two VLAN tags.
#[inline(always)]
pub fn link<P: Packet>(packet: &P) -> Result<Link, Unreadable> {
    let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n] = read(packet, 0)?;
    let mut link = Link {
        // Eight bytes each, six of which count: one load rather than several.
        destination: u64::from_le_bytes([a, b, c, d, e, f, g, h]) & MAC_MASK,
        source: u64::from_le_bytes([g, h, i, j, k, l, m, n]) & MAC_MASK,
        ethertype: u16::from_ne_bytes([m, n]),
        vlan: 0,
        payload: 14,
    };
    if !is_vlan(link.ethertype) {
        return Ok(link);
    }
    let &[a, b, c, d] = read(packet, 14)?;
    link.vlan = u32::from(vlan_id([a, b]));
    link.ethertype = u16::from_ne_bytes([c, d]);
    link.payload = 18;
    if is_vlan(link.ethertype) {
        let &[a, b, c, d] = read(packet, 18)?;
        link.vlan |= u32::from(vlan_id([a, b])) << 16;
        link.ethertype = u16::from_ne_bytes([c, d]);
        link.payload = 22;
    }
    Ok(link)
}

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    ethertype == ethertype::VLAN || ethertype == ethertype::SERVICE_VLAN
}

/// The VLAN ID in a tag's control information (IEEE 802.1Q, 9.6: the low 12 bits).
#[inline(always)]
const fn vlan_id(control: [u8; 2]) -> u16 {
    u16::from_be_bytes(control) & 0x0fff
}

/// Reads the fixed part of an IPv4 header.
#[inline(always)]
pub fn ipv4<P: Packet>(packet: &P, at: usize) -> Result<IpHeader, Unreadable> {
    let &[first, _, l0, l1, _, _, f0, f1, hops, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        read(packet, at)?;
    Ok(IpHeader {
        at,
        source: Address::v4(u32::from_ne_bytes([s0, s1, s2, s3])),
        destination: Address::v4(u32::from_ne_bytes([d0, d1, d2, d3])),
        first,
        length: u16::from_be_bytes([l0, l1]),
        fragment: u16::from_be_bytes([f0, f1]),
        protocol,
        hops,
    })
}

/// Reads the fixed IPv6 header.
#[inline(always)]
pub fn ipv6<P: Packet>(packet: &P, at: usize) -> Result<IpHeader, Unreadable> {
    let &[first, _, _, _, l0, l1, protocol, hops] = read(packet, at)?;
    let source = Address::from(*read::<_, 16>(packet, at + 8)?);
    let destination = Address::from(*read::<_, 16>(packet, at + 24)?);
    let length = u16::from_be_bytes([l0, l1]);
    Ok(IpHeader { at, source, destination, first, length, fragment: 0, protocol, hops })
}

/// Checks an IPv4 packet (RFC 791, 3.1).
#[inline(always)]
pub fn ipv4_datagram<P: Packet>(packet: &P, header: &IpHeader) -> Result<Datagram, Unreadable> {
    let header_length = usize::from(header.first & 0x0f) * 4;
    let end = header.at + usize::from(header.length);
    let payload = header.at + header_length;
    if header.version() != 4 || header_length < IPV4_HEADER || payload > end || !packet.reaches(end) {
        return Err(Malformed);
    }
    Ok(ipv4_parts(header, payload, end))
}

/// What an ICMP error that ends there quotes of an IPv4 packet, as much of it as there is (RFC 792; RFC 1812, 4.3.2.3).
#[inline(always)]
pub fn ipv4_quoted(header: &IpHeader, end: usize) -> Result<Datagram, Unreadable> {
    let header_length = usize::from(header.first & 0x0f) * 4;
    let payload = header.at + header_length;
    if header.version() != 4 || header_length < IPV4_HEADER || payload > end {
        return Err(Malformed);
    }
    Ok(ipv4_parts(header, payload, end))
}

/// A datagram whose payload is known.
#[inline(always)]
const fn ipv4_parts(header: &IpHeader, payload: usize, end: usize) -> Datagram {
    const MORE: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;
    let part = match header.fragment {
        fragment if fragment & OFFSET != 0 => Part::Later,
        fragment if fragment & MORE != 0 => Part::First,
        _ => Part::Whole,
    };
    let (protocol, extended) = (header.protocol, payload - header.at != IPV4_HEADER);
    Datagram { protocol, part, payload, end, id_at: header.at + 4, extended }
}

/// Checks an IPv6 packet and follows its extension headers (RFC 8200, 4).
#[inline(always)]
pub fn ipv6_datagram<P: Packet>(packet: &P, header: &IpHeader) -> Result<Datagram, Unreadable> {
    let start = header.at + IPV6_HEADER;
    let end = start + usize::from(header.length);
    if header.version() != 6 || !packet.reaches(end) {
        return Err(Malformed);
    }
    ipv6_parts(packet, header.protocol, start, end)
}

/// What an ICMPv6 error that ends there quotes of an IPv6 packet, as much of it as there is (RFC 4443, 3).
#[inline(always)]
pub fn ipv6_quoted<P: Packet>(packet: &P, header: &IpHeader, end: usize) -> Result<Datagram, Unreadable> {
    let start = header.at + IPV6_HEADER;
    if header.version() != 6 || start > end {
        return Err(Malformed);
    }
    ipv6_parts(packet, header.protocol, start, end)
}

/// Follows extension headers, of which the first has the number `protocol` and begins at `start`.
#[inline(always)]
fn ipv6_parts<P: Packet>(packet: &P, protocol: u8, start: usize, end: usize) -> Result<Datagram, Unreadable> {
    let mut datagram =
        Datagram { protocol, part: Part::Whole, payload: start, end, id_at: 0, extended: false };
    for _ in 0..EXTENSIONS {
        let length = match datagram.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let &[next, length] = read(packet, datagram.payload)?;
                datagram.protocol = next;
                (usize::from(length) + 1) * 8
            }
            FRAGMENT => {
                let &[next, _, offset, flags] = read(packet, datagram.payload)?;
                datagram.protocol = next;
                datagram.id_at = datagram.payload + 4;
                datagram.part = match (offset, flags & 0xf8, flags & 1) {
                    (0, 0, 0) => datagram.part,
                    (0, 0, _) => Part::First,
                    _ => Part::Later,
                };
                8
            }
            _ => break,
        };
        datagram.extended = true;
        datagram.payload += length;
        if datagram.payload > end {
            return Err(Malformed);
        }
        if datagram.part == Part::Later {
            break;
        }
    }
    Ok(datagram)
}

/// Whether a protocol number is that of an extension header, behind which another protocol follows.
#[inline(always)]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// Reads and checks the TCP or UDP header of a datagram that is whole or a first fragment.
#[inline(always)]
pub fn ports<P: Packet>(packet: &P, datagram: &Datagram) -> Result<Ports, Unreadable> {
    let room = datagram.end - datagram.payload;
    match datagram.protocol {
        TCP => {
            const HEADER: usize = 20;
            let &[s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, ..] =
                read::<_, HEADER>(packet, datagram.payload)?;
            // RFC 9293, 3.1: the data offset counts words of the header.
            let header = usize::from(offset >> 4) * 4;
            if room < HEADER || header < HEADER || (header > room && datagram.part == Part::Whole) {
                return Err(Malformed);
            }
            Ok(Ports { source: u16::from_ne_bytes([s0, s1]), destination: u16::from_ne_bytes([d0, d1]) })
        }
        UDP => {
            const HEADER: usize = 8;
            let &[s0, s1, d0, d1, l0, l1, _, _] = read::<_, HEADER>(packet, datagram.payload)?;
            // RFC 768: the length counts header and data; a first fragment holds less of it.
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            if room < HEADER || length < HEADER || (length > room && datagram.part == Part::Whole) {
                return Err(Malformed);
            }
            Ok(Ports { source: u16::from_ne_bytes([s0, s1]), destination: u16::from_ne_bytes([d0, d1]) })
        }
        _ => Err(Malformed),
    }
}

/// Reads the ports of what an ICMP error quotes, which are all that need be there of TCP or UDP: its sender's come first.
#[inline(always)]
pub fn quoted_ports<P: Packet>(packet: &P, payload: usize) -> Result<Ports, Unreadable> {
    let &[s0, s1, d0, d1] = read(packet, payload)?;
    Ok(Ports { source: u16::from_ne_bytes([s0, s1]), destination: u16::from_ne_bytes([d0, d1]) })
}

/// Whether a datagram whose ports were read may be a flow's first: TCP that only asks for a connection, any UDP.
#[inline(always)]
pub fn opens<P: Packet>(packet: &P, datagram: &Datagram) -> bool {
    datagram.protocol == UDP
        || packet.bytes::<1>(datagram.payload + 13).is_some_and(|[bits]| is_request(*bits))
}

/// Whether these are control bits of a TCP segment that only asks for a connection (RFC 9293, 3.1).
#[inline(always)]
pub const fn is_request(bits: u8) -> bool {
    const FIN: u8 = 1;
    const SYN: u8 = 1 << 1;
    const RST: u8 = 1 << 2;
    const ACK: u8 = 1 << 4;
    bits & (SYN | ACK | RST | FIN) == SYN
}

/// Reads type and code of an ICMP or ICMPv6 message, which has at least 8 bytes (RFC 792; RFC 4443, 2.1).
#[inline(always)]
pub fn icmp<P: Packet>(packet: &P, datagram: &Datagram) -> Result<[u8; 2], Unreadable> {
    if datagram.end - datagram.payload < 8 {
        return Err(Malformed);
    }
    read(packet, datagram.payload).copied()
}
