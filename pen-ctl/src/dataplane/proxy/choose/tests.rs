//! Who gets a connection, and who keeps it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::pool::BackendConfig;

/// Milliseconds for which a failure counts here.
const OUT_FOR: u64 = 30_000;

fn pool(weights: &[u16]) -> Arc<Pool> {
    let backends = weights.iter().zip(8000u16..).map(|(&weight, port)| BackendConfig {
        endpoint: Endpoint::Inet(SocketAddr::from(([10, 0, 0, 1], port))),
        weight,
        soft_limit: None,
        hard_limit: None,
    });
    Arc::new(Pool::new(backends.collect(), Duration::from_millis(OUT_FOR)))
}

fn chooser(weights: &[u16], tracking: Tracking, scheduler: Scheduler) -> Chooser {
    let policy = Policy {
        affinity: Affinity::Client,
        tracking,
        scheduler,
        tracking_timeout: 0,
        tracking_clients: 100_000,
        seed: 1,
    };
    Chooser::new(pool(weights), policy)
}

fn client(number: u32) -> IpAddr {
    if number.is_multiple_of(2) {
        Ipv4Addr::from(0xc000_0200 + number).into()
    } else {
        Ipv6Addr::from((0x2001_0db8 << 96) + u128::from(number)).into()
    }
}

fn choose(chooser: &Chooser, number: u32) -> Option<BackendId> {
    chooser.choose_at(1, client(number), number as u16, &Excluded::nobody())
}

fn shares(chooser: &Chooser, clients: u32) -> BTreeMap<BackendId, u32> {
    let mut shares = BTreeMap::new();
    for number in 0..clients {
        *shares.entry(choose(chooser, number).unwrap()).or_default() += 1;
    }
    shares
}

#[test]
fn the_neighbors_of_one_network_spread_over_all_backends() {
    let chooser = chooser(&[1; 4], Tracking::Off, Scheduler::Maglev);
    let mut shares = BTreeMap::<BackendId, u32>::new();
    for host in 0..=255 {
        let client = Ipv4Addr::new(192, 0, 2, host).into();
        *shares.entry(chooser.choose_at(1, client, 1, &Excluded::nobody()).unwrap()).or_default() += 1;
    }
    assert!(shares.len() == 4 && shares.values().all(|share| (40..90).contains(share)), "{shares:?}");
}

#[test]
fn turns_go_round_by_weight_and_pass_over_who_has_failed_without_favoring_the_next() {
    let chooser = chooser(&[2, 1, 1], Tracking::Off, Scheduler::RoundRobin);
    assert_eq!(shares(&chooser, 400).into_values().collect::<Vec<_>>(), [200, 100, 100]);
    chooser.pool().failed(BackendId(0), 1);
    let shares = shares(&chooser, 400);
    assert_eq!(shares.into_iter().collect::<Vec<_>>(), [(BackendId(1), 200), (BackendId(2), 200)]);
}

#[test]
fn one_connection_at_a_time_tries_a_backend_that_failed_once_its_time_is_over() {
    let chooser = chooser(&[1, 1], Tracking::Off, Scheduler::RoundRobin);
    let failed = BackendId(0);
    chooser.pool().failed(failed, 1);
    let at = |now| {
        (0..6).filter_map(|n| chooser.choose_at(now, client(n), 1, &Excluded::nobody())).collect::<Vec<_>>()
    };
    assert!(!at(OUT_FOR).contains(&failed), "not yet");
    assert_eq!(at(OUT_FOR + 1).iter().filter(|id| **id == failed).count(), 1, "one tries");
    chooser.pool().succeeded(failed);
    assert_eq!(at(OUT_FOR + 1).iter().filter(|id| **id == failed).count(), 3, "all are back");
}

#[test]
fn where_all_have_failed_somebody_is_tried_all_the_same() {
    let chooser = chooser(&[1, 1], Tracking::Full, Scheduler::Maglev);
    chooser.pool().failed(BackendId(0), 1);
    chooser.pool().failed(BackendId(1), 1);
    let first = choose(&chooser, 1).unwrap();
    let mut excluded = Excluded::nobody();
    excluded.add(first);
    let second = chooser.choose_at(1, client(1), 1, &excluded).unwrap();
    assert_ne!(first, second);
    excluded.add(second);
    assert_eq!(
        chooser.choose_at(1, client(1), 1, &excluded),
        None,
        "who refused this connection is not asked again"
    );
}

#[test]
fn a_full_backend_keeps_clients_up_to_the_hard_limit_and_gets_newcomers_up_to_the_soft_one() {
    let endpoint = |port| Endpoint::Inet(SocketAddr::from(([10, 0, 0, 1], port)));
    let backends = vec![
        BackendConfig { endpoint: endpoint(1), weight: 1000, soft_limit: Some(1), hard_limit: Some(2) },
        BackendConfig { endpoint: endpoint(2), weight: 1, soft_limit: None, hard_limit: None },
    ];
    let policy = Policy {
        affinity: Affinity::Client,
        tracking: Tracking::Full,
        scheduler: Scheduler::Maglev,
        tracking_timeout: 0,
        tracking_clients: 1000,
        seed: 1,
    };
    let chooser = Chooser::new(Arc::new(Pool::new(backends, Duration::ZERO)), policy);
    let old = (0..50).find(|&number| choose(&chooser, number) == Some(BackendId(0))).unwrap();
    assert!(chooser.pool().enter(BackendId(0)));
    assert!((100..200).all(|number| choose(&chooser, number) == Some(BackendId(1))), "newcomers");
    assert_eq!(choose(&chooser, old), Some(BackendId(0)), "an old client");
    assert!(chooser.pool().enter(BackendId(0)));
    assert!(!chooser.pool().enter(BackendId(0)), "never more than the hard limit");
    assert_eq!(choose(&chooser, old), Some(BackendId(1)));
    assert_eq!(chooser.pool().connections(BackendId(0)), 2);
}

#[test]
fn somebody_without_an_address_takes_turns() {
    let chooser = chooser(&[1, 1], Tracking::Full, Scheduler::Maglev);
    let nobody = |_| chooser.choose_at(1, Ipv4Addr::UNSPECIFIED.into(), 0, &Excluded::nobody()).unwrap().0;
    assert_eq!((0..4).map(nobody).collect::<Vec<_>>(), [0, 1, 0, 1]);
    assert_eq!(chooser.remembered(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn clients_are_shared_by_weight(weights in prop::collection::vec(1u16..=5, 1..6)) {
        let chooser = chooser(&weights, Tracking::Off, Scheduler::Maglev);
        let clients = 20_000;
        let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        for (id, share) in shares(&chooser, clients) {
            let fair = clients * u32::from(weights[usize::from(id.0)]) / total;
            prop_assert!(share.abs_diff(fair) < fair / 8 + 100, "{:?}: {share} of {fair}", id);
        }
    }

    #[test]
    fn a_client_comes_back_to_its_backend_and_moves_only_when_that_one_cannot_have_it(
        weights in prop::collection::vec(1u16..=5, 2..7),
        failures in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..12),
        turns: bool,
        tracked: bool,
    ) {
        let scheduler = if turns && tracked { Scheduler::RoundRobin } else { Scheduler::Maglev };
        let tracking = if tracked { Tracking::Full } else { Tracking::Off };
        let chooser = chooser(&weights, tracking, scheduler);
        let mut homes: Vec<BackendId> = (0..300).map(|number| choose(&chooser, number).unwrap()).collect();
        let mut out = std::collections::BTreeSet::new();
        for (which, comes_back) in failures {
            let id = BackendId(which.index(weights.len()) as u16);
            let back = comes_back && out.remove(&id);
            if back {
                chooser.pool().succeeded(id);
            } else if out.len() + 1 < weights.len() {
                chooser.pool().failed(id, 1);
                out.insert(id);
            }
            for (number, home) in (0..).zip(&mut homes) {
                let now = choose(&chooser, number).unwrap();
                prop_assert!(!out.contains(&now));
                // Without memory they go back to whom their address names when that one is there again.
                prop_assert!(now == *home || out.contains(home) || !tracked && back, "{number}: {home:?} → {now:?}");
                *home = now;
            }
        }
    }

    #[test]
    fn whoever_refuses_is_followed_by_every_other_one_once(weights in prop::collection::vec(1u16..=5, 1..40), number: u32) {
        let chooser = chooser(&weights, Tracking::Full, Scheduler::Maglev);
        let mut excluded = Excluded::nobody();
        for _ in &weights {
            let id = chooser.choose_at(1, client(number & 0xffff), 1, &excluded).unwrap();
            prop_assert!(!excluded.contains(id));
            excluded.add(id);
        }
        prop_assert_eq!(chooser.choose_at(1, client(number & 0xffff), 1, &excluded), None);
    }
}
