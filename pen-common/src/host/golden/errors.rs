//! ICMP and ICMPv6 errors: they go to the backend whose flow they quote, however that is wrapped, and how little of it there is.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::super::frames;
use super::super::sample::{VIP4, VIP6, port};
use super::{
    CLIENT_PORT, CLIENT4, CLIENT6, DESTINATION, FIRST, FRAGMENT, Fate, Golden, HOP_BY_HOP, ROUTING,
    STRANGER4, STRANGER6, TAGS, extended, flows, frame, link, part6, tcp_port, to, udp_port,
};
use crate::parse::{ICMP, ICMPV6};
use crate::service::{TCP, UDP};
use crate::verdict::{Drop, Pass, Verdict};

/// A router on the way to the client, which complains.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
/// Types of errors (RFC 792; RFC 4443, 3), and codes: fragmentation needed among them.
const KINDS4: [(u8, u8); 4] = [(3, 1), (3, 4), (11, 0), (12, 0)];
const KINDS6: [(u8, u8); 4] = [(1, 4), (2, 0), (3, 0), (4, 1)];

/// All of them.
pub(super) fn cases() -> Vec<Golden> {
    let both = |cases: fn(bool) -> Vec<Golden>| [cases(false), cases(true)].concat();
    [both(wrapped), both(fates), both(strange)].concat()
}

/// An error, and what it quotes.
#[derive(Clone)]
struct Error {
    v6: bool,
    vlans: &'static [u16],
    /// Type and code.
    kind: (u8, u8),
    /// To another host than the VIP.
    to_stranger: bool,
    /// IPv4 options, or extension headers, around the error, and around what is quoted.
    outer: bool,
    inner: bool,
    /// What is quoted: who sent it, as the VIP did or another host, what, and from which port.
    of_stranger: bool,
    protocol: u8,
    port: u16,
    /// Offset and whether more follow, of a fragment.
    part: Option<(u16, bool)>,
    /// How many bytes there are of it behind its IP headers, and of all of it.
    kept: usize,
    quoted: usize,
}

impl Error {
    fn new(v6: bool, protocol: u8, port: u16) -> Self {
        Self {
            v6,
            vlans: &[],
            kind: if v6 { KINDS6[1] } else { KINDS4[1] },
            to_stranger: false,
            outer: false,
            inner: false,
            of_stranger: false,
            protocol,
            port,
            part: None,
            kept: 8,
            quoted: usize::MAX,
        }
    }

    /// The start of what was sent, as it was sent: longer, by its own account, than what is left of it.
    fn sent(&self) -> Vec<u8> {
        let mut sent = match self.protocol {
            TCP => frames::tcp(self.port, CLIENT_PORT, &[0x5a; 1440]),
            _ => frames::udp(self.port, CLIENT_PORT, &[0x5a; 1452]),
        };
        let mut packet = if self.v6 {
            let (mut next, mut payload) = (self.protocol, sent);
            payload.truncate(self.kept);
            if let Some(part) = self.part {
                (next, payload) = (FRAGMENT, part6(7, next, part, &payload));
            }
            let headers: &[_] = if self.inner { &[(DESTINATION, 2), (ROUTING, 3)] } else { &[] };
            let (next, payload) = extended(headers, next, payload);
            let from = if self.of_stranger { STRANGER6 } else { VIP6 };
            let mut packet = frames::ipv6(from, CLIENT6, next, 61, &payload);
            packet[4..6].copy_from_slice(&1460u16.to_be_bytes());
            packet
        } else {
            sent.truncate(self.kept);
            let from = if self.of_stranger { STRANGER4 } else { VIP4 };
            let options: &[u8] = if self.inner { &[0x94, 4, 0, 0, 1, 1, 1, 1] } else { &[] };
            let (offset, more) = self.part.unwrap_or_default();
            let flags = if more { 0x2000 } else { 0 } | offset;
            let mut packet = frames::ipv4(from, CLIENT4, self.protocol, options, flags, &sent);
            packet[2..4].copy_from_slice(&1500u16.to_be_bytes());
            packet
        };
        packet.truncate(self.quoted);
        packet
    }

    fn frame(&self) -> Vec<u8> {
        let (kind, code) = self.kind;
        let rest = [0, 0, 5, 0x78];
        let packet = if self.v6 {
            let to = if self.to_stranger { STRANGER6 } else { VIP6 };
            let message = frames::icmpv6(ROUTER6, to, kind, code, rest, &self.sent());
            let headers: &[_] = if self.outer { &[(HOP_BY_HOP, 1), (DESTINATION, 2)] } else { &[] };
            let (next, payload) = extended(headers, ICMPV6, message);
            frames::ipv6(ROUTER6, to, next, 60, &payload)
        } else {
            let to = if self.to_stranger { STRANGER4 } else { VIP4 };
            let message = frames::icmp(kind, code, rest, &self.sent());
            let options: &[u8] = if self.outer { &[0x94, 4, 0, 0] } else { &[] };
            frames::ipv4(ROUTER4, to, ICMP, options, 0, &message)
        };
        frame(&link(self.vlans), self.v6, &packet)
    }

    fn case(&self, name: impl AsRef<str>, about: &str, fate: Fate) -> Golden {
        let family = if self.v6 { "v6" } else { "v4" };
        Golden::new(format!("{family}_error_{}", name.as_ref()), about, self.frame(), fate)
    }
}

/// Every type, with all that may be around it and in it.
fn wrapped(v6: bool) -> Vec<Golden> {
    let mut cases = Vec::new();
    for (tags, vlans) in TAGS {
        for protocol in [TCP, UDP] {
            for kind in if v6 { KINDS6 } else { KINDS4 } {
                for (outer, inner, kept) in [
                    (false, false, 8),
                    (true, false, 8),
                    (false, true, 8),
                    (true, true, 8),
                    (false, false, 1000),
                    (true, true, 1000),
                ] {
                    let port = if protocol == TCP { tcp_port(vlans) } else { udp_port(vlans) };
                    let error = Error { vlans, kind, outer, inner, kept, ..Error::new(v6, protocol, port) };
                    let word = |is: bool, word: &'static str| if is { word } else { "" };
                    let name = format!(
                        "{}_{}{tags}{}_quotes_{kept}{}_{}",
                        kind.0,
                        kind.1,
                        word(outer, "_extended"),
                        word(inner, "_extended"),
                        if protocol == TCP { "tcp" } else { "udp" },
                    );
                    cases.push(error.case(name, "to the backend of what is quoted", to(v6, port, FIRST)));
                }
            }
        }
    }
    cases
}

/// What becomes of errors about all kinds of flows.
fn fates(v6: bool) -> Vec<Golden> {
    let listed = ("listed", TCP, port::ALLOWED, to(v6, port::ALLOWED, FIRST));
    let kinds = flows(v6).into_iter().chain([listed]);
    let mut cases: Vec<Golden> = kinds
        .map(|(name, protocol, port, fate)| {
            Error::new(v6, protocol, port).case(name, "about a flow of this kind", fate)
        })
        .collect();
    // After a packet of the very flow, which is remembered.
    let segment = frames::tcp(CLIENT_PORT, port::WEB, b"hello");
    let packet = if v6 {
        frames::ipv6(CLIENT6, VIP6, TCP, 64, &segment)
    } else {
        frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x4000, &segment)
    };
    let tracked = Error::new(v6, TCP, port::WEB).case("tracked", "after the flow", to(v6, port::WEB, FIRST));
    cases.push(tracked.after(frame(&link(&[]), v6, &packet)));
    cases
}

/// Errors that are about none of the VIP's flows, or tell too little of it.
fn strange(v6: bool) -> Vec<Golden> {
    let error = Error::new(v6, TCP, port::WEB);
    let stays = Fate::Stays;
    let other = stays(Verdict::Passed(Pass::NotForUsProtocol));
    let malformed = stays(Verdict::Dropped(Drop::Malformed));
    let without_first = stays(Verdict::Dropped(Drop::FragmentWithoutFirst));
    let stranger = stays(Verdict::Passed(Pass::NoService));
    let header = if v6 { 40 } else { 20 };
    let echo = Error { protocol: if v6 { ICMPV6 } else { ICMP }, ..error.clone() };
    // Redirects (RFC 792) and what ICMPv6 has no meaning for yet (RFC 4443, 2.1).
    let no_error = Error { kind: (5, 0), ..error.clone() };
    let inner = Error { inner: true, ..error.clone() };
    vec![
        Error { to_stranger: true, ..error.clone() }.case(
            "to_a_stranger",
            "of other hosts' errors none is touched",
            stranger,
        ),
        Error { of_stranger: true, ..error.clone() }.case(
            "about_a_stranger",
            "the VIP did not send it",
            other,
        ),
        echo.case("about_icmp", "the VIP's own echo", other),
        no_error.case("type_5", "no error about a flow", other),
        Error { quoted: 0, ..error.clone() }.case("quotes_nothing", "no header", malformed),
        Error { quoted: header - 1, ..error.clone() }.case("quotes_part_of_a_header", "of IP", malformed),
        Error { quoted: header, ..error.clone() }.case("quotes_a_header_alone", "of IP", malformed),
        Error { kept: 7, ..error.clone() }.case("quotes_7_bytes", "one too few of TCP", malformed),
        Error { kept: 3, ..error.clone() }.case("quotes_3_bytes", "not even both ports", malformed),
        Error { quoted: header + 4, ..inner.clone() }.case(
            "quotes_part_of_extensions",
            "or of options",
            malformed,
        ),
        Error { kept: 7, ..inner }.case("quotes_7_bytes_extended", "one too few of TCP", malformed),
        Error { part: Some((0, true)), ..error.clone() }.case(
            "about_a_first_fragment",
            "has the ports",
            to(v6, port::WEB, FIRST),
        ),
        Error { part: Some((9, false)), ..error }.case(
            "about_a_later_fragment",
            "has no ports",
            without_first,
        ),
    ]
}
