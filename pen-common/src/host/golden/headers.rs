//! Headers at the limits of what is followed: options, extension headers, tags, and frames of several buffers.

use super::super::frames::{self, kind};
use super::super::sample::{VIP4, VIP6, port};
use super::{
    CLIENT_PORT, CLIENT4, CLIENT6, DESTINATION, FIRST, Fate, Golden, HOP_BY_HOP, ROUTING, extended, link, to,
};
use crate::service::TCP;
use crate::verdict::{Drop, Pass, Verdict};

/// All of them.
pub(super) fn cases() -> Vec<Golden> {
    [ipv4_options(), ipv6_extensions(), tags(), jumbo()].concat()
}

fn ipv4_options() -> Vec<Golden> {
    let case = |name, about, options: &[u8]| {
        let segment = frames::tcp(CLIENT_PORT, port::WEB, b"hello");
        let packet = frames::ipv4(CLIENT4, VIP4, TCP, options, 0x4000, &segment);
        Golden::new(name, about, link(&[]).frame(kind::IPV4, &packet), to(false, port::WEB, FIRST))
    };
    vec![
        case("ipv4_without_options", "the shortest IPv4 header, of 20 bytes", &[]),
        case("ipv4_router_alert", "one word of options (RFC 2113)", &[0x94, 4, 0, 0]),
        case("ipv4_options_full", "the longest IPv4 header, of 60 bytes", &[1; 40]),
    ]
}

fn ipv6_extensions() -> Vec<Golden> {
    let with = |headers: &[(u8, u8)]| {
        let (next, payload) = extended(headers, TCP, frames::tcp(CLIENT_PORT, port::WEB, b"hello"));
        link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, next, 64, &payload))
    };
    let case = |name, about, headers: &[(u8, u8)]| {
        Golden::new(name, about, with(headers), to(true, port::WEB, FIRST))
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
        Golden::new(
            "ipv6_seven_extensions",
            "one extension header more than is followed: a backend on this host must not get it past an access list",
            with(&seven),
            Fate::Stays(Verdict::Dropped(Drop::Malformed)),
        ),
        Golden::new(
            "ipv6_headers_split",
            "extension headers longer than a first buffer, so that TCP's is in a further one",
            with(&[(DESTINATION, 255), (DESTINATION, 255)]),
            Fate::Stays(Verdict::Passed(Pass::SplitHeaders)),
        ),
    ]
}

fn tags() -> Vec<Golden> {
    let with = |vlans: &[u16]| {
        let segment = frames::tcp(CLIENT_PORT, port::DOUBLE_VLAN, b"hello");
        link(vlans).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x4000, &segment))
    };
    let customers_only = |mut frame: Vec<u8>| {
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        frame
    };
    let there = to(false, port::DOUBLE_VLAN, FIRST);
    let not_ip = Fate::Stays(Verdict::Passed(Pass::NotIp));
    let (one, other) = ("a service tag (0x88a8) around a customer's (0x8100)", "two customer tags (0x8100)");
    vec![
        Golden::new("qinq_802_1ad", one, with(&[6, 5]), there),
        Golden::new("qinq_802_1q_twice", other, customers_only(with(&[6, 5])), there),
        Golden::new("three_tags", "one tag too many: not seen as IP", with(&[6, 5, 4]), not_ip),
    ]
}

fn jumbo() -> Vec<Golden> {
    let segment = frames::tcp(CLIENT_PORT, port::WEB, &[0x5a; 8960]);
    let packet = frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x4000, &segment);
    let mut cut = link(&[]).frame(kind::IPV4, &packet);
    cut.truncate(8000);
    vec![Golden::new(
        "jumbo_cut_short",
        "longer by its own account than all its buffers together",
        cut,
        Fate::Stays(Verdict::Dropped(Drop::Malformed)),
    )]
}
