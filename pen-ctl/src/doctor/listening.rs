//! What comes back: frames that were heard, read as far as the checks need it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Finding, Verdict};
use crate::announce::packet_socket::PacketSocket;
use crate::dataplane::Mac;
use crate::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, ICMPV6, TCP, UDP};

/// A frame that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) from_mac: Mac,
    pub(super) content: Content,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An ARP reply or a neighbor advertisement: this address is at this MAC.
    Here {
        address: IpAddr,
        mac: Mac,
    },
    Tcp(Segment),
    Udp {
        from: SocketAddr,
        to: SocketAddr,
    },
    EchoReply {
        from: IpAddr,
        identifier: u16,
        sequence: u16,
    },
    /// An ICMP error about a packet to this place that had these first eight bytes after its IP header.
    Error {
        kind: Kind,
        about: IpAddr,
        protocol: u8,
        quoted: [u8; 8],
    },
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
}

/// What an ICMP error complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody has that port.
    Port,
    /// It was to be forwarded, and its hop limit was used up.
    HopLimit,
    /// Anything else: rejected, no route.
    Other,
}

impl Heard {
    /// Reads a frame; `None` for what no check waits for.
    pub(super) fn parse(frame: &[u8]) -> Option<Heard> {
        let from_mac = Mac(array(frame, 6)?);
        let body = frame.get(14..)?;
        let content = match u16::from_be_bytes(array(frame, 12)?) {
            ETHERTYPE_ARP if body.get(..8)? == [0, 1, 8, 0, 6, 4, 0, 2] => Content::Here {
                address: Ipv4Addr::from(array::<4>(body, 14)?).into(),
                mac: Mac(array(body, 8)?),
            },
            ETHERTYPE_IPV4 => {
                let source = Ipv4Addr::from(array::<4>(body, 12)?).into();
                let destination = Ipv4Addr::from(array::<4>(body, 16)?).into();
                let header = usize::from(body.first()? & 0x0f) * 4;
                packet(source, destination, *body.get(9)?, body.get(header..)?)?
            }
            ETHERTYPE_IPV6 => {
                let source = Ipv6Addr::from(array::<16>(body, 8)?).into();
                let destination = Ipv6Addr::from(array::<16>(body, 24)?).into();
                packet(source, destination, *body.get(6)?, body.get(40..)?)?
            }
            _ => return None,
        };
        Some(Heard { from_mac, content })
    }
}

fn packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Option<Content> {
    let port = |at| Some(u16::from_be_bytes(array(payload, at)?));
    Some(match protocol {
        TCP => Content::Tcp(Segment {
            from: SocketAddr::new(source, port(0)?),
            to: SocketAddr::new(destination, port(2)?),
            acknowledged: u32::from_be_bytes(array(payload, 8)?),
            flags: *payload.get(13)?,
        }),
        UDP => Content::Udp {
            from: SocketAddr::new(source, port(0)?),
            to: SocketAddr::new(destination, port(2)?),
        },
        ICMP | ICMPV6 => match (protocol, *payload.first()?, *payload.get(1)?) {
            (ICMP, 0, _) | (ICMPV6, 129, _) => {
                Content::EchoReply { from: source, identifier: port(4)?, sequence: port(6)? }
            }
            (ICMPV6, 136, _) => Content::Here {
                address: Ipv6Addr::from(array::<16>(payload, 8)?).into(),
                // The target link-layer address option.
                mac: Mac(array(payload, 26).filter(|_| payload.get(24) == Some(&2))?),
            },
            (ICMP, 3, 3) | (ICMPV6, 1, 4) => error(Kind::Port, protocol, payload)?,
            (ICMP, 11, 0) | (ICMPV6, 3, 0) => error(Kind::HopLimit, protocol, payload)?,
            (ICMP, 3, _) | (ICMPV6, 1, _) => error(Kind::Other, protocol, payload)?,
            _ => return None,
        },
        _ => return None,
    })
}

fn error(kind: Kind, protocol: u8, message: &[u8]) -> Option<Content> {
    let quoted = message.get(8..)?;
    let (about, protocol, header) = match protocol {
        ICMP => {
            let header = usize::from(quoted.first()? & 0x0f) * 4;
            (Ipv4Addr::from(array::<4>(quoted, 16)?).into(), *quoted.get(9)?, header)
        }
        _ => (Ipv6Addr::from(array::<16>(quoted, 24)?).into(), *quoted.get(6)?, 40),
    };
    Some(Content::Error { kind, about, protocol, quoted: array(quoted, header)? })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A socket to ask on and hear the answers.
pub(super) struct Wire(PacketSocket);

impl Wire {
    /// Opens it, or says in a finding why it cannot be.
    pub(super) fn open() -> Result<Wire, Finding> {
        PacketSocket::listening().map(Wire).map_err(|error| {
            Finding::new(Verdict::Skipped, "", format!("asking takes a packet socket (CAP_NET_RAW): {error}"))
                .fix("sudo pen-ctl doctor")
        })
    }

    /// Sends a frame. What cannot be sent is a question without an answer, and shows as such.
    pub(super) fn send(&self, ifindex: u32, frame: &[u8]) {
        if let Err(error) = self.0.send(ifindex, frame) {
            tracing::debug!("send a question: {error}");
        }
    }

    /// Hands on what is heard, our own frames too, for so long.
    pub(super) fn listen(&self, span: Duration, mut hear: impl FnMut(Heard)) -> io::Result<()> {
        let end = Instant::now() + span;
        let mut buffer = [0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let patience = left.max(Duration::from_millis(1));
            if let Some(length) = self.0.receive(&mut buffer, patience)?
                && let Some(heard) = buffer.get(..length).and_then(Heard::parse)
            {
                hear(heard);
            }
        }
    }
}
