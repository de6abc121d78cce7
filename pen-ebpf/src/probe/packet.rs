//! An IP packet in a frame, or quoted in an ICMP error: who talks with whom, and where that is written.

use pen_common::abi::Address;

use crate::frame::{Frame, pair};

const IPV4: u16 = 0x0800_u16.to_be();
/// Where in an IPv4 packet this part of it belongs, in wire order.
const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();
/// That, and whether more of it follows.
const FRAGMENT: u16 = 0x3fff_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// ICMP; ICMPv6 counts as this, too, because they answer alike.
pub(crate) const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A packet.
pub(crate) struct Packet {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) protocol: u8,
    /// Where it begins in the frame.
    at: usize,
    /// Where what it carries begins.
    pub(crate) payload: usize,
}

/// The ports of a packet; those of an ICMP message are its identifier and 0.
pub(crate) struct Ports {
    pub(crate) source: u16,
    pub(crate) destination: u16,
}

/// What kind of ICMP message.
#[derive(PartialEq, Eq)]
pub(crate) enum Icmp {
    Request,
    Reply,
    Error,
}

impl Packet {
    /// The packet of a frame: a whole one, or the first fragment.
    #[inline(always)]
    pub(crate) fn of(frame: &Frame<'_>) -> Option<Self> {
        match frame.protocol() {
            IPV4 => Self::v4(frame, frame.packet()),
            IPV6 => Self::v6(frame, frame.packet()),
            _ => None,
        }
    }

    /// Whom the packet of a frame is for, even if it is a part of one.
    #[inline(always)]
    pub(crate) fn destination(frame: &Frame<'_>) -> Option<Address> {
        match frame.protocol() {
            IPV4 => Some(Address::v4(frame.read(frame.packet() + 16)?)),
            IPV6 => Some(Address { words: frame.read(frame.packet() + 24)? }),
            _ => None,
        }
    }

    /// Whether it is not a part of one. (Parts over IPv6 have a header of their own, which is none of a question's.)
    #[inline(always)]
    pub(crate) fn is_whole(&self, frame: &Frame<'_>) -> Option<bool> {
        if !self.source.is_v4() {
            return Some(true);
        }
        let fragment: u16 = frame.read(self.at + 6)?;
        Some(fragment & FRAGMENT == 0)
    }

    /// The packet that an ICMP error quotes.
    #[inline(always)]
    pub(crate) fn quoted(&self, frame: &Frame<'_>) -> Option<Self> {
        let at = self.payload + 8;
        if self.source.is_v4() { Self::v4(frame, at) } else { Self::v6(frame, at) }
    }

    #[inline(always)]
    fn v4(frame: &Frame<'_>, at: usize) -> Option<Self> {
        let [version, _] = pair(frame.read(at)?);
        let [_, protocol] = pair(frame.read(at + 8)?);
        let fragment: u16 = frame.read(at + 6)?;
        let length = usize::from(version & 0xf) * 4;
        if version >> 4 != 4 || length < 20 || fragment & FRAGMENT_OFFSET != 0 {
            return None;
        }
        let (source, destination) = (Address::v4(frame.read(at + 12)?), Address::v4(frame.read(at + 16)?));
        Some(Self { source, destination, protocol, at, payload: at + length })
    }

    /// Without extension headers: neither checks nor what answers them have any.
    #[inline(always)]
    fn v6(frame: &Frame<'_>, at: usize) -> Option<Self> {
        let ([version, _], [next, _]) = (pair(frame.read(at)?), pair(frame.read(at + 6)?));
        if version >> 4 != 6 {
            return None;
        }
        let (source, destination) =
            (Address { words: frame.read(at + 8)? }, Address { words: frame.read(at + 24)? });
        let protocol = if next == ICMPV6 { ICMP } else { next };
        Some(Self { source, destination, protocol, at, payload: at + 40 })
    }

    /// What kind of ICMP message it is, if it is one that matters.
    #[inline(always)]
    pub(crate) fn icmp(&self, frame: &Frame<'_>) -> Option<Icmp> {
        let [kind, _] = pair(frame.read(self.payload)?);
        match (self.source.is_v4(), kind) {
            (true, 8) | (false, 128) => Some(Icmp::Request),
            (true, 0) | (false, 129) => Some(Icmp::Reply),
            (true, 3 | 4 | 11 | 12) | (false, 1..=4) => Some(Icmp::Error),
            _ => None,
        }
    }

    /// Its ports.
    #[inline(always)]
    pub(crate) fn ports(&self, frame: &Frame<'_>) -> Option<Ports> {
        let (source, destination) = match self.protocol {
            TCP | UDP => (frame.read(self.payload)?, frame.read(self.payload + 2)?),
            ICMP => (frame.read(self.payload + 4)?, 0),
            _ => return None,
        };
        Some(Ports { source, destination })
    }

    /// Writes another source into the frame.
    #[inline(always)]
    pub(crate) fn put_source(&self, frame: &Frame<'_>, address: &Address) -> Option<()> {
        self.put(frame, address, 12, 8)
    }

    /// Writes another destination into the frame.
    #[inline(always)]
    pub(crate) fn put_destination(&self, frame: &Frame<'_>, address: &Address) -> Option<()> {
        self.put(frame, address, 16, 24)
    }

    #[inline(always)]
    fn put(&self, frame: &Frame<'_>, address: &Address, v4: usize, v6: usize) -> Option<()> {
        match self.source.is_v4() {
            true => frame.put(self.at + v4, address.words[3]),
            false => frame.put(self.at + v6, address.words),
        }
    }

    /// Allows one hop, which is as far as the link goes.
    #[inline(always)]
    pub(crate) fn put_one_hop(&self, frame: &Frame<'_>) -> Option<()> {
        if !self.source.is_v4() {
            let [next, _] = pair(frame.read(self.at + 6)?);
            return frame.put(self.at + 6, u16::from_ne_bytes([next, 1]));
        }
        let from: u16 = frame.read(self.at + 8)?;
        let [_, protocol] = pair(from);
        let to = u16::from_ne_bytes([1, protocol]);
        frame.context().l3_csum_replace(self.at + 10, from.into(), to.into(), 2).ok()?;
        frame.put(self.at + 8, to)
    }
}
