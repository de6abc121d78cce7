//! Reads as much of a captured frame as the proofs need. Written apart from pen's own parser on purpose: a
//! mistake there must not hide here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a frame says.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Destination MAC.
    pub to_mac: [u8; 6],
    /// Source MAC.
    pub from_mac: [u8; 6],
    /// What it carries.
    pub content: Content,
    /// Everything after the MAC addresses, as far as it was captured.
    pub rest: Vec<u8>,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// ARP for IPv4 over Ethernet (RFC 826).
    Arp {
        /// 1 request, 2 reply.
        operation: u16,
        /// Sender's MAC.
        sender_mac: [u8; 6],
        /// Sender's address.
        sender: Ipv4Addr,
        /// Target's address.
        target: Ipv4Addr,
    },
    /// IPv4 or IPv6.
    Ip {
        /// Source address.
        from: IpAddr,
        /// Destination address.
        to: IpAddr,
        /// IP protocol (or next header) number.
        protocol: u8,
        /// Source and destination port of TCP and UDP, else 0.
        ports: (u16, u16),
        /// Everything after the IP header, as far as it was captured.
        payload: Vec<u8>,
    },
    /// Anything else, by EtherType.
    Other(u16),
}

impl Frame {
    /// Reads a frame; what is cut short or of another kind becomes [`Content::Other`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (to_mac, rest) = bytes.split_first_chunk::<6>()?;
        let (from_mac, rest) = rest.split_first_chunk::<6>()?;
        let (kind, inside) = rest.split_first_chunk::<2>()?;
        let kind = u16::from_be_bytes(*kind);
        let content = match kind {
            0x0806 => arp(inside),
            0x0800 => ipv4(inside),
            0x86dd => ipv6(inside),
            _ => None,
        };
        let content = content.unwrap_or(Content::Other(kind));
        Some(Self { to_mac: *to_mac, from_mac: *from_mac, content, rest: rest.to_vec() })
    }

    /// Source and destination address of an IP frame.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.content {
            Content::Ip { from, to, .. } => Some((*from, *to)),
            _ => None,
        }
    }

    /// An IP frame to this address.
    pub fn is_to(&self, address: IpAddr) -> bool {
        self.addresses().is_some_and(|(_, to)| to == address)
    }

    /// An IP frame from this address.
    pub fn is_from(&self, address: IpAddr) -> bool {
        self.addresses().is_some_and(|(from, _)| from == address)
    }
}

/// On one line, without the bytes: failing tests show lists of frames.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        write!(f, "{} → {} ", mac(&self.from_mac), mac(&self.to_mac))?;
        match &self.content {
            Content::Arp { operation, sender, target, .. } => {
                write!(f, "ARP {operation} from {sender} about {target}")
            }
            Content::Ip { from, to, protocol, ports, .. } => {
                write!(f, "{from} → {to} protocol {protocol} ports {} → {}", ports.0, ports.1)
            }
            Content::Other(kind) => write!(f, "EtherType {kind:#06x}"),
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn arp(bytes: &[u8]) -> Option<Content> {
    if bytes.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    Some(Content::Arp {
        operation: u16::from_be_bytes(array(bytes, 6)?),
        sender_mac: array(bytes, 8)?,
        sender: array::<4>(bytes, 14)?.into(),
        target: array::<4>(bytes, 24)?.into(),
    })
}

fn ipv4(bytes: &[u8]) -> Option<Content> {
    let header = usize::from(*bytes.first()? & 0x0f) * 4;
    let from = Ipv4Addr::from(array::<4>(bytes, 12)?).into();
    let to = Ipv4Addr::from(array::<4>(bytes, 16)?).into();
    Some(ip(from, to, *bytes.get(9)?, bytes.get(header..)?))
}

fn ipv6(bytes: &[u8]) -> Option<Content> {
    let from = Ipv6Addr::from(array::<16>(bytes, 8)?).into();
    let to = Ipv6Addr::from(array::<16>(bytes, 24)?).into();
    Some(ip(from, to, *bytes.get(6)?, bytes.get(40..)?))
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Content {
    let port = |at| array(payload, at).map_or(0, u16::from_be_bytes);
    let ports = if matches!(protocol, 6 | 17) { (port(0), port(2)) } else { (0, 0) };
    Content::Ip { from, to, protocol, ports, payload: payload.to_vec() }
}
