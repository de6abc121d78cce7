//! Fragments that come alone, in another order, or of what does not come to a backend: later ones share what their first
//! one came to.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::super::frames::{self, Ethernet};
use super::super::sample::{QUIET4, QUIET6, VIP4, VIP6, port};
use super::{
    CLIENT_PORT, CLIENT4, CLIENT6, FIRST, FRAGMENT, Fate, Golden, STRANGER4, STRANGER6, flows, frame, link,
    numbered, part6, to,
};
use crate::service::{TCP, UDP};
use crate::verdict::{Drop, Pass, Verdict};

/// All of them.
pub(super) fn cases() -> Vec<Golden> {
    [false, true].into_iter().flat_map(|v6| [alone(v6), together(v6), apart(v6)].concat()).collect()
}

/// A fragment of a datagram with this identification; what the header before it says.
#[derive(Clone)]
struct Fragment {
    link: Ethernet,
    from: (Ipv4Addr, Ipv6Addr),
    to: (Ipv4Addr, Ipv6Addr),
    id: u16,
    protocol: u8,
    offset: u16,
    more: bool,
    payload: Vec<u8>,
}

impl Fragment {
    /// The first one of a datagram to a port.
    fn first(id: u16, protocol: u8, port: u16) -> Self {
        let payload = match protocol {
            TCP => frames::tcp(CLIENT_PORT, port, &[0; 4]),
            _ => frames::udp(CLIENT_PORT, port, &[0; 24]),
        };
        let (from, to) = ((CLIENT4, CLIENT6), (VIP4, VIP6));
        Self { link: link(&[]), from, to, id, protocol, offset: 0, more: true, payload }
    }

    /// The last one of the same datagram.
    fn rest(&self) -> Self {
        Self { offset: 9, more: false, payload: vec![0xaa; 40], ..self.clone() }
    }

    fn frame(&self, v6: bool) -> Vec<u8> {
        let packet = if v6 {
            let part = part6(self.id.into(), self.protocol, (self.offset, self.more), &self.payload);
            frames::ipv6(self.from.1, self.to.1, FRAGMENT, 64, &part)
        } else {
            let fragment = if self.more { 0x2000 } else { 0 } | self.offset;
            let packet = frames::ipv4(self.from.0, self.to.0, self.protocol, &[], fragment, &self.payload);
            numbered(packet, self.id)
        };
        frame(&self.link, v6, &packet)
    }
}

fn family(v6: bool) -> &'static str {
    if v6 { "v6" } else { "v4" }
}

const WITHOUT_FIRST: Fate = Fate::Stays(Verdict::Dropped(Drop::FragmentWithoutFirst));
const STRANGER: Fate = Fate::Stays(Verdict::Passed(Pass::NoService));

/// Without a first one.
fn alone(v6: bool) -> Vec<Golden> {
    let case = |name: &str, about: &str, fragment: &Fragment, fate| {
        Golden::new(format!("{}_fragment_{name}", family(v6)), about, fragment.frame(v6), fate)
    };
    let strangers = Fragment { to: (STRANGER4, STRANGER6), ..Fragment::first(1, UDP, port::DATAGRAMS) };
    let quiet = Fragment { to: (QUIET4, QUIET6), ..Fragment::first(2, UDP, port::DATAGRAMS) };
    let (tcp, udp) = (Fragment::first(3, TCP, port::WEB), Fragment::first(4, UDP, port::DATAGRAMS));
    let farthest = Fragment { offset: 0x1fff, ..udp.rest() };
    let every = to(v6, port::EVERY, FIRST);
    vec![
        case("of_a_stranger_first", "of other hosts' datagrams nothing is dropped", &strangers, STRANGER),
        case("of_a_stranger_last", "nor held back", &strangers.rest(), STRANGER),
        case("to_an_empty_vip", "a VIP without an every-port service", &quiet.rest(), WITHOUT_FIRST),
        case("tcp_alone", "nobody knows its port", &tcp.rest(), WITHOUT_FIRST),
        case("udp_alone", "the every-port service needs none", &udp.rest(), every),
        case(
            "beyond_65535",
            "what ends beyond the longest datagram is for its receiver to refuse",
            &farthest,
            every,
        ),
    ]
}

/// After their first one.
fn together(v6: bool) -> Vec<Golden> {
    let no_egress = ("no_egress", TCP, port::UNATTACHED, Fate::Stays(Verdict::Dropped(Drop::NoEgress)));
    let fates = flows(v6).into_iter().chain([no_egress]);
    let mut cases = Vec::new();
    for (number, (name, protocol, port, fate)) in (0x100..).zip(fates) {
        let first = Fragment::first(number, protocol, port);
        let name = |part| format!("{}_{name}_{part}", family(v6));
        cases.push(Golden::new(name("first"), "a first fragment", first.frame(v6), fate));
        let fate = match fate {
            // What does not come in leaves no trace: of the rest nobody knows the service, and the every-port one takes it.
            Fate::Stays(Verdict::Dropped(Drop::Denied)) => to(v6, port::EVERY, FIRST),
            fate => fate,
        };
        cases.push(Golden::new(name("last"), "and what follows it", first.rest().frame(v6), fate));
    }
    cases
}

/// After that of another datagram.
fn apart(v6: bool) -> Vec<Golden> {
    let first = Fragment::first(0x200, TCP, port::WEB);
    let case = |name: &str, about: &str, fragment: Fragment, fate| {
        let case = Golden::new(format!("{}_fragment_{name}", family(v6)), about, fragment.frame(v6), fate);
        case.after(first.frame(v6))
    };
    let (neighbor4, neighbor6) =
        (Ipv4Addr::new(192, 0, 2, 2), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2));
    let of_udp = Fragment { protocol: UDP, ..first.rest() };
    // With IPv6 the protocol is not part of what identifies a datagram (RFC 8200, 4.5), with IPv4 it is (RFC 791, 3.2).
    let udps = to(v6, if v6 { port::WEB } else { port::EVERY }, FIRST);
    let last = first.rest();
    vec![
        case(
            "of_another_datagram",
            "another identification",
            Fragment { id: 0x201, ..last.clone() },
            WITHOUT_FIRST,
        ),
        case(
            "of_another_client",
            "the same one",
            Fragment { from: (neighbor4, neighbor6), ..last.clone() },
            WITHOUT_FIRST,
        ),
        case("to_another_vip", "the same one", Fragment { to: (QUIET4, QUIET6), ..last }, WITHOUT_FIRST),
        case("of_another_protocol", "the same one", of_udp, udps),
    ]
}
