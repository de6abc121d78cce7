//! Who gets a connection, and who keeps it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::pool::{BackendConfig, Member, Place, Role};

/// Milliseconds for which a failure counts here.
const OUT_FOR: u64 = 30_000;

/// A service whose backends come and go, on a clock that only a test moves.
struct Bench {
    chooser: Chooser,
    rules: Rules,
    pool: Pool,
    generations: u16,
}

impl Bench {
    fn new(tracking: Tracking, scheduler: Scheduler) -> Bench {
        let policy = Policy { affinity: Affinity::Client, tracking, scheduler, tracking_timeout: 0, seed: 1 };
        Bench {
            chooser: Chooser::new(100_000),
            rules: Rules::new(policy),
            pool: Pool::empty(),
            generations: 0,
        }
    }

    fn set(&mut self, backends: &[BackendConfig]) {
        let member = |id, endpoint: &Endpoint| {
            self.generations += 1;
            Member::new(id, self.generations, endpoint.clone(), 1)
        };
        self.pool = self.pool.next(backends, 1, false, member);
    }

    fn place(&self, id: BackendId) -> &Place {
        self.pool.place(id).unwrap()
    }

    fn fails(&self, id: BackendId) {
        self.place(id).member.failed(1, OUT_FOR, "refused");
    }

    fn choose_at(&self, now: u64, client: IpAddr, port: u16, excluded: &Excluded) -> Option<BackendId> {
        self.chooser.choose((&self.rules, &self.pool), (now, OUT_FOR), (client, port), excluded)
    }
}

fn backend(port: u16, weight: u16) -> BackendConfig {
    let endpoint = Endpoint::Inet(SocketAddr::from(([10, 0, 0, 1], port)));
    BackendConfig { weight, ..BackendConfig::new(endpoint) }
}

fn chooser(weights: &[u16], tracking: Tracking, scheduler: Scheduler) -> Bench {
    let mut bench = Bench::new(tracking, scheduler);
    let backends = weights.iter().zip(8000u16..).map(|(&weight, port)| backend(port, weight));
    bench.set(&backends.collect::<Vec<_>>());
    bench
}

fn client(number: u32) -> IpAddr {
    if number.is_multiple_of(2) {
        Ipv4Addr::from(0xc000_0200 + number).into()
    } else {
        Ipv6Addr::from((0x2001_0db8 << 96) + u128::from(number)).into()
    }
}

fn choose(chooser: &Bench, number: u32) -> Option<BackendId> {
    chooser.choose_at(1, client(number), number as u16, &Excluded::nobody())
}

fn shares(chooser: &Bench, clients: u32) -> BTreeMap<BackendId, u32> {
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
    chooser.fails(BackendId(0));
    let shares = shares(&chooser, 400);
    assert_eq!(shares.into_iter().collect::<Vec<_>>(), [(BackendId(1), 200), (BackendId(2), 200)]);
}

#[test]
fn one_connection_at_a_time_tries_a_backend_that_failed_once_its_time_is_over() {
    let chooser = chooser(&[1, 1], Tracking::Off, Scheduler::RoundRobin);
    let failed = BackendId(0);
    chooser.fails(failed);
    let at = |now| {
        (0..6).filter_map(|n| chooser.choose_at(now, client(n), 1, &Excluded::nobody())).collect::<Vec<_>>()
    };
    assert!(!at(OUT_FOR).contains(&failed), "not yet");
    assert_eq!(at(OUT_FOR + 1).iter().filter(|id| **id == failed).count(), 1, "one tries");
    chooser.place(failed).member.succeeded();
    assert_eq!(at(OUT_FOR + 1).iter().filter(|id| **id == failed).count(), 3, "all are back");
}

#[test]
fn where_all_have_failed_somebody_is_tried_all_the_same() {
    let chooser = chooser(&[1, 1], Tracking::Full, Scheduler::Maglev);
    chooser.fails(BackendId(0));
    chooser.fails(BackendId(1));
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
    let mut chooser = Bench::new(Tracking::Full, Scheduler::Maglev);
    let limited = BackendConfig { soft_limit: Some(1), hard_limit: Some(2), ..backend(1, 1000) };
    chooser.set(&[limited, backend(2, 1)]);
    let old = (0..50).find(|&number| choose(&chooser, number) == Some(BackendId(0))).unwrap();
    assert!(chooser.place(BackendId(0)).enter());
    assert!((100..200).all(|number| choose(&chooser, number) == Some(BackendId(1))), "newcomers");
    assert_eq!(choose(&chooser, old), Some(BackendId(0)), "an old client");
    assert!(chooser.place(BackendId(0)).enter());
    assert!(!chooser.place(BackendId(0)).enter(), "never more than the hard limit");
    assert_eq!(choose(&chooser, old), Some(BackendId(1)));
    assert_eq!(chooser.place(BackendId(0)).member.connections(), 2);
}

#[test]
fn somebody_without_an_address_takes_turns() {
    let chooser = chooser(&[1, 1], Tracking::Full, Scheduler::Maglev);
    let nobody = |_| chooser.choose_at(1, Ipv4Addr::UNSPECIFIED.into(), 0, &Excluded::nobody()).unwrap().0;
    assert_eq!((0..4).map(nobody).collect::<Vec<_>>(), [0, 1, 0, 1]);
    assert_eq!(chooser.chooser.memory.len(), 0);
}

#[test]
fn who_stands_by_is_asked_when_everybody_who_serves_fails_lowest_priority_first() {
    let mut chooser = Bench::new(Tracking::Full, Scheduler::Maglev);
    let standby = |port, priority| BackendConfig { role: Role::Standby(priority), ..backend(port, 1) };
    chooser.set(&[standby(3, 2), standby(4, 1), backend(1, 1), backend(2, 1)]);
    let [last, next, one, other] = [0, 1, 2, 3].map(BackendId);
    assert!((0..100).all(|number| [one, other].contains(&choose(&chooser, number).unwrap())));
    chooser.fails(one);
    assert!((0..100).all(|number| choose(&chooser, number) == Some(other)), "somebody serves still");
    chooser.fails(other);
    assert!((0..100).all(|number| choose(&chooser, number) == Some(next)));
    chooser.fails(next);
    assert!((0..100).all(|number| choose(&chooser, number) == Some(last)));
    chooser.fails(last);
    assert!(choose(&chooser, 1).is_some(), "better somebody who failed than nobody");
}

#[test]
fn who_drains_keeps_its_clients_and_gets_no_newcomer() {
    let mut chooser = chooser(&[1, 1], Tracking::Full, Scheduler::Maglev);
    let homes: Vec<_> = (0..100).map(|number| choose(&chooser, number).unwrap()).collect();
    chooser.set(&[BackendConfig { role: Role::Keeping, ..backend(8000, 1) }, backend(8001, 1)]);
    assert_eq!((0..100).map(|number| choose(&chooser, number).unwrap()).collect::<Vec<_>>(), homes);
    assert!((100..200).all(|number| choose(&chooser, number) == Some(BackendId(1))));
    chooser.set(&[BackendConfig { role: Role::Out, ..backend(8000, 1) }, backend(8001, 1)]);
    assert!((0..100).all(|number| choose(&chooser, number) == Some(BackendId(1))), "down");
    chooser.set(&[backend(8000, 1), backend(8001, 1)]);
    assert!((0..100).all(|number| choose(&chooser, number) == Some(BackendId(1))), "who moved stays");
}

#[test]
fn a_client_of_a_backend_that_was_removed_never_ends_up_with_who_got_its_number() {
    let mut chooser = chooser(&[1, 1], Tracking::Full, Scheduler::Maglev);
    let moved: Vec<u32> = (0..200).filter(|&number| choose(&chooser, number) == Some(BackendId(0))).collect();
    chooser.set(&[backend(8001, 1)]);
    assert_eq!(chooser.pool.places().count(), 1);
    // The newcomer may have the number of the one that has gone, but not its clients.
    chooser.set(&[backend(8001, 1), BackendConfig { role: Role::Keeping, ..backend(9000, 1) }]);
    assert_eq!(chooser.place(BackendId(0)).member.generation(), 3);
    assert!(moved.iter().all(|&number| choose(&chooser, number) == Some(BackendId(1))));
}

#[test]
fn least_connections_goes_by_weight_and_turns_among_equals() {
    let mut chooser = chooser(&[2, 1, 1], Tracking::Off, Scheduler::LeastConnections);
    let open: Vec<u16> = (0..8)
        .map(|number| {
            let id = choose(&chooser, number).unwrap();
            assert!(chooser.place(id).enter());
            id.0
        })
        .collect();
    let count = |id| open.iter().filter(|one| **one == id).count();
    assert_eq!([0, 1, 2].map(count), [4, 2, 2], "{open:?}");
    for _ in 0..2 {
        chooser.place(BackendId(2)).member.leave();
    }
    assert_eq!(choose(&chooser, 1), Some(BackendId(2)));
    chooser.set(&[backend(8000, 2), backend(8001, 1), BackendConfig { role: Role::Out, ..backend(8002, 1) }]);
    assert_ne!(choose(&chooser, 1), Some(BackendId(2)));
}

#[test]
fn least_connections_with_tracking_brings_a_client_back() {
    let chooser = chooser(&[1; 4], Tracking::Full, Scheduler::LeastConnections);
    let home = choose(&chooser, 1).unwrap();
    for _ in 0..9 {
        assert!(chooser.place(home).enter());
        assert_eq!(choose(&chooser, 1), Some(home));
    }
    assert_ne!(choose(&chooser, 2), Some(home));
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
                chooser.place(id).member.succeeded();
            } else if out.len() + 1 < weights.len() {
                chooser.fails(id);
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
