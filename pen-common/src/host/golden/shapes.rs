//! Every shape a served packet has: family, tags, headers, transport, part of a datagram and size, each with each.
//!
//! Left out, because they are nothing: IPv4 options and extension headers of the other family; padding of frames whose
//! headers alone are longer than the shortest frame (they are just as long as they are); tags other than those that the
//! services' backends are on, which [`super::headers`] and the pipeline's tests are about; and parts of datagrams that
//! come alone or in another order, which are in [`super::fragments`].

use super::super::frames;
use super::super::sample::{VIP4, VIP6};
use super::{
    CLIENT_PORT, CLIENT4, CLIENT6, DESTINATION, FIRST, FIRST_BUFFER, FRAGMENT, Golden, HOP_BY_HOP, ROUTING,
    TAGS, extended, frame, link, numbered, part6, tcp_port, to, udp_port,
};
use crate::service::{TCP, UDP};

/// The shortest Ethernet frame without its checksum (IEEE 802.3, 3.2.8).
const SHORTEST: usize = 60;

/// What stands between the IP header and TCP's or UDP's.
#[derive(Clone, Copy)]
struct Headers {
    name: &'static str,
    v6: bool,
    /// IPv4.
    options: &'static [u8],
    /// IPv6: before a fragment header.
    before: &'static [(u8, u8)],
    /// IPv6: behind it, so that later fragments do not tell TCP or UDP.
    behind: &'static [(u8, u8)],
}

const HEADERS: [Headers; 7] = {
    let v4 = Headers { name: "v4", v6: false, options: &[], before: &[], behind: &[] };
    let v6 = Headers { name: "v6", v6: true, ..v4 };
    [
        v4,
        Headers { name: "v4_options", options: &[0x94, 4, 0, 0, 1, 1, 1, 1], ..v4 },
        v6,
        Headers { name: "v6_hop", before: &[(HOP_BY_HOP, 1)], ..v6 },
        Headers { name: "v6_routing", before: &[(ROUTING, 3)], ..v6 },
        Headers { name: "v6_destination", behind: &[(DESTINATION, 2)], ..v6 },
        Headers {
            name: "v6_several",
            before: &[(HOP_BY_HOP, 1), (DESTINATION, 2), (ROUTING, 3)],
            behind: &[(DESTINATION, 1)],
            ..v6
        },
    ]
};

/// A part of a datagram: its name, its offset in units of eight bytes, and whether more follow.
#[derive(Clone, Copy, PartialEq)]
struct Part(&'static str, u16, bool);

const FIRST_PART: Part = Part("first", 0, true);
const PARTS: [Part; 4] =
    [Part("whole", 0, false), FIRST_PART, Part("middle", 185, true), Part("last", 370, false)];

/// Sizes of frames, tags apart: as short as they can be, Ethernet's longest, all that a first buffer holds, and several
/// buffers.
const SIZES: [(&str, usize); 4] = [("min", 0), ("max", 1514), ("jumbo", FIRST_BUFFER - 8), ("buffers", 9014)];

/// All of them.
pub(super) fn cases() -> Vec<Golden> {
    let mut cases = Vec::new();
    for headers in HEADERS {
        for (tags, vlans) in TAGS {
            for protocol in [TCP, UDP] {
                for part in PARTS {
                    for (size_name, size) in SIZES {
                        let id = 0x8000 + cases.len() as u16;
                        let shape = Shape { headers, vlans, protocol, id };
                        let transport = if protocol == TCP { "tcp" } else { "udp" };
                        let name = format!("{}{tags}_{transport}_{}_{size_name}", headers.name, part.0);
                        let about = format!("{} bytes", shape.frame(part, size).len());
                        let fate = to(headers.v6, shape.port(), FIRST);
                        let case = Golden::new(name, about, shape.frame(part, size), fate);
                        let is_later = part.1 != 0;
                        cases.push(if is_later { case.after(shape.frame(FIRST_PART, 0)) } else { case });
                    }
                }
            }
        }
    }
    cases
}

/// All but part and size, which the fragments of a datagram have in common.
struct Shape {
    headers: Headers,
    vlans: &'static [u16],
    protocol: u8,
    id: u16,
}

impl Shape {
    fn port(&self) -> u16 {
        if self.protocol == TCP { tcp_port(self.vlans) } else { udp_port(self.vlans) }
    }

    /// A frame that is no longer than that (and than it must), and padded if it is too short.
    fn frame(&self, part: Part, size: usize) -> Vec<u8> {
        let shortest = self.with_data(part, &[]);
        let room = (size + 4 * self.vlans.len()).saturating_sub(shortest.len());
        let mut bytes = self.with_data(part, &vec![0x5a; if part.2 { room / 8 * 8 } else { room }]);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }

    fn with_data(&self, part: Part, data: &[u8]) -> Vec<u8> {
        let Headers { v6, options, before, behind, .. } = self.headers;
        let payload = self.payload(part, data);
        let Part(_, offset, more) = part;
        let is_whole = offset == 0 && !more;
        let packet = if v6 {
            // What stands behind a fragment header is in the first fragment alone; the others say what that begins with.
            let begins = behind.first().map_or(self.protocol, |header| header.0);
            let inner = if offset == 0 { extended(behind, self.protocol, payload).1 } else { payload };
            let (next, inner) = if is_whole {
                (begins, inner)
            } else {
                (FRAGMENT, part6(self.id.into(), begins, (offset, more), &inner))
            };
            let (next, payload) = extended(before, next, inner);
            frames::ipv6(CLIENT6, VIP6, next, 64, &payload)
        } else {
            let flags = if more { 0x2000 } else { 0 };
            numbered(frames::ipv4(CLIENT4, VIP4, self.protocol, options, flags | offset, &payload), self.id)
        };
        frame(&link(self.vlans), v6, &packet)
    }

    /// TCP or UDP, or what follows of it: eight bytes at least, and in units of that where more follow.
    fn payload(&self, Part(_, offset, more): Part, data: &[u8]) -> Vec<u8> {
        if offset != 0 {
            return [&[0xaa; 8], data].concat();
        }
        if self.protocol == TCP {
            // 24 bytes: with one word of options, which fills up a unit.
            let mut segment = frames::tcp(CLIENT_PORT, self.port(), &[&[1; 4], data].concat());
            segment[12] = 0x60;
            return segment;
        }
        let mut datagram = frames::udp(CLIENT_PORT, self.port(), data);
        if more {
            // The length is that of all parts together.
            datagram[4..6].copy_from_slice(&16_000u16.to_be_bytes());
        }
        datagram
    }
}
