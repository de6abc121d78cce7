//! What the pipeline owes packets, shown on golden frames: description, input, verdict, output.

mod answers;
mod errors;
mod flood;
mod fragments;
mod golden;
mod guards;
mod memory;
mod mistakes;
mod simulation;
mod turns;
mod windows;

use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use crate::abi::COUNTER_BACKENDS;
use crate::host::frames::{self, Ethernet, kind};
use crate::host::random::Random;
use crate::host::sample::{
    self, CLIENT_MAC, INGRESS, MASTER_MAC, OTHER, OTHER_MAC, OWN_MAC, QUIET4, QUIET6, VIP4, VIP6, port,
};
use crate::host::{Frame, HostTables};
use crate::service::{TCP, UDP};
use crate::tables::Puzzle;
use crate::verdict::{Drop, Egress, Pass, Verdict};

const CLIENT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

fn world() -> HostTables {
    sample::tables().unwrap()
}

/// To us from a client, with these VLAN tags.
fn link(vlans: &[u16]) -> Ethernet {
    Ethernet { to: OWN_MAC, from: CLIENT_MAC, vlans: vlans.to_vec() }
}

fn tcp4(link: &Ethernet, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let segment = frames::tcp(40_000, port, b"hello");
    link.frame(kind::IPV4, &frames::ipv4(CLIENT4, to, TCP, &[], 0x4000, &segment))
}

fn tcp6(link: &Ethernet, to: Ipv6Addr, port: u16) -> Vec<u8> {
    let segment = frames::tcp(40_000, port, b"hello");
    link.frame(kind::IPV6, &frames::ipv6(CLIENT6, to, TCP, 64, &segment))
}

/// What becomes of a frame, and the frame then.
fn run(tables: &HostTables, bytes: &[u8]) -> (Verdict, Vec<u8>) {
    let mut frame = Frame(bytes.to_vec());
    (tables.run(&mut frame, INGRESS), frame.0)
}

/// A frame must come to this verdict and leave as it came.
fn assert_unchanged(what: &str, bytes: &[u8], expected: Verdict) {
    let (verdict, out) = run(world_once(), bytes);
    assert_eq!(verdict, expected, "{what}");
    assert_eq!(out, bytes, "{what}: changed");
}

/// A frame must go to a backend with new MACs and nothing else changed.
fn assert_forwarded(what: &str, bytes: &[u8], source: [u8; 6], way: Egress) -> u16 {
    let tables = world_once();
    let (verdict, out) = run(tables, bytes);
    let Verdict::Forwarded { backend, egress } = verdict else { panic!("{what}: {verdict:?}") };
    let mac = crate::mac::bytes(tables.backends[usize::from(backend)].word);
    assert_eq!(egress, way, "{what}");
    assert_eq!((&out[..6], &out[6..12]), (&mac[..], &source[..]), "{what}: MACs");
    assert_eq!(out[12..], bytes[12..], "{what}: more than the MACs changed");
    backend
}

#[test]
fn a_forwarded_frame_differs_only_in_its_macs() {
    let own = link(&[]);
    let master = Ethernet { to: MASTER_MAC, ..own.clone() };
    let here = Egress::Same;
    assert_forwarded("TCP over IPv4", &tcp4(&own, VIP4, port::WEB), OWN_MAC, here);
    assert_forwarded("TCP over IPv6", &tcp6(&own, VIP6, port::WEB), OWN_MAC, here);
    assert_forwarded("to the bridge's MAC", &tcp4(&master, VIP4, port::WEB), MASTER_MAC, here);
    assert_forwarded("stateless", &tcp4(&own, VIP4, port::STATELESS), OWN_MAC, here);
    assert_forwarded("transitions", &tcp6(&own, VIP6, port::TRANSITIONS), OWN_MAC, here);
    let udp = frames::udp(40_000, port::DNS, b"query");
    let packet = frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &udp);
    assert_forwarded("UDP over IPv4", &own.frame(kind::IPV4, &packet), OWN_MAC, here);
    let packet = frames::ipv6(CLIENT6, VIP6, UDP, 64, &udp);
    assert_forwarded("UDP over IPv6", &own.frame(kind::IPV6, &packet), OWN_MAC, here);
    let packet = frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &frames::udp(1, 9999, b""));
    assert_forwarded("every port", &own.frame(kind::IPV4, &packet), OWN_MAC, here);
    assert_forwarded("one VLAN tag", &tcp4(&link(&[5]), VIP4, port::VLAN), OWN_MAC, here);
    assert_forwarded("a tag with priority bits", &tcp6(&link(&[0xf005]), VIP6, port::VLAN), OWN_MAC, here);
    assert_forwarded("a priority tag", &tcp4(&link(&[0xa000]), VIP4, port::WEB), OWN_MAC, here);
    assert_forwarded("two VLAN tags", &tcp4(&link(&[6, 5]), VIP4, port::DOUBLE_VLAN), OWN_MAC, here);
    let other = Egress::Other(OTHER);
    assert_forwarded("behind another interface", &tcp4(&own, VIP4, port::OTHER), OTHER_MAC, other);
    let mut tables = world();
    let interface = tables.directory.halves[0].interfaces.iter_mut().find(|one| one.ifindex == OTHER);
    interface.unwrap().master_mac = crate::mac::word(MASTER_MAC);
    let (_, out) = run(&tables, &tcp4(&own, VIP4, port::OTHER));
    assert_eq!(out[6..12], MASTER_MAC, "out of another bridge's port, from the bridge's MAC");
    assert_forwarded("with padding", &[tcp4(&own, VIP4, port::WEB), vec![7; 9]].concat(), OWN_MAC, here);
}

#[test]
fn options_and_extension_headers_are_stepped_over() {
    let (own, here) = (link(&[]), Egress::Same);
    let segment = frames::tcp(40_000, port::WEB, b"hello");
    let plain = assert_forwarded("plain", &tcp4(&own, VIP4, port::WEB), OWN_MAC, here);
    for words in 1..=10 {
        let packet = frames::ipv4(CLIENT4, VIP4, TCP, &vec![1; words * 4], 0, &segment);
        let what = format!("{words} words of options");
        assert_eq!(assert_forwarded(&what, &own.frame(kind::IPV4, &packet), OWN_MAC, here), plain);
    }
    let plain = assert_forwarded("plain", &tcp6(&own, VIP6, port::WEB), OWN_MAC, here);
    let (mut next, mut payload) = (TCP, segment);
    for (count, header) in [60, 43, 60, 43, 60, 0].into_iter().enumerate() {
        payload = frames::extension(next, 1 + count as u8, &payload);
        next = header;
        let frame = own.frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, next, 64, &payload));
        let what = format!("{} extension headers", count + 1);
        assert_eq!(assert_forwarded(&what, &frame, OWN_MAC, here), plain);
    }
    let payload = frames::extension(next, 1, &payload);
    let frame = own.frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, 0, 64, &payload));
    assert_unchanged("too many extension headers", &frame, Verdict::Dropped(Drop::Malformed));
}

#[test]
fn what_is_not_for_a_service_passes_unchanged() {
    let (own, pass) = (link(&[]), Verdict::Passed);
    let elsewhere = Ethernet { to: CLIENT_MAC, ..own.clone() };
    assert_unchanged("other MAC", &tcp4(&elsewhere, VIP4, port::WEB), pass(Pass::NotAddressedToUs));
    assert_unchanged("other MAC, v6", &tcp6(&elsewhere, VIP6, port::WEB), pass(Pass::NotAddressedToUs));
    let interfaces = Ethernet { to: OTHER_MAC, ..own.clone() };
    assert_unchanged("MAC of another of ours", &tcp4(&interfaces, VIP4, 80), pass(Pass::NotAddressedToUs));
    let stranger = Ipv4Addr::new(10, 0, 0, 5);
    assert_unchanged("not a VIP", &tcp4(&own, stranger, port::WEB), pass(Pass::NoService));
    assert_unchanged("not a VIP, v6", &tcp6(&own, CLIENT6, port::WEB), pass(Pass::NoService));
    assert_unchanged("VIP without services", &tcp4(&own, QUIET4, port::WEB), pass(Pass::NoService));
    assert_unchanged("v6 VIP without services", &tcp6(&own, QUIET6, port::WEB), pass(Pass::NoService));
    assert_unchanged("no such port", &tcp4(&own, VIP4, 999), pass(Pass::NoService));
    let mapped = VIP4.to_ipv6_mapped();
    assert_unchanged("an IPv4 VIP inside IPv6", &tcp6(&own, mapped, port::WEB), pass(Pass::NoService));
    assert_unchanged("three tags", &tcp4(&link(&[1, 2, 3]), VIP4, port::WEB), pass(Pass::NotIp));
    assert_unchanged("LLDP", &own.frame(0x88cc, &[0; 46]), pass(Pass::NotIp));
    let gre = frames::ipv4(CLIENT4, VIP4, 47, &[], 0, &[0; 40]);
    assert_unchanged("GRE", &own.frame(kind::IPV4, &gre), pass(Pass::NotForUsProtocol));
    let timestamp = frames::ipv4(CLIENT4, VIP4, 1, &[], 0, &frames::icmp(13, 0, [0; 4], &[0; 12]));
    assert_unchanged("ICMP timestamp", &own.frame(kind::IPV4, &timestamp), pass(Pass::NotForUsProtocol));
    assert_unchanged("a local backend", &tcp4(&own, VIP4, port::LOCAL), pass(Pass::LocalBackend));
    assert_unchanged("an empty pool that passes", &tcp6(&own, VIP6, port::EMPTY_PASS), pass(Pass::EmptyPool));
    let verdict = world_once().run(&mut Frame(tcp4(&own, VIP4, port::WEB)), 3);
    assert_eq!(verdict, pass(Pass::NotAddressedToUs), "an interface that is not attached");
}

#[test]
fn what_cannot_be_served_is_dropped_with_its_reason() {
    let (own, drop) = (link(&[]), Verdict::Dropped);
    assert_unchanged("nobody serving", &tcp4(&own, VIP4, port::EMPTY_DROP), drop(Drop::NoBackend));
    assert_unchanged("untagged to a VLAN", &tcp4(&own, VIP4, port::VLAN), drop(Drop::WrongVlan));
    assert_unchanged("tagged to no VLAN", &tcp6(&link(&[5]), VIP6, port::WEB), drop(Drop::WrongVlan));
    let swapped = tcp4(&link(&[5, 6]), VIP4, port::DOUBLE_VLAN);
    assert_unchanged("tags the other way round", &swapped, drop(Drop::WrongVlan));
    let inner = tcp4(&link(&[6, 7]), VIP4, port::DOUBLE_VLAN);
    assert_unchanged("another inner tag", &inner, drop(Drop::WrongVlan));
    assert_unchanged("no way there", &tcp4(&own, VIP4, port::UNATTACHED), drop(Drop::NoEgress));
}

#[test]
fn a_backend_cannot_send_to_its_own_service_but_to_others() {
    let web = sample::service_index(false, port::WEB);
    let from_backend = Ethernet { from: sample::backend_mac(web, 1), ..link(&[]) };
    let own = tcp4(&from_backend, VIP4, port::WEB);
    assert_unchanged("to its own service", &own, Verdict::Dropped(Drop::Loop));
    let other = tcp4(&from_backend, VIP4, port::STATELESS);
    assert_forwarded("to another service", &other, OWN_MAC, Egress::Same);
    let mut tables = world();
    tables.loop_filter.fill(u64::MAX);
    let (verdict, _) = run(&tables, &tcp4(&link(&[]), VIP4, port::WEB));
    assert!(matches!(verdict, Verdict::Forwarded { .. }), "a full filter alone drops nothing: {verdict:?}");
}

#[test]
fn a_dead_owner_is_replaced_by_the_previous_one() {
    let (verdict, _) = run(&world(), &tcp4(&link(&[]), VIP4, port::PREVIOUS));
    let Verdict::Forwarded { backend, .. } = verdict else { panic!("{verdict:?}") };
    let service = sample::service_index(false, port::PREVIOUS);
    let mac = sample::backend_mac(service, sample::BACKENDS);
    assert_eq!(crate::mac::bytes(world().backends[usize::from(backend)].word), mac);
}

#[test]
fn a_slot_that_names_somebody_elses_index_is_noticed() {
    let mut tables = world();
    for backend in &mut tables.backends {
        backend.service += u16::from(backend.service == sample::service_index(false, port::WEB));
    }
    let (verdict, _) = run(&tables, &tcp4(&link(&[]), VIP4, port::WEB));
    assert_eq!(verdict, Verdict::Dropped(Drop::NoBackend));
    assert!(matches!(tables.puzzles.borrow()[..], [Puzzle::RetiredIndex { service: 0, .. }]));
}

#[test]
fn a_slot_that_names_a_retired_index_is_noticed() {
    let tables = world();
    let (verdict, _) = run(&tables, &tcp4(&link(&[]), VIP4, port::RETIRED));
    assert_eq!(verdict, Verdict::Dropped(Drop::NoBackend));
    assert!(matches!(tables.puzzles.borrow()[..], [Puzzle::RetiredIndex { .. }]));
}

#[test]
fn headers_that_lie_are_malformed_only_to_a_vip() {
    let l3 = 14;
    // Offset in the IP packet, the lie, and what it is about.
    let lies4: [(usize, u8, &str); 8] = [
        (0, 0x55, "version"),
        (0, 0x44, "header shorter than 20 bytes"),
        (0, 0x4f, "header longer than the packet"),
        (2, 0xff, "total length beyond the frame"),
        (3, 19, "total length within the header"),
        (3, 39, "total length within the TCP header"),
        (20 + 12, 0x40, "TCP header shorter than 20 bytes"),
        (20 + 12, 0xf0, "TCP header longer than the packet"),
    ];
    for (at, lie, what) in lies4 {
        let mut frame = tcp4(&link(&[]), VIP4, port::WEB);
        frame[l3 + at] = lie;
        assert_unchanged(what, &frame, Verdict::Dropped(Drop::Malformed));
        let mut frame = tcp4(&link(&[]), CLIENT4, port::WEB);
        frame[l3 + at] = lie;
        assert_unchanged(what, &frame, Verdict::Passed(Pass::NoService));
    }
    // A header of 16 bytes would have the VIP for ports.
    let mut short = frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &frames::udp(0x0a00, 0x0064, b""));
    short[0] = 0x44;
    short[16..24].copy_from_slice(&[VIP4.octets(), [0, 8, 0, 0]].concat());
    let short = link(&[]).frame(kind::IPV4, &short);
    assert_unchanged("header within the addresses", &short, Verdict::Dropped(Drop::Malformed));
    for (at, lie, what) in [(0, 0x50, "version"), (4, 0xff, "too long"), (5, 19, "within the TCP header")] {
        let mut frame = tcp6(&link(&[]), VIP6, port::WEB);
        frame[l3 + at] = lie;
        assert_unchanged(what, &frame, Verdict::Dropped(Drop::Malformed));
        let mut frame = tcp6(&link(&[]), CLIENT6, port::WEB);
        frame[l3 + at] = lie;
        assert_unchanged(what, &frame, Verdict::Passed(Pass::NoService));
    }
    for length in [0, 7, 14] {
        let mut datagram = frames::udp(1, port::DNS, b"query");
        datagram[5] = length;
        let packet = frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &datagram);
        let frame = link(&[]).frame(kind::IPV4, &packet);
        assert_unchanged("UDP length", &frame, Verdict::Dropped(Drop::Malformed));
    }
}

#[test]
fn a_frame_cut_off_anywhere_is_never_forwarded_nor_changed() {
    for frame in [
        tcp4(&link(&[]), VIP4, port::WEB),
        tcp6(&link(&[]), VIP6, port::WEB),
        tcp4(&link(&[6, 5]), VIP4, port::DOUBLE_VLAN),
    ] {
        for length in 0..frame.len() {
            let (verdict, out) = run(world_once(), &frame[..length]);
            let quiet = matches!(verdict, Verdict::Passed(Pass::NotIp) | Verdict::Dropped(Drop::Malformed));
            assert!(quiet, "{length} bytes: {verdict:?}");
            assert_eq!(out, frame[..length], "{length} bytes: changed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_frame_is_changed_but_by_what_its_verdict_says(seed: u64) {
        let tables = world_once();
        let bytes = Random::new(seed).frame();
        let (verdict, out) = run(tables, &bytes);
        match verdict {
            Verdict::Passed(_) | Verdict::Dropped(_) => prop_assert_eq!(&out, &bytes),
            Verdict::Forwarded { backend, .. } => {
                let mac = crate::mac::bytes(tables.backends[usize::from(backend)].word);
                prop_assert_eq!(&out[..6], &mac[..]);
                prop_assert_eq!(&out[12..], &bytes[12..]);
                prop_assert!(verdict.counter() >= COUNTER_BACKENDS);
            }
            Verdict::Answered(_) => prop_assert_ne!(&out, &bytes),
        }
    }

    #[test]
    fn garbage_crashes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (verdict, out) = run(world_once(), &bytes);
        if !matches!(verdict, Verdict::Forwarded { .. } | Verdict::Answered(_)) {
            prop_assert_eq!(out, bytes);
        }
    }
}

/// One world for many cases of a property; each thread has its own, since tables are not shared.
fn world_once() -> &'static HostTables {
    thread_local!(static WORLD: &'static HostTables = Box::leak(Box::new(world())));
    WORLD.with(|world| *world)
}
