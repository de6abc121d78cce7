//! Fragments: the first has the ports, later ones have not.

use super::memory::turn_slots;
use super::*;
use crate::abi::backend_flags::{SERVING, USABLE};
use crate::abi::service_flags;

const LATER: u16 = 0x0001;

fn later4(protocol: u8, to: Ipv4Addr) -> Vec<u8> {
    link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, to, protocol, &[], LATER, &[0xaa; 64]))
}

fn fragment6(offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let payload = frames::fragment_header(UDP, offset, more, payload);
    link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, 44, 64, &payload))
}

#[test]
fn a_first_fragment_goes_where_its_ports_say() {
    let here = Egress::Same;
    // Its length is that of the whole datagram, most of which comes later.
    let mut first = frames::udp(40_000, port::DNS, &[0; 24]);
    first[4..6].copy_from_slice(&1400u16.to_be_bytes());
    let packet = frames::ipv4(CLIENT4, VIP4, UDP, &[], 0x2000, &first);
    assert_forwarded("IPv4", &link(&[]).frame(kind::IPV4, &packet), OWN_MAC, here);
    assert_forwarded("IPv6", &fragment6(0, true, &first), OWN_MAC, here);
    let whole = frames::udp(40_000, port::DNS, b"query");
    assert_forwarded("the only fragment (RFC 6946)", &fragment6(0, false, &whole), OWN_MAC, here);
}

#[test]
fn later_fragments_are_dropped_unless_the_client_alone_decides() {
    let drop = Verdict::Dropped(Drop::FragmentWithoutFirst);
    assert_unchanged("TCP", &later4(TCP, VIP4), drop);
    let unknown = frames::fragment_header(60, 9, false, &[0xaa; 64]);
    let unknown = link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, 44, 64, &unknown));
    assert_unchanged("what its first one says after more headers", &unknown, drop);
    assert_unchanged("UDP to a VIP without services", &later4(UDP, QUIET4), drop);
    assert_unchanged("to a stranger", &later4(TCP, CLIENT4), Verdict::Passed(Pass::NoService));
}

/// The first one is left to the local stack, which can do nothing without the others.
#[test]
fn later_fragments_of_other_protocols_pass_as_their_first_does() {
    let pass = Verdict::Passed(Pass::NotForUsProtocol);
    for protocol in [1, 47, 50] {
        assert_unchanged("IPv4", &later4(protocol, VIP4), pass);
    }
    let echo = frames::fragment_header(58, 9, false, &[0xaa; 64]);
    let echo = link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, 44, 64, &echo));
    assert_unchanged("ICMPv6", &echo, pass);
}

#[test]
fn a_first_fragment_that_ends_within_its_header_is_malformed() {
    let malformed = Verdict::Dropped(Drop::Malformed);
    let padded = |protocol, payload: &[u8]| {
        let packet = frames::ipv4(CLIENT4, VIP4, protocol, &[], 0x2000, payload);
        link(&[]).frame(kind::IPV4, &[packet, vec![0x50; 40]].concat())
    };
    let udp = frames::udp(40_000, port::DNS, &[0; 24]);
    let tcp = frames::tcp(40_000, port::WEB, b"");
    assert_unchanged("UDP", &padded(UDP, &udp[..4]), malformed);
    assert_unchanged("TCP", &padded(TCP, &tcp[..16]), malformed);
    let mut options = tcp;
    options[12] = 0xf0;
    let packet = frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x2000, &options);
    let frame = link(&[]).frame(kind::IPV4, &packet);
    assert_forwarded("its options come later", &frame, OWN_MAC, Egress::Same);
}

#[test]
fn later_fragments_for_every_port_go_with_the_client_and_leave_no_memory() {
    let tables = world();
    for (fragment, whole) in [
        (later4(UDP, VIP4), {
            let datagram = frames::udp(40_000, 9999, b"hello");
            link(&[]).frame(kind::IPV4, &frames::ipv4(CLIENT4, VIP4, UDP, &[], 0, &datagram))
        }),
        (fragment6(9, false, &[0xaa; 64]), {
            let datagram = frames::udp(40_000, 9999, b"hello");
            link(&[]).frame(kind::IPV6, &frames::ipv6(CLIENT6, VIP6, UDP, 64, &datagram))
        }),
    ] {
        let before = tables.tracked.borrow().len();
        let (verdict, out) = run(&tables, &fragment);
        assert!(matches!(verdict, Verdict::Forwarded { .. }), "{verdict:?}");
        assert_eq!(out[12..], fragment[12..]);
        assert_eq!(tables.tracked.borrow().len(), before, "a fragment was remembered");
        assert_eq!(run(&tables, &whole).0, verdict, "the whole datagram goes elsewhere");
        let memory = tables.tracked.borrow().clone();
        tables.jiffies.set(tables.jiffies.get() + 100_000);
        assert_eq!(run(&tables, &fragment).0, verdict);
        assert_eq!(*tables.tracked.borrow(), memory, "a fragment prolonged a memory");
    }
}

#[test]
fn later_fragments_are_dropped_where_the_flow_decides() {
    let mut tables = world();
    for entry in &mut tables.directory.halves[0].entries {
        entry.flags |=
            if entry.port == 0 && entry.protocol == UDP { service_flags::AFFINITY_FLOW } else { 0 };
    }
    let (verdict, _) = run(&tables, &later4(UDP, VIP4));
    assert_eq!(verdict, Verdict::Dropped(Drop::FragmentWithoutFirst));
}

/// Fragments of a datagram of UDP to a port: the first one, and the last one.
fn parts(id: u8, client_port: u16, port: u16) -> [Vec<u8>; 2] {
    [(0x2000, frames::udp(client_port, port, &[0; 24])), (9, vec![0xaa; 40])].map(|(flags, payload)| {
        let mut packet = frames::ipv4(CLIENT4, VIP4, UDP, &[], flags, &payload);
        packet[5] = id;
        link(&[]).frame(kind::IPV4, &packet)
    })
}

fn backend(tables: &HostTables, frame: &[u8]) -> u16 {
    match run(tables, frame).0 {
        Verdict::Forwarded { backend, .. } => backend,
        other => panic!("{other:?}"),
    }
}

/// Each flow's fragments with their own first one, whatever the table says by then.
#[test]
fn later_fragments_go_where_their_first_one_went() {
    let mut tables = world();
    let datagrams: Vec<_> = (0..40).map(|id| parts(id, 1000 + u16::from(id), port::DNS)).collect();
    let went: Vec<u16> = datagrams.iter().map(|[first, _]| backend(&tables, first)).collect();
    turn_slots(&mut tables, false, port::DNS);
    tables.tracked.borrow_mut().clear();
    let follow: Vec<u16> = datagrams.iter().map(|[_, last]| backend(&tables, last)).collect();
    assert_eq!(follow, went);
    assert!(went.iter().any(|backend| *backend != went[0]), "all to one backend");
    assert!(tables.tracked.borrow().is_empty(), "a later fragment was remembered");
}

#[test]
fn who_followed_a_backend_that_is_gone_follows_nobody_else() {
    let gone = |change: fn(&mut crate::abi::Backend)| {
        let mut tables = world();
        let [first, last] = parts(1, 40_000, port::DNS);
        let went = backend(&tables, &first);
        change(&mut tables.backends[usize::from(went)]);
        run(&tables, &last).0
    };
    let without_first = Verdict::Dropped(Drop::FragmentWithoutFirst);
    assert_eq!(gone(|backend| backend.word &= !(SERVING | USABLE)), without_first, "dead");
    assert_eq!(gone(|backend| backend.generation += 1), without_first, "its index is another's");
    assert_eq!(gone(|backend| backend.service += 1), without_first, "of another service");
    assert!(matches!(gone(|backend| backend.word &= !SERVING), Verdict::Forwarded { .. }), "draining");
}

#[test]
fn the_rest_is_waited_for_and_not_for_ever() {
    let tables = world();
    let [first, last] = parts(1, 40_000, port::DNS);
    let went = backend(&tables, &first);
    tables.pass_seconds(u64::from(crate::fragment::TIMEOUT) - 1);
    assert_eq!(backend(&tables, &last), went);
    tables.pass_seconds(3);
    let every = sample::service_index(false, port::EVERY);
    let now = backend(&tables, &last);
    assert_eq!(tables.backends[usize::from(now)].service, every, "of an unknown datagram");
}

#[test]
fn a_datagram_that_is_not_for_a_service_stays_together() {
    let tables = world();
    let pass = Verdict::Passed(Pass::NoService);
    let first = frames::ipv4(CLIENT4, VIP4, TCP, &[], 0x2000, &frames::tcp(40_000, 999, &[0; 4]));
    assert_eq!(run(&tables, &link(&[]).frame(kind::IPV4, &first)).0, pass);
    assert_eq!(run(&tables, &later4(TCP, VIP4)).0, pass, "the local stack has the first one");
}
