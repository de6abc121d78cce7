//! Frames by chance, most of them nearly right: to meet every branch, and to find what nobody thought of.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::frames::{self, Ethernet, kind};
use super::sample::{self, CLIENT_MAC, MASTER_MAC, OTHER_MAC, OWN_MAC, QUIET4, QUIET6, VIP4, VIP6};
use crate::hash::finish;
use crate::parse::{ICMP, ICMPV6};
use crate::service::{TCP, UDP};

/// A source of frames; the same seed makes the same ones.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// One from a seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number (splitmix64).
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finish(self.state)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `often` times.
    pub const fn once_in(&mut self, often: usize) -> bool {
        self.below(often) == 0
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())].clone()
    }

    /// As many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A frame of at least 14 bytes for [`sample::tables`].
    pub fn frame(&mut self) -> Vec<u8> {
        let mut frame = match self.below(16) {
            0 => self.arp(),
            1 => self.solicitation(),
            2 => self.garbage(),
            3..=9 => self.ip4(),
            _ => self.ip6(),
        };
        if self.once_in(10) {
            let at = self.below(frame.len());
            frame[at] ^= 1 << self.below(8);
        }
        if self.once_in(10) {
            let length = 14 + self.below(frame.len() - 13);
            frame.truncate(length);
        }
        if self.once_in(10) {
            let padding = self.below(20);
            frame.extend(self.bytes(padding));
        }
        frame
    }

    fn garbage(&mut self) -> Vec<u8> {
        let length = 14 + self.below(120);
        let mut frame = self.bytes(length);
        frame[..6].copy_from_slice(&OWN_MAC);
        let ethertype = self.pick(&[kind::IPV4, kind::IPV6, kind::ARP, 0x8100, 0x88a8, 0x88cc]);
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame
    }

    fn ethernet(&mut self) -> Ethernet {
        let backend = sample::backend_mac(
            self.below(2 * usize::from(sample::SERVICE_COUNT)) as u16,
            self.below(3) as u16,
        );
        let from = if self.once_in(8) { backend } else { CLIENT_MAC };
        let to = if self.once_in(20) {
            self.pick(&[OTHER_MAC, [0xff; 6]])
        } else {
            self.pick(&[OWN_MAC, MASTER_MAC])
        };
        let vlans = match self.below(8) {
            0 => vec![self.pick(&[5, 0x6005, 0, 6])],
            1 => vec![self.pick(&[6, 0xe006, 0, 5]), self.pick(&[5, 0x1005, 0])],
            2 if self.once_in(4) => vec![6, 5, 4],
            _ => vec![],
        };
        Ethernet { to, from, vlans }
    }

    fn port(&mut self) -> u16 {
        let ports: Vec<u16> = sample::ports().collect();
        if self.once_in(3) { self.pick(&[80, 53, 8080]) } else { self.pick(&ports) }
    }

    /// TCP, UDP, ICMP or something else, with a header that lies now and then.
    fn transport(&mut self, icmp: u8, message: &[u8]) -> (u8, Vec<u8>) {
        let (from, to) = (1024 + self.below(3) as u16, self.port());
        let room = self.below(32);
        let data = self.bytes(room);
        let (protocol, mut payload) = match self.below(10) {
            0 | 1 => (icmp, message.to_vec()),
            2 => (self.next() as u8, data),
            _ if sample::is_tcp(to) != self.once_in(6) => (TCP, frames::tcp(from, to, &data)),
            _ => (UDP, frames::udp(from, to, &data)),
        };
        if protocol == TCP && payload.len() > 13 && self.once_in(3) {
            // Control bits of a flow that goes on, or ends.
            payload[13] = self.pick(&[0x10, 0x12, 0x18, 0x04, 0x11, 0xc2]);
        }
        if self.once_in(12) && payload.len() > 13 {
            payload[self.pick(&[4, 5, 12])] = self.next() as u8;
        }
        if self.once_in(12) {
            let keep = self.below(payload.len() + 1);
            payload.truncate(keep);
        }
        (protocol, payload)
    }

    /// What a service sent and an error quotes, from its ports on: eight bytes of it, or more, or too few.
    fn quoted_transport(&mut self) -> (u8, Vec<u8>) {
        let (from, to) = (self.port(), 1024 + self.below(3) as u16);
        let (protocol, mut sent) = match sample::is_tcp(from) != self.once_in(8) {
            true => (TCP, frames::tcp(from, to, b"served")),
            false => (UDP, frames::udp(from, to, b"served")),
        };
        let keep = if self.once_in(8) { self.below(8) } else { 8 };
        if !self.once_in(3) {
            sent.truncate(keep);
        }
        (if self.once_in(10) { self.pick(&[ICMP, ICMPV6, 47]) } else { protocol }, sent)
    }

    fn ip4(&mut self) -> Vec<u8> {
        let from = self.client4();
        let to = if self.once_in(8) { self.pick(&[QUIET4, Ipv4Addr::new(10, 9, 9, 9)]) } else { VIP4 };
        let message = if self.once_in(2) { self.error4() } else { self.message4() };
        let (protocol, payload) = self.transport(ICMP, &message);
        let (options, fragment) = (self.options(), self.fragment4(12));
        let mut packet = frames::ipv4(from, to, protocol, &options, fragment, &payload);
        // Few numbers, so that many later fragments are of a datagram whose first one was seen.
        packet[5] = self.below(2) as u8;
        if self.once_in(12) {
            let at = self.pick(&[0, 2, 3, 9]);
            packet[at] = self.next() as u8;
        }
        self.ethernet().frame(kind::IPV4, &packet)
    }

    fn client4(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(0xc000_0200 + self.below(48) as u32)
    }

    fn options(&mut self) -> Vec<u8> {
        let length = if self.once_in(6) { self.below(41) } else { 0 };
        self.bytes(length)
    }

    /// Flags and offset, of a fragment twice in so many times.
    fn fragment4(&mut self, often: usize) -> u16 {
        match self.below(often) {
            0 => 0x2000,
            1 => self.pick(&[1, 0x2001, 0x1fff, 0x00b9]),
            _ => 0x4000,
        }
    }

    /// An echo, or another message that is no error.
    fn message4(&mut self) -> Vec<u8> {
        let length = self.below(40);
        let (kind, data) = (self.pick(&[8, 8, 8, 0, 13]), self.bytes(length));
        let rest = (self.next() as u32).to_be_bytes();
        frames::icmp(kind, u8::from(self.once_in(8)), rest, &data)
    }

    /// An error about what a VIP sent to a client, for the most part.
    fn error4(&mut self) -> Vec<u8> {
        let (protocol, sent) = self.quoted_transport();
        let source = if self.once_in(10) { self.pick(&[QUIET4, Ipv4Addr::new(10, 9, 9, 9)]) } else { VIP4 };
        let (client, options, fragment) = (self.client4(), self.options(), self.fragment4(24));
        let mut quoted = frames::ipv4(source, client, protocol, &options, fragment, &sent);
        if self.once_in(16) {
            quoted[0] = self.next() as u8;
        }
        let kind = self.pick(&[3, 3, 3, 11, 12, 4]);
        frames::icmp(kind, self.below(5) as u8, [0, 0, 5, 0x78], &quoted)
    }

    fn ip6(&mut self) -> Vec<u8> {
        let from = self.client6();
        let strangers = [QUIET6, Ipv4Addr::new(10, 0, 0, 100).to_ipv6_mapped(), Ipv6Addr::LOCALHOST];
        let to = if self.once_in(8) { self.pick(&strangers) } else { VIP6 };
        let message = if self.once_in(2) { self.error6(from, to) } else { self.message6(from, to) };
        let (next, payload) = self.transport(ICMPV6, &message);
        let (next, payload) = self.extensions(next, payload);
        let mut packet = frames::ipv6(from, to, next, 64, &payload);
        if self.once_in(12) {
            let at = self.pick(&[0, 4, 5, 6]);
            packet[at] = self.next() as u8;
        }
        self.ethernet().frame(kind::IPV6, &packet)
    }

    fn client6(&mut self) -> Ipv6Addr {
        Ipv6Addr::from((0x2001_0db8_0001 << 80) + self.below(48) as u128)
    }

    /// Extension headers before a payload, none for the most part.
    fn extensions(&mut self, mut next: u8, mut payload: Vec<u8>) -> (u8, Vec<u8>) {
        while self.once_in(4) {
            (next, payload) = if self.once_in(4) {
                let offset = if self.once_in(2) { self.below(4) as u16 } else { 0 };
                let more = self.once_in(2);
                let mut fragment = frames::fragment_header(next, offset, more, &payload);
                // Few numbers, as with IPv4.
                fragment[7] = self.below(2) as u8;
                (44, fragment)
            } else {
                let words = 1 + self.below(3) as u8;
                (self.pick(&[0, 43, 60]), frames::extension(next, words, &payload))
            };
            if self.once_in(12) {
                payload[1] = self.next() as u8;
            }
        }
        (next, payload)
    }

    /// As [`Random::message4`].
    fn message6(&mut self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let length = self.below(40);
        let (kind, data) = (self.pick(&[128, 128, 128, 129, 135]), self.bytes(length));
        let rest = (self.next() as u32).to_be_bytes();
        frames::icmpv6(from, to, kind, u8::from(self.once_in(8)), rest, &data)
    }

    /// As [`Random::error4`].
    fn error6(&mut self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let (protocol, sent) = self.quoted_transport();
        let source = if self.once_in(10) { self.pick(&[QUIET6, Ipv6Addr::LOCALHOST]) } else { VIP6 };
        let (next, sent) = self.extensions(protocol, sent);
        let mut quoted = frames::ipv6(source, self.client6(), next, 64, &sent);
        if self.once_in(16) {
            quoted[0] = self.next() as u8;
        }
        let kind = self.pick(&[1, 2, 2, 3, 4, 5]);
        frames::icmpv6(from, to, kind, self.below(5) as u8, [0, 0, 5, 0], &quoted)
    }

    fn arp(&mut self) -> Vec<u8> {
        let from = self.pick(&[Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::UNSPECIFIED, VIP4]);
        let target = self.pick(&[VIP4, VIP4, QUIET4, Ipv4Addr::new(10, 0, 0, 9)]);
        let operation = self.pick(&[1, 1, 1, 2]);
        let packet = frames::arp(operation, CLIENT_MAC, from, [0; 6], target);
        let to = self.pick(&[[0xff; 6], [0xff; 6], OWN_MAC, OTHER_MAC]);
        Ethernet { to, ..self.ethernet() }.frame(kind::ARP, &packet)
    }

    fn solicitation(&mut self) -> Vec<u8> {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x100);
        let from = self.pick(&["fe80::1".parse().unwrap_or(VIP6), Ipv6Addr::UNSPECIFIED]);
        let target = self.pick(&[VIP6, VIP6, VIP6, QUIET6]);
        let to = self.pick(&[group, group, target]);
        let mac = if self.once_in(3) { None } else { Some(CLIENT_MAC) };
        let packet = frames::solicitation(from, to, target, mac);
        let to = self.pick(&[[0x33, 0x33, 0xff, 0, 1, 0], OWN_MAC, [0x33, 0x33, 0, 0, 0, 1]]);
        Ethernet { to, ..self.ethernet() }.frame(kind::IPV6, &packet)
    }
}
