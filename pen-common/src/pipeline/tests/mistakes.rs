//! Mistakes that load balancers on XDP are known to have made (Katran's list of issues among them), a test each.

use super::*;
use crate::abi::Slot;
use crate::abi::backend_flags::{SERVING, USABLE};
use crate::maglev::{self, Member, Turn};
use crate::parse::{ICMP, ICMPV6};
use crate::verdict::Answer;

const STRANGER4: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);

#[test]
fn fragments_and_options_of_other_hosts_are_not_held_back() {
    let pass = Verdict::Passed(Pass::NoService);
    let segment = frames::tcp(40_000, port::WEB, &[0; 4]);
    for vlans in [&[][..], &[5], &[6, 5]] {
        let v4 = |options: &[u8], fragment, payload: &[u8]| {
            link(vlans).frame(kind::IPV4, &frames::ipv4(CLIENT4, STRANGER4, TCP, options, fragment, payload))
        };
        let v6 = |next, payload: &[u8]| {
            link(vlans).frame(kind::IPV6, &frames::ipv6(CLIENT6, STRANGER6, next, 64, payload))
        };
        assert_unchanged("options", &v4(&[7; 40], 0, &segment), pass);
        assert_unchanged("a first fragment", &v4(&[], 0x2000, &segment), pass);
        assert_unchanged("a later one", &v4(&[], 0x2009, &[0; 64]), pass);
        assert_unchanged("the last one, with options", &v4(&[7; 4], 9, &[0; 63]), pass);
        for header in [0, 43, 60, 51, 135, 139, 140, 253] {
            assert_unchanged("an extension header", &v6(header, &frames::extension(TCP, 2, &segment)), pass);
        }
        let part = |offset, more| frames::fragment_header(TCP, offset, more, &segment);
        for (offset, more) in [(0, true), (9, true), (9, false)] {
            assert_unchanged("an IPv6 fragment", &v6(44, &part(offset, more)), pass);
        }
    }
}

#[test]
fn nobody_else_is_answered_for() {
    let pass = Verdict::Passed(Pass::NoService);
    let echo = frames::icmp(8, 0, [0, 1, 0, 1], b"ping");
    for stranger in [STRANGER4, Ipv4Addr::new(10, 0, 0, 99), Ipv4Addr::new(10, 0, 0, 102)] {
        let packet = frames::ipv4(CLIENT4, stranger, ICMP, &[], 0, &echo);
        assert_unchanged("an echo", &link(&[]).frame(kind::IPV4, &packet), pass);
    }
    let echo = frames::icmpv6(CLIENT6, STRANGER6, 128, 0, [0, 1, 0, 1], b"ping");
    let packet = frames::ipv6(CLIENT6, STRANGER6, ICMPV6, 64, &echo);
    assert_unchanged("an echo, v6", &link(&[]).frame(kind::IPV6, &packet), pass);
}

/// Every checksum that an echo, and the IPv4 header before it, can have: the carry of some folds twice.
#[test]
fn an_echo_reply_has_the_right_checksums_whatever_the_request_has() {
    let tables = world_once();
    for number in 0..=u16::MAX {
        let [n0, n1] = number.to_be_bytes();
        for rest in [[n0, n1, 0, 0], [0xff, 0xff, n0, n1]] {
            let mut packet = frames::ipv4(CLIENT4, VIP4, ICMP, &[], 0, &frames::icmp(8, 0, rest, b""));
            packet[4..6].copy_from_slice(&[n0, n1]);
            packet[8] = if n1 & 1 == 0 { 64 } else { 1 };
            packet[10..12].fill(0);
            let checksum = frames::checksum(&packet[..20]).to_be_bytes();
            packet[10..12].copy_from_slice(&checksum);
            let (verdict, out) = run(tables, &link(&[]).frame(kind::IPV4, &packet));
            assert_eq!(verdict, Verdict::Answered(Answer::IcmpEcho));
            assert_eq!(frames::checksum(&out[14..34]), 0, "IPv4, {number:#x} {rest:?}");
            assert_eq!(frames::checksum(&out[34..]), 0, "ICMP, {number:#x} {rest:?}");

            let echo = frames::icmpv6(CLIENT6, VIP6, 128, 0, rest, b"");
            let packet = frames::ipv6(CLIENT6, VIP6, ICMPV6, 64, &echo);
            let (verdict, out) = run(tables, &link(&[]).frame(kind::IPV6, &packet));
            assert_eq!(verdict, Verdict::Answered(Answer::IcmpEcho));
            let all = [&frames::pseudo_header(VIP6, CLIENT6, out.len() - 54), &out[54..]].concat();
            assert_eq!(frames::checksum(&all), 0, "ICMPv6, {number:#x} {rest:?}");
        }
    }
}

#[test]
fn who_has_three_times_the_weight_gets_three_times_the_clients() {
    let mut tables = world();
    let service = sample::service_index(false, port::STATELESS);
    let first = tables.backends.iter().position(|backend| backend.service == service).unwrap() as u16;
    let members = [1, 3].map(|weight| {
        let address = Ipv4Addr::new(10, 0, 0, 10 + weight as u8).into();
        Member { address, weight }
    });
    let mut owners = vec![0; crate::abi::SLOTS as usize];
    maglev::build(sample::SEED, &members, &mut owners, &mut [Turn::default(); 2]);
    let slots = owners.into_iter().map(|owner| Slot::owned_by(first + owner)).collect();
    tables.slots.insert((service, u32::from(service % 2)), slots);
    const FLOWS: u16 = 8_000;
    let mut got = [0; 2];
    for client_port in 1..=FLOWS {
        let segment = frames::tcp(client_port, port::STATELESS, b"");
        let packet = frames::ipv4(CLIENT4, VIP4, TCP, &[], 0, &segment);
        let (verdict, _) = run(&tables, &link(&[]).frame(kind::IPV4, &packet));
        let Verdict::Forwarded { backend, .. } = verdict else { panic!("{verdict:?}") };
        got[usize::from(backend - first)] += 1;
    }
    // Five times the deviation that chance has.
    assert!((2_000 - 195..=2_000 + 195).contains(&got[0]), "{got:?}");
}

/// Neither who is new nor who was remembered, by whatever packet.
#[test]
fn after_the_last_backend_is_gone_nobody_gets_anything() {
    let mut tables = world();
    let mut ack = frames::tcp(40_000, port::WEB, b"");
    ack[13] = 0x10;
    let ack = link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, TCP, &[], 0, &ack));
    let syn = tcp4(&link(&[]), VIP4, port::WEB);
    let part = |flags, payload: &[u8]| {
        link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, TCP, &[], flags, payload))
    };
    let (first, last) = (part(0x2000, &frames::tcp(40_000, port::WEB, &[0; 4])), part(9, &[0; 40]));
    let quoted = frames::ipv4(VIP4, CLIENT4, TCP, &[], 0, &frames::tcp(port::WEB, 40_000, b""));
    let error = frames::ipv4(STRANGER4, VIP4, ICMP, &[], 0, &frames::icmp(3, 4, [0; 4], &quoted));
    let error = link(&[]).frame(kind::IPV4, &error);
    for frame in [&syn, &ack, &first, &last, &error] {
        assert!(matches!(run(&tables, frame).0, Verdict::Forwarded { .. }), "{frame:02x?}");
    }
    let service = sample::service_index(false, port::WEB);
    for backend in tables.backends.iter_mut().filter(|backend| backend.service == service) {
        backend.word &= !(SERVING | USABLE);
    }
    for emptied in [false, true] {
        if emptied {
            tables.share_slots(service, u32::from(service % 2), &[]);
        }
        for (frame, why) in [
            (&last, Drop::FragmentWithoutFirst),
            (&syn, Drop::NoBackend),
            (&ack, Drop::NoBackend),
            (&error, Drop::NoBackend),
            (&first, Drop::NoBackend),
            (&last, Drop::NoBackend),
        ] {
            // The second time the last fragment's first one came to nothing: so does it.
            let why = if emptied && frame == &last { Drop::NoBackend } else { why };
            assert_eq!(run(&tables, frame), (Verdict::Dropped(why), frame.clone()));
        }
    }
}

/// They were passed on to a local stack, past every rule for the service.
#[test]
fn hop_by_hop_options_and_tags_do_not_slip_past() {
    let segment = |port| frames::tcp(40_000, port, b"hello");
    let hop = |vlans: &[u16], port| {
        let payload = frames::extension(TCP, 1, &segment(port));
        link(vlans).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, 0, 64, &payload))
    };
    let here = Egress::Same;
    assert_forwarded("hop-by-hop", &hop(&[], port::WEB), OWN_MAC, here);
    assert_forwarded("hop-by-hop, one tag", &hop(&[5], port::VLAN), OWN_MAC, here);
    assert_forwarded("hop-by-hop, two tags", &hop(&[6, 5], port::DOUBLE_VLAN), OWN_MAC, here);
    let denied = Verdict::Dropped(Drop::Denied);
    let stranger = |vlans: &[u16], next, payload: &[u8]| {
        let client = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 40);
        link(vlans).frame(kind::IPV6, &frames::ipv6(client, VIP6, next, 64, payload))
    };
    let segment = segment(port::ALLOWED);
    assert_unchanged("plain", &stranger(&[], TCP, &segment), denied);
    assert_unchanged("tagged", &stranger(&[5], TCP, &segment), denied);
    assert_unchanged("tagged twice", &stranger(&[6, 5], TCP, &segment), denied);
    assert_unchanged("hop-by-hop", &stranger(&[], 0, &frames::extension(TCP, 1, &segment)), denied);
    assert_unchanged("routed", &stranger(&[], 43, &frames::extension(TCP, 3, &segment)), denied);
    let only = frames::fragment_header(TCP, 0, true, &segment);
    assert_unchanged("a first fragment", &stranger(&[], 44, &only), denied);
}
