//! Access lists and limits as packets would find them: in place before they are told, whole, and a new service's own.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use ipnet::{IpNet, Ipv4Net};
use pen_common::abi::{ServiceEntry, access, entry_kind, service_flags};
use pen_ctl::budget;
use pen_ctl::dataplane::xdp::XdpPlane;
use pen_ctl::dataplane::{
    AccessList, DataPlane, OnEmpty, Operation, Prefixes, Rate, RateLimit, ServiceKey, ServiceSettings,
};

use crate::packets::{Wire, XDP_DROP, XDP_PASS, XDP_TX, sharing};
use crate::place::Place;
use crate::wants::{Do, key, settings};
use crate::{kernel, pinned};

fn prefixes(all: &[&str]) -> Prefixes {
    all.iter().map(|one| one.parse::<IpNet>().unwrap()).collect()
}

fn list(allow: &[&str], deny: &[&str]) -> AccessList {
    AccessList { allow: prefixes(allow), deny: prefixes(deny) }
}

fn listed(access: AccessList) -> ServiceSettings {
    ServiceSettings { access, ..settings() }
}

/// The same, and packets that nobody is there for are left to the local stack.
fn passing(access: AccessList) -> ServiceSettings {
    ServiceSettings { on_empty: OnEmpty::Pass, ..listed(access) }
}

fn limited(packets: u32) -> ServiceSettings {
    let packets = Some(Rate { per_second: packets, burst: packets });
    let limit = RateLimit { packets, flows: None, prefix_v4: 24, prefix_v6: 64 };
    ServiceSettings { rate_limit: Some(limit), ..settings() }
}

fn set(plane: &mut XdpPlane, key: ServiceKey, settings: &ServiceSettings) {
    plane.apply(&Operation::SetService { key, settings: settings.clone() }).unwrap();
}

/// What an observation says of a service's settings.
fn seen(plane: &mut XdpPlane, key: ServiceKey) -> ServiceSettings {
    plane.observe().unwrap().services[&key].settings.clone()
}

/// Id of the map in a map of maps.
fn inner(place: &Place, outer: &str, index: u32) -> Option<u32> {
    kernel::element(&kernel::open_pin(&place.pins().join("maps").join(outer)), index)
}

/// What the list of a service says about an address, as packets ask it.
fn verdict(place: &Place, service: u32, client: &str) -> Option<u32> {
    let id = inner(place, if client.contains(':') { "access_v6" } else { "access_v4" }, service)?;
    let map = Map::from_map_data(MapData::from_id(id).unwrap()).unwrap();
    match client.parse().unwrap() {
        IpAddr::V4(client) => {
            let trie: LpmTrie<MapData, [u8; 4], u32> = map.try_into().unwrap();
            trie.get(&Key::new(32, client.octets()), 0).ok()
        }
        IpAddr::V6(client) => {
            let trie: LpmTrie<MapData, [u8; 16], u32> = map.try_into().unwrap();
            trie.get(&Key::new(128, client.octets()), 0).ok()
        }
    }
}

/// Flags of the only service.
fn flags(place: &Place) -> u16 {
    let (active, halves) = pinned::directory(place);
    let entries = halves[active as usize].chunks(size_of::<ServiceEntry>()).take(1024);
    let service = |entry: &&[u8]| entry[offset_of!(ServiceEntry, kind)] == entry_kind::SERVICE;
    let entry = entries.clone().find(service).unwrap();
    let at = offset_of!(ServiceEntry, flags);
    u16::from_ne_bytes([entry[at], entry[at + 1]])
}

#[test]
fn the_longest_prefix_decides_and_allow_refuses_all_others() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    let (allow, deny, rest) = (Some(access::ALLOW), Some(access::DENY), Some(access::REST));
    set(&mut plane, key(0), &listed(list(&[], &["10.0.0.0/8", "10.1.0.0/16"])));
    assert_eq!(flags(&place) & (service_flags::LISTED | service_flags::LISTED_ONLY), service_flags::LISTED);
    assert_eq!((verdict(&place, 0, "10.2.3.4"), verdict(&place, 0, "11.0.0.1")), (deny, allow));

    let all_but = list(&["10.1.0.0/16", "192.0.2.7/32"], &["10.0.0.0/8", "10.1.2.0/24"]);
    set(&mut plane, key(0), &listed(all_but.clone()));
    assert!(flags(&place) & service_flags::LISTED_ONLY != 0);
    for (client, expected) in [
        ("10.2.3.4", deny),
        ("10.1.3.4", allow),
        ("10.1.2.3", deny),
        ("192.0.2.7", allow),
        ("192.0.2.8", rest),
    ] {
        assert_eq!(verdict(&place, 0, client), expected, "{client}");
    }
    assert_eq!(seen(&mut plane, key(0)).access, all_but);
    set(&mut plane, key(0), &listed(list(&["0.0.0.0/0"], &["10.0.0.0/8"])));
    assert_eq!((verdict(&place, 0, "10.2.3.4"), verdict(&place, 0, "11.0.0.1")), (deny, allow));

    set(&mut plane, key(0), &settings());
    assert_eq!((flags(&place) & service_flags::GUARDED, inner(&place, "access_v4", 0)), (0, None));
    assert_eq!(seen(&mut plane, key(0)), settings());
}

#[test]
fn packets_of_clients_that_a_list_refuses_are_dropped_and_counted() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    set(&mut plane, key(0), &listed(list(&["10.9.0.0/24"], &["10.9.0.7/32"])));
    let action = |client| wire.send(&wire.syn(client)).0;
    assert_eq!((action(6), action(7), action(7), action(8)), (XDP_TX, XDP_DROP, XDP_DROP, XDP_TX));
    set(&mut plane, key(0), &listed(list(&["10.8.0.0/16"], &[])));
    assert_eq!(action(8), XDP_DROP);
    let denied = plane.refused().unwrap()[&key(0)].denied;
    let newest = denied.newest.unwrap();
    assert_eq!((denied.packets, newest.client), (3, IpAddr::from([10, 9, 0, 8])));
    assert_eq!(plane.counters().unwrap().dropped["denied"].packets, 3);
    set(&mut plane, key(0), &settings());
    assert_eq!(action(7), XDP_TX);
}

#[test]
fn packets_above_a_limit_are_dropped_and_counted() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    let mut one = limited(1);
    one.rate_limit.as_mut().unwrap().prefix_v4 = 32;
    set(&mut plane, key(0), &one);
    let action = |client| wire.send(&wire.syn(client)).0;
    assert_eq!((action(6), action(7)), (XDP_TX, XDP_TX));
    let dropped = (0..20).filter(|_| action(6) == XDP_DROP).count() as u64;
    assert!(dropped >= 10, "{dropped}");
    let limited = plane.refused().unwrap()[&key(0)].rate_limited;
    assert_eq!((limited.packets, limited.newest.unwrap().client), (dropped, IpAddr::from([10, 9, 0, 6])));
}

/// Whoever both lists let in is let in all the while, whichever of them lets all others in.
#[test]
fn no_packet_falls_between_two_lists() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let wire = Wire::new(&place, &interface);
            let mut sent = 0u64;
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(wire.send(&wire.syn(9)).0, XDP_TX, "after {sent} packets");
                sent += 1;
            }
            sent
        });
        let lists = [list(&[], &["10.8.0.0/16"]), list(&["10.9.0.0/16"], &[]), AccessList::default()];
        for round in 0..24usize {
            set(&mut plane, key(0), &listed(lists[round * (1 + round / 12) % 3].clone()));
            if sent.is_finished() {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
        assert!(sent.join().unwrap() > 0);
    });
}

#[test]
fn clients_of_ipv6_are_looked_up_in_a_list_of_theirs() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    let key = ServiceKey { address: "2001:db8::100".parse::<IpAddr>().unwrap().into(), ..key(0) };
    set(&mut plane, key, &listed(list(&["2001:db8::/32", "10.0.0.0/8"], &["2001:db8:1::/48"])));
    let (allow, deny, rest) = (Some(access::ALLOW), Some(access::DENY), Some(access::REST));
    for (client, expected) in [("2001:db8::1", allow), ("2001:db8:1::1", deny), ("2001:db9::1", rest)] {
        assert_eq!(verdict(&place, 0, client), expected, "{client}");
    }
    // One of which no prefix is of that family refuses all the same.
    set(&mut plane, key, &listed(list(&["10.0.0.0/8"], &[])));
    assert_eq!(verdict(&place, 0, "2001:db8::1"), rest);
}

/// An IPv4-mapped source is in no list of IPv4 (RFC 4942, 2.2).
#[test]
fn a_list_of_ipv6_is_for_mapped_sources_too() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    let vip = "2001:db8::100".parse::<Ipv6Addr>().unwrap();
    let key = ServiceKey { address: IpAddr::from(vip).into(), ..key(0) };
    let action = |client: &str| wire.send(&wire.syn_v6(client.parse().unwrap(), vip)).0;
    set(&mut plane, key, &passing(list(&[], &["::/0"])));
    assert_eq!((action("2001:db8::5"), action("::ffff:192.0.2.1")), (XDP_DROP, XDP_DROP));
    set(&mut plane, key, &passing(list(&[], &["::/96"])));
    assert_eq!((action("2001:db8::5"), action("::ffff:192.0.2.1")), (XDP_PASS, XDP_PASS));
}

#[test]
fn what_an_ipv6_client_was_told_holds_for_his_next_packet_until_the_list_is_another() {
    let Some(place) = Place::enter() else { return };
    let (mut plane, interface) = sharing(&place, &[11]);
    let wire = Wire::new(&place, &interface);
    let vip = "2001:db8::100".parse::<Ipv6Addr>().unwrap();
    let key = ServiceKey { address: IpAddr::from(vip).into(), ..key(0) };
    let frame = wire.syn_v6("2001:db8:9::7".parse().unwrap(), vip);
    let action = || wire.send(&frame).0;
    set(&mut plane, key, &passing(list(&["2001:db8:9::/48"], &[])));
    assert_eq!([action(), action()], [XDP_PASS; 2]);
    set(&mut plane, key, &passing(list(&["2001:db8:9::/48"], &["2001:db8:9::7/128"])));
    assert_eq!([action(), action()], [XDP_DROP; 2]);
    // Nothing but what he was told is left, which is enough for him.
    kernel::delete_element(&kernel::open_pin(&place.pins().join("maps/access_v6")), 1);
    assert_eq!(action(), XDP_DROP);
    set(&mut plane, key, &passing(list(&[], &["2001:db8:8::/48"])));
    assert_eq!([action(), action()], [XDP_PASS; 2]);
    set(&mut plane, key, &passing(AccessList::default()));
    assert_eq!(action(), XDP_PASS);
}

#[test]
fn a_list_is_made_anew_only_when_it_changed_and_what_somebody_else_put_there_does_not_stay() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    let wanted = listed(list(&[], &["10.0.0.0/8"]));
    set(&mut plane, key(0), &wanted);
    let first = inner(&place, "access_v4", 0).unwrap();
    set(
        &mut plane,
        key(0),
        &ServiceSettings { transition: std::time::Duration::from_secs(7), ..wanted.clone() },
    );
    assert_eq!(inner(&place, "access_v4", 0), Some(first));
    set(&mut plane, key(0), &listed(list(&[], &["10.0.0.0/9"])));
    assert_ne!(inner(&place, "access_v4", 0), Some(first));
    set(&mut plane, key(0), &wanted);
    assert_eq!(seen(&mut plane, key(0)), wanted);

    let outer = kernel::open_pin(&place.pins().join("maps/access_v4"));
    kernel::delete_element(&outer, 0);
    assert_ne!(seen(&mut plane, key(0)).access, wanted.access, "so that the reconciler repairs it");
    set(&mut plane, key(0), &wanted);
    assert_eq!(seen(&mut plane, key(0)), wanted);
    assert_eq!(verdict(&place, 0, "10.2.3.4"), Some(access::DENY));
}

#[test]
fn the_next_controller_makes_lists_anew_and_keeps_what_counts_for_limits() {
    let Some(place) = Place::enter() else { return };
    let mut first = place.open().unwrap();
    let wanted = ServiceSettings { access: list(&["10.0.0.0/8"], &[]), ..limited(1000) };
    set(&mut first, key(0), &wanted);
    let (before, buckets) = (inner(&place, "access_v4", 0), inner(&place, "limits", 0).unwrap());
    drop(first);
    let mut next = place.open().unwrap();
    assert_eq!(verdict(&place, 0, "10.1.1.1"), Some(access::ALLOW), "it stays in force meanwhile");
    let found = seen(&mut next, key(0));
    assert_ne!(found.access, wanted.access);
    assert_eq!(found.rate_limit, wanted.rate_limit);
    set(&mut next, key(0), &wanted);
    assert_eq!(seen(&mut next, key(0)), wanted);
    assert_ne!(inner(&place, "access_v4", 0), before);
    assert_eq!(inner(&place, "limits", 0), Some(buckets));
    drop(next);
    let mut last = place.open().unwrap();
    set(&mut last, key(0), &settings());
    assert_eq!(seen(&mut last, key(0)), settings());
    assert_eq!((inner(&place, "access_v4", 0), inner(&place, "limits", 0)), (None, None));
}

#[test]
fn limits_have_buckets_of_their_own_while_there_are_any() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    set(&mut plane, key(0), &limited(9_999_999));
    assert_eq!(seen(&mut plane, key(0)), limited(9_999_999), "though the kernel holds a rounded one");
    assert!(flags(&place) & service_flags::GUARDED == service_flags::LIMITS_PACKETS);
    let (packets, flows) = (inner(&place, "limits", 0).unwrap(), inner(&place, "limits", 1));
    assert_eq!(flows, None);
    set(&mut plane, key(0), &limited(5));
    assert_eq!(inner(&place, "limits", 0), Some(packets), "who owes goes on owing");
    let mut both = limited(5);
    both.rate_limit.as_mut().unwrap().flows = Some(Rate { per_second: 1, burst: 1 });
    set(&mut plane, key(0), &both);
    assert!(inner(&place, "limits", 1).is_some());
    assert!((budget::LIMIT * 99 / 100..=budget::LIMIT).contains(&memlock(packets)));
    kernel::delete_element(&kernel::open_pin(&place.pins().join("maps/limits")), 1);
    assert_ne!(seen(&mut plane, key(0)), both);
    set(&mut plane, key(0), &both);
    assert_eq!(seen(&mut plane, key(0)), both);
    set(&mut plane, key(0), &settings());
    assert_eq!((inner(&place, "limits", 0), inner(&place, "limits", 1)), (None, None));
}

#[test]
fn a_new_service_meets_nothing_of_one_that_had_its_id() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    let full = ServiceSettings { access: list(&["10.0.0.0/8"], &[]), ..limited(5) };
    set(&mut plane, key(0), &full);
    let buckets = inner(&place, "limits", 0);
    refuse(&place, 0, [3, 1, 2, 99]);
    assert_eq!(plane.refused().unwrap()[&key(0)].denied.packets, 3);
    plane.remove_service(key(0));
    assert_eq!((inner(&place, "access_v4", 0), inner(&place, "limits", 0)), (None, None));
    // As if an older controller had removed the service: it knows none of this.
    refuse(&place, 0, [3, 1, 2, 99]);
    set(&mut plane, key(1), &limited(5));
    assert_eq!(inner(&place, "access_v4", 0), None);
    assert!(inner(&place, "limits", 0).is_some() && inner(&place, "limits", 0) != buckets);
    assert_eq!(plane.refused().unwrap()[&key(1)], Default::default());
}

/// Notes refused packets in a record, as a program on the first CPU would.
fn refuse(place: &Place, record: u32, words: [u64; 4]) {
    let mut refused: aya::maps::PerCpuArray<MapData, [u64; 4]> = pinned::open(place, "refused");
    let mut values = vec![[0; 4]; aya::util::nr_cpus().unwrap()];
    values[0] = words;
    refused.set(record, values.try_into().unwrap(), 0).unwrap();
}

#[test]
fn what_was_refused_is_told_by_service_and_reason_and_survives_the_controller() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_service(key(1));
    // 10.9.8.7 as an IPv6-mapped address in wire order.
    let client = [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, 10, 9, 8, 7])];
    refuse(&place, 3, [5, client[0], client[1], 1]);
    drop(plane);
    let mut next = place.open().unwrap();
    let refused = next.refused().unwrap();
    assert_eq!(refused[&key(0)], Default::default());
    let told = refused[&key(1)];
    assert_eq!((told.denied.packets, told.rate_limited.packets), (0, 5));
    let newest = told.rate_limited.newest.unwrap();
    assert_eq!(newest.client, IpAddr::from(Ipv4Addr::new(10, 9, 8, 7)));
    assert!(newest.seconds_ago > 0);
}

/// Not for how fast it is on whatever machine this runs, but that it can be told: `--nocapture` shows it.
#[test]
fn a_hundred_thousand_prefixes_are_put_in_place() {
    let Some(place) = Place::enter() else { return };
    let mut plane = place.open().unwrap();
    let many = |shift: u32| {
        let deny =
            (0..100_000u32).map(|n| IpNet::V4(Ipv4Net::new((n << 8 | shift << 30).into(), 24).unwrap()));
        listed(AccessList { allow: Prefixes::default(), deny: deny.collect() })
    };
    set(&mut plane, key(0), &settings());
    for shift in [0, 1] {
        let wanted = many(shift);
        let begun = std::time::Instant::now();
        set(&mut plane, key(0), &wanted);
        let took = begun.elapsed();
        let again = std::time::Instant::now();
        assert_eq!(seen(&mut plane, key(0)), wanted);
        println!("100,000 prefixes: {took:?}; to look at them: {:?}", again.elapsed());
    }
    assert_eq!(verdict(&place, 0, "64.0.1.1"), Some(access::DENY));
    let taken = memlock(inner(&place, "access_v4", 0).unwrap());
    println!("{taken} bytes");
    assert!(taken <= 100_001 * budget::PREFIX);
}

/// Bytes that a map takes, as the kernel accounts for it.
fn memlock(id: u32) -> u64 {
    let map = MapData::from_id(id).unwrap();
    let path = format!("/proc/thread-self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let facts = std::fs::read_to_string(path).unwrap();
    let line = facts.lines().find_map(|line| line.strip_prefix("memlock:")).unwrap();
    line.trim().parse().unwrap()
}
