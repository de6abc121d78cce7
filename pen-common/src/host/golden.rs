//! Golden frames: headers that few packets have, each under a name, with what becomes of it in the [`sample`] world. The
//! host's tests and the parity test run the same ones.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::frames::{self, Ethernet, kind};
use super::sample::{self, CLIENT_MAC, OWN_MAC, VIP4, VIP6, port};
use super::{Frame, HostTables, SplitFrame};
use crate::pipeline;
use crate::service::TCP;
use crate::verdict::{Egress, Pass, Verdict};

/// Bytes in a frame's first buffer: what a page leaves beside headroom and footer is more, in the kernel's test runs and in
/// veth's and generic mode's copies.
pub const FIRST_BUFFER: usize = 3000;

const CLIENT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// Numbers of extension headers (RFC 8200, 4.3, 4.4 and 4.6).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// A frame that comes in by [`sample::INGRESS`], and what becomes of it.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The frame.
    pub frame: Vec<u8>,
    /// What must become of it.
    pub fate: Fate,
}

/// What must become of a golden frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to a service's backend of this number, from our MAC; all after the MACs is as it was.
    To {
        /// Index of the service.
        service: u16,
        /// Number of its backend: that of the same packet without these headers.
        number: u16,
    },
    /// It comes to this verdict, unchanged.
    Stays(Verdict),
}

impl Golden {
    /// Runs it on the host; an error says what came out instead.
    ///
    /// # Errors
    /// Another verdict, or other bytes.
    pub fn check(&self, tables: &HostTables) -> Result<Verdict, String> {
        let first = self.frame.len().min(FIRST_BUFFER);
        let mut split = SplitFrame { frame: Frame(self.frame.clone()), first };
        let verdict = pipeline::run(&mut split, tables, sample::INGRESS);
        let (expected, out) = self.expected(tables);
        match verdict == expected && split.frame.0 == out {
            true => Ok(verdict),
            false => Err(format!("{} ({}): {verdict:?} rather than {expected:?}", self.name, self.about)),
        }
    }

    /// The verdict and the bytes that must come out.
    pub fn expected(&self, tables: &HostTables) -> (Verdict, Vec<u8>) {
        match self.fate {
            Fate::Stays(verdict) => (verdict, self.frame.clone()),
            Fate::To { service, number } => {
                let first = tables.backends.iter().position(|backend| backend.service == service);
                let backend = first.unwrap_or_default() as u16 + number;
                let macs = [sample::backend_mac(service, number), OWN_MAC].concat();
                let out = [&macs, &self.frame[12..]].concat();
                (Verdict::Forwarded { backend, egress: Egress::Same }, out)
            }
        }
    }
}

/// All of them.
pub fn frames() -> Vec<Golden> {
    [ipv4_options(), ipv6_extensions(), tags(), jumbo()].concat()
}

fn link(vlans: &[u16]) -> Ethernet {
    Ethernet { to: OWN_MAC, from: CLIENT_MAC, vlans: vlans.to_vec() }
}

fn to(v6: bool, port: u16, number: u16) -> Fate {
    Fate::To { service: sample::service_index(v6, port), number }
}

fn ipv4_options() -> Vec<Golden> {
    let with = |options: &[u8]| {
        let segment = frames::tcp(40_000, port::WEB, b"hello");
        link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, TCP, options, 0x4000, &segment))
    };
    let case = |name, about, options: &[u8]| Golden {
        name,
        about,
        frame: with(options),
        fate: to(false, port::WEB, FIRST),
    };
    vec![
        case("ipv4_without_options", "the shortest IPv4 header, of 20 bytes", &[]),
        case("ipv4_router_alert", "one word of options (RFC 2113)", &[0x94, 4, 0, 0]),
        case("ipv4_options_full", "the longest IPv4 header, of 60 bytes", &[1; 40]),
    ]
}

fn ipv6_extensions() -> Vec<Golden> {
    // From the inside out: the last one named stands first in the frame.
    let with = |headers: &[(u8, u8)]| {
        let (mut next, mut payload) = (TCP, frames::tcp(40_000, port::WEB, b"hello"));
        for &(header, words) in headers.iter().rev() {
            payload = frames::extension(next, words, &payload);
            next = header;
        }
        link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, next, 64, &payload))
    };
    let case = |name, about, headers: &[(u8, u8)]| Golden {
        name,
        about,
        frame: with(headers),
        fate: to(true, port::WEB, FIRST),
    };
    let six =
        [(HOP_BY_HOP, 1), (DESTINATION, 2), (ROUTING, 3), (DESTINATION, 1), (ROUTING, 1), (DESTINATION, 4)];
    let seven = [&six[..], &[(DESTINATION, 1)]].concat();
    vec![
        case("ipv6_without_extensions", "TCP right after the IPv6 header", &[]),
        case("ipv6_hop_by_hop", "hop-by-hop options (RFC 8200, 4.3)", &[(HOP_BY_HOP, 1)]),
        case("ipv6_routing", "a routing header with one address (RFC 8200, 4.4)", &[(ROUTING, 3)]),
        case("ipv6_destination", "destination options (RFC 8200, 4.6)", &[(DESTINATION, 2)]),
        case("ipv6_six_extensions", "as many extension headers as are followed", &six),
        Golden {
            name: "ipv6_seven_extensions",
            about: "one extension header too many: of no protocol that pen knows",
            frame: with(&seven),
            fate: Fate::Stays(Verdict::Passed(Pass::NotForUsProtocol)),
        },
        Golden {
            name: "ipv6_headers_split",
            about: "extension headers longer than a first buffer, so that TCP's is in a further one",
            frame: with(&[(DESTINATION, 255), (DESTINATION, 255)]),
            fate: Fate::Stays(Verdict::Passed(Pass::SplitHeaders)),
        },
    ]
}

fn tags() -> Vec<Golden> {
    let with = |vlans: &[u16]| {
        let segment = frames::tcp(40_000, port::DOUBLE_VLAN, b"hello");
        link(vlans).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x4000, &segment))
    };
    let customers_only = |mut frame: Vec<u8>| {
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        frame
    };
    vec![
        Golden {
            name: "qinq_802_1ad",
            about: "a service tag (0x88a8) around a customer's (0x8100)",
            frame: with(&[6, 5]),
            fate: to(false, port::DOUBLE_VLAN, FIRST),
        },
        Golden {
            name: "qinq_802_1q_twice",
            about: "two customer tags (0x8100), as older switches nest them",
            frame: customers_only(with(&[6, 5])),
            fate: to(false, port::DOUBLE_VLAN, FIRST),
        },
        Golden {
            name: "three_tags",
            about: "one tag too many: not seen as IP",
            frame: with(&[6, 5, 4]),
            fate: Fate::Stays(Verdict::Passed(Pass::NotIp)),
        },
    ]
}

fn jumbo() -> Vec<Golden> {
    let segment = frames::tcp(40_000, port::WEB, &[0x5a; 8960]);
    let packet = frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x4000, &segment);
    let mut cut = link(&[]).frame(kind::IPV4, &packet);
    cut.truncate(8000);
    vec![
        Golden {
            name: "jumbo",
            about: "an MTU of 9000: the frame fills several buffers",
            frame: link(&[]).frame(kind::IPV4, &packet),
            fate: to(false, port::WEB, FIRST),
        },
        Golden {
            name: "jumbo_cut_short",
            about: "longer by its own account than all its buffers together",
            frame: cut,
            fate: Fate::Stays(Verdict::Dropped(crate::verdict::Drop::Malformed)),
        },
    ]
}

/// Where the seed of the sample sends both clients: the first backend of a service.
const FIRST: u16 = 0;
