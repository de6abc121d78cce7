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
        let backend = sample::backend_mac(self.below(34) as u16, self.below(3) as u16);
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
    fn transport(&mut self, icmp: u8, echo: &[u8]) -> (u8, Vec<u8>) {
        let (from, to) = (1024 + self.below(3) as u16, self.port());
        let room = self.below(32);
        let data = self.bytes(room);
        let (protocol, mut payload) = match self.below(10) {
            0 => (icmp, echo.to_vec()),
            1 => (self.next() as u8, data),
            2..=4 => (UDP, frames::udp(from, to, &data)),
            _ => (TCP, frames::tcp(from, to, &data)),
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

    fn ip4(&mut self) -> Vec<u8> {
        let from = Ipv4Addr::from(0xc000_0200 + self.below(48) as u32);
        let to = if self.once_in(8) { self.pick(&[QUIET4, Ipv4Addr::new(10, 9, 9, 9)]) } else { VIP4 };
        let length = self.below(40);
        let (kind, data) = (self.pick(&[8, 8, 8, 0, 3, 13]), self.bytes(length));
        let rest = (self.next() as u32).to_be_bytes();
        let echo = frames::icmp(kind, u8::from(self.once_in(8)), rest, &data);
        let (protocol, payload) = self.transport(ICMP, &echo);
        let length = if self.once_in(6) { self.below(41) } else { 0 };
        let options = self.bytes(length);
        let fragment = match self.below(12) {
            0 => 0x2000,
            1 => self.pick(&[1, 0x2001, 0x1fff, 0x00b9]),
            _ => 0x4000,
        };
        let mut packet = frames::ipv4(from, to, protocol, &options, fragment, &payload);
        if self.once_in(12) {
            let at = self.pick(&[0, 2, 3, 9]);
            packet[at] = self.next() as u8;
        }
        self.ethernet().frame(kind::IPV4, &packet)
    }

    fn ip6(&mut self) -> Vec<u8> {
        let from = Ipv6Addr::from((0x2001_0db8_0001 << 80) + self.below(48) as u128);
        let strangers = [QUIET6, Ipv4Addr::new(10, 0, 0, 100).to_ipv6_mapped(), Ipv6Addr::LOCALHOST];
        let to = if self.once_in(8) { self.pick(&strangers) } else { VIP6 };
        let length = self.below(40);
        let (kind, data) = (self.pick(&[128, 128, 128, 129, 1, 135]), self.bytes(length));
        let rest = (self.next() as u32).to_be_bytes();
        let echo = frames::icmpv6(from, to, kind, u8::from(self.once_in(8)), rest, &data);
        let (mut next, mut payload) = self.transport(ICMPV6, &echo);
        while self.once_in(4) {
            (next, payload) = if self.once_in(4) {
                let offset = if self.once_in(2) { self.below(4) as u16 } else { 0 };
                let more = self.once_in(2);
                (44, frames::fragment_header(next, offset, more, &payload))
            } else {
                let words = 1 + self.below(3) as u8;
                (self.pick(&[0, 43, 60]), frames::extension(next, words, &payload))
            };
            if self.once_in(12) {
                payload[1] = self.next() as u8;
            }
        }
        let mut packet = frames::ipv6(from, to, next, 64, &payload);
        if self.once_in(12) {
            let at = self.pick(&[0, 4, 5, 6]);
            packet[at] = self.next() as u8;
        }
        self.ethernet().frame(kind::IPV6, &packet)
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
