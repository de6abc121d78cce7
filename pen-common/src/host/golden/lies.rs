//! Headers that lie: to a VIP they are malformed, whatever is around them; of other hosts' packets they are nobody's business.

use super::super::frames;
use super::super::sample::{VIP4, VIP6};
use super::{
    CLIENT_PORT, CLIENT4, CLIENT6, DESTINATION, FIRST, FRAGMENT, Fate, Golden, HOP_BY_HOP, ROUTING,
    STRANGER4, STRANGER6, TAGS, extended, frame, link, tcp_port, to, udp_port,
};
use crate::service::{TCP, UDP};
use crate::verdict::{Drop, Pass, Verdict};

/// Bytes that are set in a packet: what that says, where, and to what.
type Lie = (&'static str, usize, &'static [u8]);

/// Of the IPv4 header, which has 20 bytes and 56 behind it.
const V4: [Lie; 7] = [
    ("version", 0, &[0x65]),
    ("header_of_16_bytes", 0, &[0x44]),
    ("total_length_beyond_frame", 2, &[0, 77]),
    ("total_length_65535", 2, &[0xff, 0xff]),
    ("total_length_0", 2, &[0, 0]),
    ("total_length_within_header", 2, &[0, 19]),
    ("total_length_within_transport", 2, &[0, 27]),
];

/// Of the IPv6 header, which has 40 bytes and 56 behind it.
const V6: [Lie; 5] = [
    ("version", 0, &[0x40]),
    ("payload_length_beyond_frame", 4, &[0, 57]),
    ("payload_length_65535", 4, &[0xff, 0xff]),
    ("payload_length_0", 4, &[0, 0]),
    ("payload_length_within_transport", 4, &[0, 7]),
];

/// Of the TCP header.
const TCP_LIES: [Lie; 3] = [
    ("tcp_offset_0", 12, &[0]),
    ("tcp_offset_within_header", 12, &[0x40]),
    ("tcp_offset_beyond_packet", 12, &[0xf0]),
];

/// Of the UDP header.
const UDP_LIES: [Lie; 4] = [
    ("udp_length_0", 4, &[0, 0]),
    ("udp_length_within_header", 4, &[0, 7]),
    ("udp_length_beyond_packet", 4, &[0, 57]),
    ("udp_length_65535", 4, &[0xff, 0xff]),
];

/// All of them.
pub(super) fn cases() -> Vec<Golden> {
    let mut cases = Vec::new();
    for (name, vlans) in TAGS {
        for protocol in [TCP, UDP] {
            for v6 in [false, true] {
                let packet = Packet { v6, vlans, protocol, to_vip: true };
                let family = if v6 { "v6" } else { "v4" };
                let transport = if protocol == TCP { "tcp" } else { "udp" };
                let of_ip: &[Lie] = if v6 { &V6 } else { &V4 };
                let of_transport: &[Lie] = if protocol == TCP { &TCP_LIES } else { &UDP_LIES };
                let header = if v6 { 40 } else { 20 };
                let behind = of_transport.iter().map(|&(lie, at, bytes)| (lie, header + at, bytes));
                for lie in of_ip.iter().copied().chain(behind) {
                    cases.extend(packet.cases(&format!("{family}{name}_{transport}"), lie));
                }
            }
        }
        cases.extend(extensions(name, vlans));
    }
    cases.extend(padded());
    cases
}

/// A packet of 56 bytes behind its IP header.
#[derive(Clone, Copy)]
struct Packet {
    v6: bool,
    vlans: &'static [u16],
    protocol: u8,
    to_vip: bool,
}

impl Packet {
    /// With a lie, to a VIP and to another host.
    fn cases(self, name: &str, (lie, at, bytes): Lie) -> [Golden; 2] {
        let lying = |packet: Self| {
            let mut packet = packet.bytes();
            packet[at..at + bytes.len()].copy_from_slice(bytes);
            frame(&link(self.vlans), self.v6, &packet)
        };
        [
            Golden::new(format!("{name}_lie_{lie}"), "to a VIP", lying(self), MALFORMED),
            Golden::new(
                format!("{name}_lie_{lie}_of_a_stranger"),
                "to another host",
                lying(Self { to_vip: false, ..self }),
                STRANGER,
            ),
        ]
    }

    fn bytes(self) -> Vec<u8> {
        let transport = if self.protocol == TCP {
            frames::tcp(CLIENT_PORT, tcp_port(self.vlans), &[0x5a; 36])
        } else {
            frames::udp(CLIENT_PORT, udp_port(self.vlans), &[0x5a; 48])
        };
        if self.v6 {
            let to = if self.to_vip { VIP6 } else { STRANGER6 };
            frames::ipv6(CLIENT6, to, self.protocol, 64, &transport)
        } else {
            let to = if self.to_vip { VIP4 } else { STRANGER4 };
            frames::ipv4(CLIENT4, to, self.protocol, &[], 0x4000, &transport)
        }
    }
}

const MALFORMED: Fate = Fate::Stays(Verdict::Dropped(Drop::Malformed));
const STRANGER: Fate = Fate::Stays(Verdict::Passed(Pass::NoService));

/// IPv4 options and IPv6 extension headers that reach beyond the packet, and one that is cut off.
fn extensions(name: &str, vlans: &[u16]) -> Vec<Golden> {
    let with = |header: u8, length: u8| {
        let (next, mut payload) =
            extended(&[(header, 1)], TCP, frames::tcp(CLIENT_PORT, tcp_port(vlans), b""));
        payload[1] = length;
        frame(&link(vlans), true, &frames::ipv6(CLIENT6, VIP6, next, 64, &payload))
    };
    let case = |lie: &str, bytes| Golden::new(format!("{lie}{name}"), "to a VIP", bytes, MALFORMED);
    let cut = |header, length| {
        let packet = frames::ipv6(CLIENT6, VIP6, header, 64, &[TCP, 0, 0, 0, 0, 0, 0, 0][..length]);
        frame(&link(vlans), true, &packet)
    };
    let segment = frames::tcp(CLIENT_PORT, tcp_port(vlans), b"");
    let mut options = frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x4000, &segment);
    options[0] = 0x4f;
    vec![
        case("v4_lie_header_of_60_bytes", frame(&link(vlans), false, &options)),
        case("v6_hop_lie_length", with(HOP_BY_HOP, 3)),
        case("v6_routing_lie_length", with(ROUTING, 255)),
        case("v6_destination_lie_length", with(DESTINATION, 4)),
        case("v6_hop_cut_off", cut(HOP_BY_HOP, 1)),
        case("v6_routing_within_its_length", cut(ROUTING, 7)),
        case("v6_fragment_cut_off", cut(FRAGMENT, 4)),
        case("v6_destination_and_no_more", cut(DESTINATION, 8)),
    ]
}

/// A frame may be longer than its packet, by any bytes: they are padding.
fn padded() -> Vec<Golden> {
    let mut cases = Vec::new();
    for (name, vlans) in TAGS {
        for v6 in [false, true] {
            let packet = Packet { v6, vlans, protocol: TCP, to_vip: true }.bytes();
            let bytes = [frame(&link(vlans), v6, &packet), vec![0x77; 33]].concat();
            let family = if v6 { "v6" } else { "v4" };
            let fate = to(v6, tcp_port(vlans), FIRST);
            cases.push(Golden::new(format!("{family}{name}_padded"), "33 bytes of padding", bytes, fate));
        }
    }
    cases
}
