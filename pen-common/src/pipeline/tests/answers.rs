//! What pen answers itself: ARP, neighbor solicitations, echo.

use super::*;
use crate::host::frames::{arp, icmp, icmpv6, ipv4, ipv6, solicitation};
use crate::parse::{ICMP, ICMPV6};
use crate::verdict::Answer;

const BROADCAST: [u8; 6] = [0xff; 6];
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ASKER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x100);
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0xff, 0, 1, 0];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

fn to(mac: [u8; 6], vlans: &[u16]) -> Ethernet {
    Ethernet { to: mac, ..link(vlans) }
}

/// What pen sends back: from the interface's MAC (its bridge's, where it has one).
fn back(mac: [u8; 6], vlans: &[u16]) -> Ethernet {
    Ethernet { to: mac, from: MASTER_MAC, vlans: vlans.to_vec() }
}

fn assert_answered(what: &str, input: &[u8], answer: Answer, output: &[u8]) {
    let (verdict, out) = run(world_once(), input);
    assert_eq!(verdict, Verdict::Answered(answer), "{what}");
    assert_eq!(out, output, "{what}");
}

#[test]
fn arp_requests_for_an_announced_vip_are_answered() {
    let request = |from, target| arp(1, CLIENT_MAC, from, [0; 6], target);
    let reply = |to| arp(2, MASTER_MAC, VIP4, CLIENT_MAC, to);
    for vlans in [&[][..], &[5], &[6, 5]] {
        for mac in [BROADCAST, OWN_MAC, MASTER_MAC] {
            assert_answered(
                "request",
                &to(mac, vlans).frame(kind::ARP, &request(ASKER, VIP4)),
                Answer::Arp,
                &back(CLIENT_MAC, vlans).frame(kind::ARP, &reply(ASKER)),
            );
        }
    }
    let probe = request(Ipv4Addr::UNSPECIFIED, VIP4);
    assert_answered(
        "probe: is this address free?",
        &to(BROADCAST, &[]).frame(kind::ARP, &probe),
        Answer::Arp,
        &back(CLIENT_MAC, &[]).frame(kind::ARP, &reply(Ipv4Addr::UNSPECIFIED)),
    );
}

#[test]
fn other_arp_is_left_to_the_local_stack() {
    let frame = |mac, packet: &[u8]| to(mac, &[]).frame(kind::ARP, packet);
    let request = |from, target| arp(1, CLIENT_MAC, from, [0; 6], target);
    let (not_ip, elsewhere) = (Verdict::Passed(Pass::NotIp), Verdict::Passed(Pass::NotAddressedToUs));
    assert_unchanged("for a stranger", &frame(BROADCAST, &request(ASKER, CLIENT4)), not_ip);
    assert_unchanged("for a VIP not announced", &frame(BROADCAST, &request(ASKER, QUIET4)), not_ip);
    assert_unchanged("gratuitous", &frame(BROADCAST, &request(VIP4, VIP4)), not_ip);
    let reply = arp(2, CLIENT_MAC, ASKER, OWN_MAC, VIP4);
    assert_unchanged("a reply", &frame(OWN_MAC, &reply), not_ip);
    assert_unchanged("to somebody else", &frame(CLIENT_MAC, &request(ASKER, VIP4)), elsewhere);
    let mut tables = world();
    let half = &mut tables.directory.halves[0];
    for interface in &mut half.interfaces {
        interface.word &= crate::abi::MAC_MASK;
    }
    let (verdict, _) = run(&tables, &frame(BROADCAST, &request(ASKER, VIP4)));
    assert_eq!(verdict, not_ip, "an interface that does not announce");
}

fn advertisement(to: Ipv6Addr, flags: u8) -> Vec<u8> {
    let mut data = VIP6.octets().to_vec();
    data.extend([2, 1]);
    data.extend(MASTER_MAC);
    let message = icmpv6(VIP6, to, 136, 0, [flags, 0, 0, 0], &data);
    ipv6(VIP6, to, ICMPV6, 255, &message)
}

#[test]
fn solicitations_for_an_announced_vip_are_answered() {
    let cases = [
        ("multicast, with the asker's MAC", GROUP_MAC, GROUP, Some(CLIENT_MAC)),
        ("multicast, without", GROUP_MAC, GROUP, None),
        ("unicast, with", OWN_MAC, VIP6, Some(CLIENT_MAC)),
        ("unicast, without: is it still there?", MASTER_MAC, VIP6, None),
    ];
    for (what, mac, destination, option) in cases {
        for vlans in [&[][..], &[5], &[6, 5]] {
            let asked = solicitation(ASKER6, destination, VIP6, option);
            assert_answered(
                what,
                &to(mac, vlans).frame(kind::IPV6, &asked),
                Answer::Ndp,
                &back(CLIENT_MAC, vlans).frame(kind::IPV6, &advertisement(ASKER6, 0x60)),
            );
        }
    }
}

#[test]
fn an_answer_is_shorter_than_a_question_with_more_options() {
    let mut data = VIP6.octets().to_vec();
    data.extend([1, 1]);
    data.extend(CLIENT_MAC);
    data.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    let message = icmpv6(ASKER6, GROUP, 135, 0, [0; 4], &data);
    assert_answered(
        "with a MAC and a nonce",
        &to(GROUP_MAC, &[]).frame(kind::IPV6, &ipv6(ASKER6, GROUP, ICMPV6, 255, &message)),
        Answer::Ndp,
        &back(CLIENT_MAC, &[]).frame(kind::IPV6, &advertisement(ASKER6, 0x60)),
    );
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let asked = solicitation(Ipv6Addr::UNSPECIFIED, GROUP, VIP6, None);
    assert_answered(
        "DAD",
        &to(GROUP_MAC, &[]).frame(kind::IPV6, &asked),
        Answer::Ndp,
        &back(ALL_NODES_MAC, &[]).frame(kind::IPV6, &advertisement(ALL_NODES, 0x20)),
    );
    // RFC 7527 adds a nonce, to recognize one's own question that came back.
    let mut data = VIP6.octets().to_vec();
    data.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    let message = icmpv6(Ipv6Addr::UNSPECIFIED, GROUP, 135, 0, [0; 4], &data);
    assert_answered(
        "DAD with a nonce",
        &to(GROUP_MAC, &[]).frame(kind::IPV6, &ipv6(Ipv6Addr::UNSPECIFIED, GROUP, ICMPV6, 255, &message)),
        Answer::Ndp,
        &back(ALL_NODES_MAC, &[]).frame(kind::IPV6, &advertisement(ALL_NODES, 0x20)),
    );
}

#[test]
fn solicitations_that_are_not_valid_are_not_answered() {
    let good = solicitation(ASKER6, GROUP, VIP6, Some(CLIENT_MAC));
    let elsewhere = Verdict::Passed(Pass::NotAddressedToUs);
    let spoilt = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        to(GROUP_MAC, &[]).frame(kind::IPV6, &packet)
    };
    assert_unchanged("came through a router", &spoilt(7, 254), elsewhere);
    assert_unchanged("of another IP version", &spoilt(0, 0xd0), elsewhere);
    assert_unchanged("wrong checksum", &spoilt(42, good[42] ^ 1), elsewhere);
    assert_unchanged("option of no length", &spoilt(65, 0), elsewhere);
    let frame = |packet: &[u8]| to(GROUP_MAC, &[]).frame(kind::IPV6, packet);
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let strange = solicitation(unspecified, GROUP, VIP6, Some(CLIENT_MAC));
    assert_unchanged("a MAC but no address", &frame(&strange), elsewhere);
    let strange = solicitation(unspecified, VIP6, VIP6, None);
    assert_unchanged("DAD not to the group", &frame(&strange), elsewhere);
    let quiet = solicitation(ASKER6, GROUP, QUIET6, Some(CLIENT_MAC));
    assert_unchanged("for a VIP not announced", &frame(&quiet), elsewhere);
    let stranger = solicitation(ASKER6, GROUP, CLIENT6, Some(CLIENT_MAC));
    assert_unchanged("for a stranger", &frame(&stranger), elsewhere);
    let everyone = solicitation(ALL_NODES, GROUP, VIP6, Some(CLIENT_MAC));
    assert_unchanged("from a group (RFC 4291, 2.7)", &frame(&everyone), elsewhere);
    let mapped = solicitation(ASKER6, GROUP, VIP4.to_ipv6_mapped(), Some(CLIENT_MAC));
    assert_unchanged("for an IPv4 VIP inside IPv6", &frame(&mapped), elsewhere);
    // Zeros that the length counts change no checksum, but whole options are 8 bytes long.
    let mut odd = [solicitation(ASKER6, GROUP, VIP6, None), vec![0; 4]].concat();
    odd[5] += 4;
    let sum = u16::from_be_bytes([odd[42], odd[43]]);
    [odd[42], odd[43]] = sum.checked_sub(4).unwrap().to_be_bytes();
    assert_unchanged("half an option", &frame(&odd), elsewhere);
    let message = |code, options: &[u8]| {
        let data = [&VIP6.octets(), options].concat();
        frame(&ipv6(ASKER6, GROUP, ICMPV6, 255, &icmpv6(ASKER6, GROUP, 135, code, [0; 4], &data)))
    };
    assert_unchanged("another code", &message(1, &[]), elsewhere);
    let long = [[14, 2, 0, 0, 0, 0, 0, 0], [14, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert_unchanged("an option longer than Ethernet's", &message(0, &long), elsewhere);
    let good = frame(&good);
    for length in 0..good.len() {
        let (verdict, out) = run(world_once(), &good[..length]);
        assert!(matches!(verdict, Verdict::Passed(_)), "{length} bytes: {verdict:?}");
        assert_eq!(out, good[..length]);
    }
}

#[test]
fn a_solicitation_in_several_buffers_is_not_answered_and_not_changed() {
    // It ends in the first buffer, and its padding is as long as the option of the answer.
    let asked = [solicitation(ASKER6, GROUP, VIP6, None), vec![0; 8]].concat();
    let frame = Frame(to(GROUP_MAC, &[]).frame(kind::IPV6, &asked));
    for first in 0..frame.0.len() {
        let mut split = crate::host::SplitFrame { frame: frame.clone(), first };
        let verdict = crate::pipeline::run(&mut split, world_once(), INGRESS);
        assert!(matches!(verdict, Verdict::Passed(_)), "{first} bytes: {verdict:?}");
        assert_eq!(split.frame.0, frame.0, "{first} bytes");
    }
}

#[test]
fn echo_requests_are_answered() {
    for (identifier, data) in
        [(0u16, &b""[..]), (0, &[0; 8]), (1, b"x"), (0xf7ff, b""), (0xffff, &[0xff; 33])]
    {
        let [i0, i1] = identifier.to_be_bytes();
        let rest = [i0, i1, 0, 0];
        let question = ipv4(CLIENT4, VIP4, ICMP, &[], 0x4000, &icmp(8, 0, rest, data));
        let (verdict, out) = run(world_once(), &link(&[5]).frame(kind::IPV4, &question));
        assert_eq!(verdict, Verdict::Answered(Answer::IcmpEcho));
        assert_eq!(
            out[..18],
            Ethernet { to: CLIENT_MAC, from: OWN_MAC, vlans: vec![5] }.frame(kind::IPV4, &[])
        );
        let packet = &out[18..];
        assert_eq!(frames::checksum(&packet[..20]), 0, "IPv4 checksum");
        assert_eq!(frames::checksum(&packet[20..]), 0, "ICMP checksum for {identifier}");
        assert_eq!(
            (packet[8], &packet[12..16], &packet[16..20]),
            (64, &VIP4.octets()[..], &CLIENT4.octets()[..])
        );
        assert_eq!(([0, 0], &rest[..], data), ([packet[20], packet[21]], &packet[24..28], &packet[28..]));

        let question = ipv6(CLIENT6, VIP6, ICMPV6, 3, &icmpv6(CLIENT6, VIP6, 128, 0, rest, data));
        let answer = ipv6(VIP6, CLIENT6, ICMPV6, 64, &icmpv6(VIP6, CLIENT6, 129, 0, rest, data));
        let (verdict, out) = run(world_once(), &link(&[]).frame(kind::IPV6, &question));
        assert_eq!(verdict, Verdict::Answered(Answer::IcmpEcho));
        assert_eq!(
            out[..14],
            Ethernet { to: CLIENT_MAC, from: OWN_MAC, vlans: vec![] }.frame(kind::IPV6, &[])
        );
        let all = [&frames::pseudo_header(VIP6, CLIENT6, out.len() - 54), &out[54..]].concat();
        assert_eq!(frames::checksum(&all), 0, "ICMPv6 checksum for {identifier}");
        assert_eq!((&out[14..54], &out[58..]), (&answer[..40], &answer[44..]));
    }
}

/// An echo to one who cannot be a single host would be a reply to many, or to nobody (RFC 1122, 3.2.1.3).
#[test]
fn nobody_but_a_single_host_gets_an_echo() {
    let other = Verdict::Passed(Pass::NotForUsProtocol);
    for (a, what) in [
        (Ipv4Addr::BROADCAST, "broadcast"),
        (Ipv4Addr::new(224, 0, 0, 1), "a group"),
        (Ipv4Addr::UNSPECIFIED, "nobody"),
        (Ipv4Addr::LOCALHOST, "loopback"),
    ] {
        let packet = ipv4(a, VIP4, ICMP, &[], 0, &icmp(8, 0, [0; 4], b"ping"));
        assert_unchanged(what, &link(&[]).frame(kind::IPV4, &packet), other);
    }
    for (a, what) in [
        (ALL_NODES, "a group"),
        (Ipv6Addr::UNSPECIFIED, "nobody"),
        (Ipv6Addr::LOCALHOST, "loopback"),
        (CLIENT4.to_ipv6_mapped(), "an IPv4 address inside IPv6"),
    ] {
        let packet = ipv6(a, VIP6, ICMPV6, 64, &icmpv6(a, VIP6, 128, 0, [0; 4], b"ping"));
        assert_unchanged(what, &link(&[]).frame(kind::IPV6, &packet), other);
    }
}

#[test]
fn other_icmp_is_left_to_the_local_stack() {
    let other = Verdict::Passed(Pass::NotForUsProtocol);
    let frame4 = |options: &[u8], fragment, message: &[u8]| {
        link(&[]).frame(kind::IPV4, &ipv4(CLIENT4, VIP4, ICMP, options, fragment, message))
    };
    let echo = icmp(8, 0, [0; 4], b"ping");
    assert_unchanged("a reply", &frame4(&[], 0, &icmp(0, 0, [0; 4], b"ping")), other);
    assert_unchanged("another code", &frame4(&[], 0, &icmp(8, 1, [0; 4], b"ping")), other);
    assert_unchanged("with a source route", &frame4(&[131, 7, 4, 10, 0, 0, 1], 0, &echo), other);
    assert_unchanged("a first fragment", &frame4(&[], 0x2000, &echo), other);
    assert_unchanged("too short", &frame4(&[], 0, &echo[..7]), Verdict::Dropped(Drop::Malformed));
    let echo = icmpv6(CLIENT6, VIP6, 128, 0, [0; 4], b"ping");
    let packet = ipv6(CLIENT6, VIP6, 0, 64, &frames::extension(ICMPV6, 1, &echo));
    assert_unchanged("with an extension header", &link(&[]).frame(kind::IPV6, &packet), other);
    let frame6 = |message: &[u8]| link(&[]).frame(kind::IPV6, &ipv6(CLIENT6, VIP6, ICMPV6, 64, message));
    let code = icmpv6(CLIENT6, VIP6, 128, 1, [0; 4], b"ping");
    assert_unchanged("another code, v6", &frame6(&code), other);
    let reply = icmpv6(CLIENT6, VIP6, 129, 0, [0; 4], b"ping");
    assert_unchanged("a reply, v6", &frame6(&reply), other);
    let packet = ipv6(CLIENT6, VIP6, 44, 64, &frames::fragment_header(ICMPV6, 0, true, &echo));
    assert_unchanged("a first fragment, v6", &link(&[]).frame(kind::IPV6, &packet), other);
}
