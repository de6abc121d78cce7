//! Entries that are written are read again as they were meant.

use super::*;
use proptest::prelude::*;

fn keys() -> impl Strategy<Value = ServiceKey> {
    let address = prop_oneof![
        (0u8..4).prop_map(|last| IpAddr::from([10, 0, 0, last])),
        (0u16..4).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
    ];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    (address, 0u16..3, protocol).prop_map(|(address, port, protocol)| ServiceKey {
        address: address.into(),
        port,
        protocol,
    })
}

/// What a kernel with HZ = 250 counts.
const TICKS: u64 = 250;

fn rate() -> impl Strategy<Value = Option<Rate>> {
    // Those that come back as they were: one unit of time more or less is less than one a second.
    let rate = (1u32..16_000, 1u32..10_000_000).prop_map(|(per_second, burst)| Rate { per_second, burst });
    proptest::option::of(rate)
}

fn limits() -> impl Strategy<Value = Option<RateLimit>> {
    (rate(), rate(), 0u8..=32, 0u8..=128).prop_map(|(packets, flows, prefix_v4, prefix_v6)| {
        let limits = RateLimit { packets, flows, prefix_v4, prefix_v6 };
        (packets.is_some() || flows.is_some()).then_some(limits)
    })
}

fn settings() -> impl Strategy<Value = ServiceSettings> {
    let affinity = prop_oneof![Just(Affinity::Client), Just(Affinity::Flow)];
    let tracking = prop_oneof![Just(Tracking::Full), Just(Tracking::Transitions)];
    let scheduler = prop_oneof![Just(Scheduler::Maglev), Just(Scheduler::RoundRobin)];
    (affinity, scheduler, tracking, 0u64..1000, 0u64..1000, any::<bool>(), limits()).prop_map(
        |(affinity, scheduler, tracking, timeout, transition, pass, rate_limit)| ServiceSettings {
            affinity,
            scheduler,
            tracking,
            tracking_timeout: Duration::from_secs(timeout),
            transition: Duration::from_secs(transition),
            on_empty: if pass { OnEmpty::Pass } else { OnEmpty::Drop },
            access: AccessList::default(),
            rate_limit,
            proxy: None,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_found_again(
        wanted in proptest::collection::btree_map(keys(), (settings(), any::<u16>(), 0u32..2), 0..30),
    ) {
        let services: Services = wanted
            .iter()
            .map(|(key, (settings, id, half))| (*key, entry_of(key.ip().unwrap(), key, settings, *id, *half, TICKS)))
            .collect();
        let half = encode(&services, &[]).unwrap();
        prop_assert_eq!(&decode(&half), &services);
        for (key, (settings, ..)) in wanted {
            prop_assert_eq!(settings_of(&services[&key], TICKS), settings);
            prop_assert_eq!(half.entries[position(&half, &key).unwrap()], services[&key]);
        }
    }
}

#[test]
fn a_service_whose_vip_was_damaged_is_not_found() {
    let key = ServiceKey { address: [10, 0, 0, 1].into(), port: 80, protocol: Protocol::Tcp };
    let entry = ServiceEntry {
        address: key.ip().unwrap().into(),
        port: 80u16.to_be(),
        protocol: TCP,
        kind: entry_kind::SERVICE,
        ..Default::default()
    };
    let mut half = encode(&Services::from([(key, entry)]), &[]).unwrap();
    assert_eq!(decode(&half).len(), 1);
    for entry in half.entries.iter_mut().filter(|entry| entry.kind == entry_kind::VIP) {
        entry.flags = 0;
    }
    assert_eq!(decode(&half).len(), 0);
}

#[test]
fn a_fraction_of_a_second_is_not_forever() {
    assert_eq!(seconds(Duration::from_millis(1)), 1);
    assert_eq!(seconds(Duration::ZERO), 0);
}

#[test]
fn any_rate_is_written_again_as_it_was_written_first() {
    for ticks in [100, 250, 300, 1000] {
        for per_second in
            (0..24).map(|power| 1u32 << power).chain([3, 999, 16_001, 123_456, 9_999_999, 10_000_000])
        {
            let written = limit_of(Rate { per_second, burst: 7 }, ticks);
            assert_eq!(
                limit_of(rate_of(written, ticks), ticks),
                written,
                "{per_second} a second, HZ {ticks}"
            );
            let told = f64::from(rate_of(written, ticks).per_second);
            let error = (told / f64::from(per_second) - 1.0).abs();
            assert!(error < 0.05, "{per_second} a second became {told}, HZ {ticks}");
        }
    }
}

#[test]
fn packets_are_told_of_a_list_and_whether_it_lets_everybody_else_in() {
    let key = ServiceKey { address: [10, 0, 0, 1].into(), port: 80, protocol: Protocol::Tcp };
    let some = || Prefixes::from_iter(["10.0.0.0/8".parse::<IpNet>().unwrap()]);
    let none = Prefixes::default;
    let plain = settings_of(&ServiceEntry::EMPTY, TICKS);
    for (allow, deny, flags) in [
        (none(), none(), 0),
        (none(), some(), service_flags::LISTED),
        (some(), none(), service_flags::LISTED | service_flags::LISTED_ONLY),
    ] {
        let settings = ServiceSettings { access: AccessList { allow, deny }, ..plain.clone() };
        let entry = entry_of(key.ip().unwrap(), &key, &settings, 0, 0, TICKS);
        assert_eq!(entry.flags, flags);
        let listed = flags != 0;
        let read = settings_of(&entry, TICKS).access;
        assert!(if listed { read != settings.access && !read.is_empty() } else { read.is_empty() });
    }
}
