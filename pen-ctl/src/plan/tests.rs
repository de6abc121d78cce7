//! Plans lead from any state to any target, each step of the way safe.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::dataplane::fake::FakePlane;
use crate::dataplane::{
    AccessList, Affinity, AttachMode, BackendPath, DataPlane, HealthStatus, Mac, OnEmpty, Protocol,
    Scheduler, ServiceSettings, Tracking,
};

fn key(n: u8) -> ServiceKey {
    ServiceKey { address: [10, 0, 0, 100 + n].into(), port: 80, protocol: Protocol::Tcp }
}

fn address(n: u8) -> BackendAddress {
    [10, 0, 0, n].into()
}

fn backend(serving: bool, mac: u8) -> BackendTarget {
    let path =
        BackendPath { mac: Mac([2, 0, 0, 0, 0, mac]), ifindex: 2, vlan: 0, inner_vlan: 0, local: false };
    BackendTarget {
        path: Some(path),
        usable: serving,
        serving,
        health: HealthStatus::Up,
        health_since: 7,
        proxy: None,
    }
}

fn service(backends: BTreeMap<u8, (bool, u8, u16)>, tracking: Tracking, waits: bool) -> ServiceTarget {
    let serving = backends.iter().filter(|(_, (serving, ..))| *serving);
    let members =
        serving.map(|(n, (_, _, weight))| Member { address: address(*n), weight: *weight }).collect();
    ServiceTarget {
        settings: ServiceSettings {
            affinity: Affinity::Client,
            scheduler: Scheduler::Maglev,
            tracking,
            tracking_timeout: Duration::ZERO,
            transition: Duration::from_secs(600),
            on_empty: OnEmpty::Drop,
            access: AccessList::default(),
            rate_limit: None,
            proxy: None,
        },
        backends: backends
            .iter()
            .map(|(n, (serving, mac, _))| (address(*n), backend(*serving, *mac)))
            .collect(),
        members: (!waits).then_some(members),
    }
}

fn interface(index: u32, announce: bool) -> InterfaceTarget {
    let mac = Mac([2, 0, 0, 0, 1, 0]);
    InterfaceTarget { ifindex: index, mac, master_mac: None, mode: AttachMode::Auto, announce }
}

prop_compose! {
    fn any_service()(
        backends in prop::collection::btree_map(1u8..6, (any::<bool>(), 0u8..2, 1u16..3), 0..5),
        off in any::<bool>(),
        waits in prop::bool::weighted(0.2),
    ) -> ServiceTarget {
        service(backends, if off { Tracking::Off } else { Tracking::Full }, waits)
    }
}

prop_compose! {
    fn any_target()(
        seed in 0u64..2,
        flood_inserts_per_cpu in 0u32..2,
        interfaces in prop::collection::btree_map("eth[0-2]", (2u32..5, any::<bool>()), 0..3),
        services in prop::collection::btree_map(0u8..3, any_service(), 0..3),
    ) -> Target {
        Target {
            seed,
            flood_inserts_per_cpu,
            interfaces: interfaces.into_iter().map(|(name, (index, a))| (name, interface(index, a))).collect(),
            services: services.into_iter().map(|(n, service)| (key(n), service)).collect(),
        }
    }
}

/// Carries out a plan; the fake plane refuses a table that names who is absent, at every step.
fn carry_out(plane: &mut FakePlane, target: &Target) -> Vec<Operation> {
    let steps = plan(target, &plane.observe().unwrap());
    for step in &steps {
        let before = plane.observe().unwrap();
        plane.apply(step).unwrap();
        newcomers_meet_only_the_serving(&before, &plane.observe().unwrap(), step);
    }
    steps
}

/// A table that is written names only who serves, and nobody stops serving while a table names them.
fn newcomers_meet_only_the_serving(before: &Observed, after: &Observed, step: &Operation) {
    for (key, service) in &after.services {
        for member in service.members.iter().flatten() {
            let was_so = before.services.get(key).is_some_and(|before| {
                before.members.iter().flatten().any(|m| m == member)
                    && before.backends.get(&member.address).is_some_and(|backend| !backend.serving)
            });
            assert!(
                was_so || service.backends[&member.address].serving,
                "{step:?} lets {member:?} meet newcomers"
            );
        }
    }
}

fn assert_reached(plane: &mut FakePlane, target: &Target) {
    let observed = plane.observe().unwrap();
    assert_eq!(observed.seed, target.seed);
    assert_eq!(observed.flood_inserts_per_cpu, target.flood_inserts_per_cpu);
    assert!(observed.services.keys().eq(target.services.keys()));
    for (key, wanted) in &target.services {
        let found = &observed.services[key];
        assert_eq!((&found.settings, &found.backends), (&wanted.settings, &wanted.backends));
        if let Some(members) = &wanted.members {
            assert_eq!(found.members.as_ref(), Some(members));
        }
    }
    let interfaces: BTreeMap<_, _> =
        observed.interfaces.into_iter().map(|(name, found)| (name, found.target)).collect();
    assert_eq!(interfaces, target.interfaces);
}

proptest! {
    #[test]
    fn any_plan_reaches_its_target_safely_and_is_then_empty(targets in prop::collection::vec(any_target(), 1..4)) {
        let mut plane = FakePlane::default();
        for mut target in targets {
            // A table waits only where none was built yet.
            for (key, service) in &mut target.services {
                let has_table = plane.lock().observed.services.get(key).is_some_and(|found| found.has_table);
                if has_table && service.members.is_none() {
                    service.members = Some(Vec::new());
                    service.backends.values_mut().for_each(|backend| backend.serving = false);
                }
            }
            carry_out(&mut plane, &target);
            assert_reached(&mut plane, &target);
            prop_assert_eq!(plan(&target, &plane.observe().unwrap()), vec![]);
        }
    }

    #[test]
    fn a_new_seed_renews_every_table_once(mut target in any_target()) {
        let mut plane = FakePlane::default();
        carry_out(&mut plane, &target);
        target.seed += 10;
        let steps = carry_out(&mut plane, &target);
        let tables = steps.iter().filter(|step| matches!(step, Operation::SetTable { .. })).count();
        let filled = target.services.values().filter(|s| s.members.as_ref().is_some_and(|m| !m.is_empty())).count();
        prop_assert_eq!(tables, filled);
        prop_assert_eq!(&steps[0], &Operation::SetSeed(target.seed));
    }
}

fn one(backends: &[(u8, bool)]) -> Target {
    let backends = backends.iter().map(|(n, serving)| (*n, (*serving, 0, 1))).collect();
    let services = BTreeMap::from([(key(0), service(backends, Tracking::Full, false))]);
    Target { seed: 1, services, ..Target::default() }
}

fn kinds(steps: &[Operation]) -> Vec<&'static str> {
    let kind = |step: &Operation| match step {
        Operation::SetBackend { .. } => "backend",
        Operation::SetTable { .. } => "table",
        Operation::RemoveBackend { .. } => "remove",
        Operation::RemoveService { .. } => "remove service",
        Operation::SetService { .. } => "service",
        Operation::SetSeed(_) => "seed",
        Operation::SetFlood(_) => "flood",
        Operation::Attach { .. } => "attach",
        Operation::Detach { .. } => "detach",
    };
    steps.iter().map(kind).collect()
}

#[test]
fn the_table_forgets_who_stops_before_it_is_marked_and_names_who_starts_after() {
    let mut plane = FakePlane::default();
    assert_eq!(kinds(&carry_out(&mut plane, &one(&[(1, true)]))), ["seed", "service", "backend", "table"]);
    assert_eq!(kinds(&carry_out(&mut plane, &one(&[(1, true), (2, true)]))), ["backend", "table"]);
    assert_eq!(kinds(&carry_out(&mut plane, &one(&[(1, false), (2, true)]))), ["table", "backend"]);
    assert_eq!(kinds(&carry_out(&mut plane, &one(&[(2, true)]))), ["remove"]);
    assert_eq!(kinds(&carry_out(&mut plane, &one(&[]))), ["table", "remove"]);
}

#[test]
fn another_limit_for_floods_is_all_that_is_set() {
    let mut plane = FakePlane::default();
    let target = one(&[(1, true)]);
    carry_out(&mut plane, &target);
    let target = Target { flood_inserts_per_cpu: 5, ..target };
    assert_eq!(carry_out(&mut plane, &target), [Operation::SetFlood(5)]);
    assert_eq!(carry_out(&mut plane, &target), []);
}

#[test]
fn an_interface_that_was_renamed_is_let_go_first() {
    let mut plane = FakePlane::default();
    let named = |name: &str, index| {
        let interfaces = BTreeMap::from([(name.to_owned(), interface(index, true))]);
        Target { interfaces, ..Target::default() }
    };
    carry_out(&mut plane, &named("eth0", 2));
    assert_eq!(kinds(&carry_out(&mut plane, &named("lan0", 2))), ["detach", "attach"]);
    assert_eq!(kinds(&carry_out(&mut plane, &named("eth1", 3))), ["attach", "detach"]);
    plane.lock().observed.interfaces.get_mut("eth1").unwrap().attached = false;
    assert_eq!(
        kinds(&carry_out(&mut plane, &named("eth1", 3))),
        ["attach"],
        "what someone else undid is repaired"
    );
}

#[test]
fn a_table_that_is_not_known_is_written_anew() {
    let mut plane = FakePlane::default();
    let target = one(&[(1, true)]);
    carry_out(&mut plane, &target);
    plane.lock().observed.services.get_mut(&key(0)).unwrap().members = None;
    assert_eq!(kinds(&carry_out(&mut plane, &target)), ["table"]);
}
