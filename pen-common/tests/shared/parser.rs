//! What must hold of any bytes that are read as headers; the fuzz target and the replay of its corpus share it.

use pen_common::abi::Address;
use pen_common::host::{Frame, SplitFrame};
use pen_common::packet::Packet;
use pen_common::parse::{self, Datagram, IPV6_HEADER, IpHeader, Link, Part, Ports, Unreadable};
use pen_common::service::{TCP, UDP};
use pen_common::solicitation;

type Read<T> = Result<T, Unreadable>;

/// Reads bytes as a frame: the first one says how many of the others are in its first buffer; 0 = all.
///
/// # Panics
/// Something lies outside of the frame, or its buffers change what is read rather than whether.
pub(crate) fn check(input: &[u8]) {
    let Some((&first, bytes)) = input.split_first() else { return };
    let frame = Frame(bytes.to_vec());
    let whole = Readings::of(&frame);
    let first = usize::from(first).min(bytes.len());
    if first > 0 {
        Readings::of(&SplitFrame { frame, first }).assert_of_the_same_frame(&whole);
    }
}

/// All that is read of a frame: whatever its EtherType says, by both families.
struct Readings {
    link: Read<Link>,
    v4: Option<Family>,
    v6: Option<Family>,
    asked: Option<Address>,
}

/// What is read of an IP packet.
struct Family {
    header: Read<IpHeader>,
    datagram: Option<Read<Datagram>>,
    ports: Option<Read<Ports>>,
    opens: bool,
    icmp: Option<Read<[u8; 2]>>,
    quoted: Option<Read<Datagram>>,
    quoted_ports: Option<Read<Ports>>,
}

impl Readings {
    fn of<P: Packet>(packet: &P) -> Self {
        let link = parse::link(packet);
        let Ok(Link { payload: at, vlan, .. }) = link else {
            return Self { link, v4: None, v6: None, asked: None };
        };
        assert!(at <= packet.len(), "the link layer ends at {at}");
        let ids = [vlan & 0xffff, vlan >> 16];
        assert!(
            matches!((at, ids), (14, [0, 0]) | (18, [0..4096, 0]) | (22, [0..4096, 0..4096])),
            "{link:?}"
        );
        let v6 = Family::of(packet, at, true);
        let asked = v6.header.ok().and_then(|header| asked(packet, &header));
        Self { link, v4: Some(Family::of(packet, at, false)), v6: Some(v6), asked }
    }

    /// Of these, which were read from the first buffer alone, each is as if all was in it, or is known to be missing.
    fn assert_of_the_same_frame(&self, whole: &Self) {
        assert_split(self.link, whole.link);
        for (split, whole) in [(&self.v4, &whole.v4), (&self.v6, &whole.v6)] {
            let Some(split) = split else { continue };
            let whole = whole.as_ref().expect("the link layer is read from less");
            assert_split(split.header, whole.header);
            assert_both(split.datagram, whole.datagram);
            assert_both(split.ports, whole.ports);
            assert_both(split.icmp, whole.icmp);
            assert_both(split.quoted, whole.quoted);
            assert_both(split.quoted_ports, whole.quoted_ports);
            assert!(whole.opens || !split.opens);
        }
        assert!(self.asked.is_none() || self.asked == whole.asked);
    }
}

fn assert_split<T: PartialEq + std::fmt::Debug>(split: Read<T>, whole: Read<T>) {
    assert!(split == Err(Unreadable::Split) || split == whole, "{split:?} of a buffer, {whole:?} of all");
}

/// The same of what may not have been tried, for want of what stands before it.
fn assert_both<T: PartialEq + std::fmt::Debug>(split: Option<Read<T>>, whole: Option<Read<T>>) {
    let Some(split) = split else { return };
    assert_split(split, whole.expect("what stands before it is read from less"));
}

impl Family {
    fn of<P: Packet>(packet: &P, at: usize, v6: bool) -> Self {
        let header = header(packet, at, v6);
        let mut family = Self {
            header,
            datagram: None,
            ports: None,
            opens: false,
            icmp: None,
            quoted: None,
            quoted_ports: None,
        };
        let Ok(header) = header else { return family };
        assert!(at + least(v6) <= packet.len() && header.at == at, "{header:?}");
        let read =
            if v6 { parse::ipv6_datagram(packet, &header) } else { parse::ipv4_datagram(packet, &header) };
        family.datagram = Some(read);
        let Ok(datagram) = read else { return family };
        assert!(datagram.end == header.end() && datagram.end <= packet.len(), "{datagram:?}");
        assert_inside(&header, &datagram, v6);
        if datagram.part != Part::Later {
            family.read_transport(packet, &datagram);
            family.read_quoted(packet, &datagram, v6);
        }
        family
    }

    fn read_transport<P: Packet>(&mut self, packet: &P, datagram: &Datagram) {
        let ports = parse::ports(packet, datagram);
        if ports.is_ok() {
            let least = if datagram.protocol == TCP { 20 } else { 8 };
            assert!(matches!(datagram.protocol, TCP | UDP) && datagram.payload + least <= datagram.end);
            self.opens = parse::opens(packet, datagram);
        }
        self.ports = Some(ports);
        let icmp = parse::icmp(packet, datagram);
        assert!(icmp.is_err() || datagram.payload + 8 <= datagram.end);
        self.icmp = Some(icmp);
    }

    /// What it would quote if it was an ICMP error.
    fn read_quoted<P: Packet>(&mut self, packet: &P, error: &Datagram, v6: bool) {
        let Ok(quoted) = header(packet, error.payload + 8, v6) else { return };
        let read = if v6 {
            parse::ipv6_quoted(packet, &quoted, error.end)
        } else {
            parse::ipv4_quoted(&quoted, error.end)
        };
        self.quoted = Some(read);
        let Ok(datagram) = read else { return };
        assert_eq!(datagram.end, error.end);
        assert_inside(&quoted, &datagram, v6);
        self.quoted_ports = Some(parse::quoted_ports(packet, datagram.payload));
    }
}

fn header<P: Packet>(packet: &P, at: usize, v6: bool) -> Read<IpHeader> {
    if v6 { parse::ipv6(packet, at) } else { parse::ipv4(packet, at) }
}

const fn least(v6: bool) -> usize {
    if v6 { IPV6_HEADER } else { parse::IPV4_HEADER }
}

/// A datagram's parts are in this order: header, identification, payload, end.
fn assert_inside(header: &IpHeader, datagram: &Datagram, v6: bool) {
    let Datagram { payload, end, id_at, part, extended, .. } = *datagram;
    assert!(header.at + least(v6) <= payload && payload <= end, "{datagram:?}");
    assert_eq!(extended, payload > header.at + least(v6), "{datagram:?}");
    if part != Part::Whole {
        let room = if v6 { header.at + IPV6_HEADER + 4..=payload - 4 } else { header.at + 4..=header.at + 4 };
        assert!(room.contains(&id_at), "{datagram:?}");
    }
}

/// Whom a valid solicitation asks for, which is checked by other means.
fn asked<P: Packet>(packet: &P, header: &IpHeader) -> Option<Address> {
    if header.protocol != parse::ICMPV6 {
        return None;
    }
    let asked = solicitation::target(packet, header)?;
    let at = header.at + IPV6_HEADER;
    let end = at + header.payload_length();
    let byte = |at: usize| packet.bytes::<1>(at).map_or(0, |[byte]| u32::from(*byte));
    let word = |at: usize| byte(at) << 8 | byte(at + 1);
    // RFC 4443, 2.3: addresses, length and next header, then the message.
    let covered = (header.at + 8..end).step_by(2).map(word).sum::<u32>();
    let mut sum = covered + (end - at) as u32 + u32::from(parse::ICMPV6);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    assert_eq!((header.version(), sum, byte(at), byte(at + 1), header.hops), (6, 0xffff, 135, 0, 255));
    assert!(end <= packet.len() && !asked.is_v4());
    assert_eq!(packet.bytes::<16>(at + 8).map(|bytes| Address::from(*bytes)), Some(asked));
    Some(asked)
}
