//! Whatever the controller asks for in whatever order, the kernel then holds what the data plane in memory holds.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use pen_ctl::dataplane::fake::FakePlane;
use pen_ctl::dataplane::{
    AccessList, Affinity, DataPlane, HealthStatus, Observed, OnEmpty, Operation, Prefixes, Rate, RateLimit,
    Scheduler, ServiceSettings, Tracking,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use crate::pinned;
use crate::place::Place;
use crate::wants::{address, key, members, serving, settings};

/// Sequences tried, and their length: as many as take some seconds.
const SEQUENCES: u32 = 12;
const LENGTH: usize = 30;

fn some_settings() -> impl Strategy<Value = ServiceSettings> {
    let affinity = prop_oneof![Just(Affinity::Client), Just(Affinity::Flow), Just(Affinity::None)];
    let on_empty = prop_oneof![Just(OnEmpty::Drop), Just(OnEmpty::Pass)];
    (affinity, any::<bool>(), on_empty, 0u64..3, some_access(), some_limits()).prop_map(
        |(affinity, turns, on_empty, timeout, access, rate_limit)| ServiceSettings {
            affinity,
            scheduler: if turns && affinity != Affinity::None {
                Scheduler::RoundRobin
            } else {
                Scheduler::Maglev
            },
            on_empty,
            tracking: if affinity == Affinity::None { Tracking::Off } else { Tracking::Full },
            tracking_timeout: std::time::Duration::from_millis(700 * timeout),
            access,
            rate_limit,
            ..settings()
        },
    )
}

fn some_access() -> impl Strategy<Value = AccessList> {
    let nets = || proptest::sample::subsequence(vec!["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"], 0..=2);
    let prefixes = |all: Vec<&str>| all.iter().map(|net| net.parse().unwrap()).collect::<Prefixes>();
    prop_oneof![
        2 => Just(AccessList::default()),
        1 => nets().prop_map(move |nets| AccessList { allow: prefixes(nets), ..AccessList::default() }),
        1 => nets().prop_map(move |nets| AccessList { deny: prefixes(nets), ..AccessList::default() }),
    ]
}

fn some_limits() -> impl Strategy<Value = Option<RateLimit>> {
    let rate = || proptest::option::of((1u32..10_000_000).prop_map(|n| Rate { per_second: n, burst: n }));
    (rate(), rate()).prop_map(|(packets, flows)| {
        let limits = RateLimit { packets, flows, prefix_v4: 24, prefix_v6: 56 };
        (packets.is_some() || flows.is_some()).then_some(limits)
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let service = || (0u16..3).prop_map(key);
    let backend = || (0u8..5).prop_map(address);
    let health = prop_oneof![Just(HealthStatus::Up), Just(HealthStatus::Down), Just(HealthStatus::Unknown)];
    let target =
        (0u8..4, any::<(bool, bool, bool)>(), health).prop_map(|(mac, (known, usable, local), health)| {
            let mut target = serving(mac);
            target.usable = usable;
            target.serving = usable && known;
            target.health = health;
            target.path = target.path.filter(|_| known).map(|path| pen_ctl::dataplane::BackendPath {
                local,
                vlan: u16::from(mac) * 100,
                inner_vlan: u16::from(mac),
                ..path
            });
            target
        });
    prop_oneof![
        1 => any::<u64>().prop_map(Operation::SetSeed),
        1 => (0u32..3).prop_map(|n| Operation::SetFlood(n * 1000)),
        4 => (service(), some_settings()).prop_map(|(key, settings)| Operation::SetService { key, settings }),
        1 => service().prop_map(|key| Operation::RemoveService { key }),
        8 => (service(), backend(), target)
            .prop_map(|(key, address, target)| Operation::SetBackend { key, address, target }),
        3 => (service(), backend()).prop_map(|(key, address)| Operation::RemoveBackend { key, address }),
        4 => (service(), proptest::collection::btree_set(0u8..5, 0..4)).prop_map(|(key, numbers)| {
            let members = members(&numbers.into_iter().collect::<Vec<_>>());
            Operation::SetTable { key, members }
        }),
    ]
}

#[test]
fn the_kernel_holds_what_was_asked_for() {
    let Some(place) = Place::enter() else { return };
    let kernel = std::cell::RefCell::new(place.open().unwrap());
    // What fails is written down, and met first by whoever runs it again.
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as Box<_>);
    let config =
        Config { cases: SEQUENCES, failure_persistence, source_file: Some(file!()), ..Config::default() };
    let sequences = proptest::collection::vec(operation(), 1..LENGTH);
    TestRunner::new(config)
        .run(&sequences, |operations| {
            let mut kernel = kernel.borrow_mut();
            empty(&mut *kernel);
            let mut model = FakePlane::default();
            let before = kernel.observe().unwrap();
            model.lock().observed.seed = before.seed;
            model.lock().observed.flood_inserts_per_cpu = before.flood_inserts_per_cpu;
            for operation in &operations {
                let (really, as_expected) = (kernel.apply(operation), model.apply(operation));
                prop_assert_eq!(really.is_ok(), as_expected.is_ok(), "{:?}: {:?}", operation, really);
                let expected: Observed = model.observe().unwrap();
                prop_assert_eq!(&settled(kernel.observe().unwrap()), &expected, "after {:?}", operation);
                prop_assert!(pinned::denied(&place).is_empty(), "after {:?}", operation);
            }
            Ok(())
        })
        .unwrap();
}

/// How many slots are changing owner, the data plane in memory does not know.
fn settled(mut observed: Observed) -> Observed {
    observed.services.values_mut().for_each(|service| service.in_transition = 0);
    observed
}

fn empty(kernel: &mut impl DataPlane) {
    for key in kernel.observe().unwrap().services.into_keys() {
        kernel.apply(&Operation::RemoveService { key }).unwrap();
    }
}
