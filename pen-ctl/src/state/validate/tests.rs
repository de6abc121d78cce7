//! Each rule of a desired state, broken once.

use super::*;
use crate::check::{Check, Kind as CheckKind, Pace};
use crate::dataplane::Scheduler;
use crate::state::spec::{BackendSpec, ServiceSpec};

mod guard;
mod kinds;

fn web() -> ServiceSpec {
    toml::from_str(
        "name = 'web'\nvip = '10.0.0.100:80/tcp'\nbackend = [{ address = '10.0.0.11' }, { address = '10.0.0.12' }]",
    )
    .unwrap()
}

fn with(services: &[ServiceSpec]) -> Desired {
    let mut desired = Desired::new(1);
    desired.services = services.iter().map(|spec| spec.complete().unwrap()).collect();
    desired
}

fn refused(desired_state: &Desired) -> String {
    let error = desired(desired_state, Kind::Xdp).unwrap_err();
    assert!(!error.hint.is_empty(), "{error} says not what to do");
    assert!(!error.to_string().contains('\n'), "{error} is more than one line");
    error.to_string()
}

#[track_caller]
fn service_refused(spec: ServiceSpec, why: &str) {
    let error = refused(&with(&[spec]));
    assert!(error.contains(why), "{error}");
}

#[track_caller]
fn backend_refused(backend: &str, why: &str) {
    let backend: BackendSpec = toml::from_str(backend).unwrap();
    let error = refused(&with(&[ServiceSpec { backends: vec![backend], ..web() }]));
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_plain_service_is_fine() {
    desired(&with(&[web()]), Kind::Xdp).unwrap();
}

#[test]
fn odd_names_are_refused_and_say_which_characters_are_allowed() {
    for name in ["", "a b", "web/1", "-web", "wéb", "a\nb", &"x".repeat(64)] {
        service_refused(ServiceSpec { name: Some(name.into()), ..web() }, "letters a–z");
    }
}

#[test]
fn vips_must_be_reachable_addresses() {
    for (vip, why) in [
        ("0.0.0.0:80/tcp", "unspecified"),
        ("127.0.0.1:80/tcp", "loopback"),
        ("224.0.0.1:80/tcp", "multicast"),
        ("240.1.2.3:80/tcp", "which health checks keep for themselves"),
        ("[fd70:656e:9c4d::1]:80/tcp", "which health checks keep for themselves"),
        ("255.255.255.255:80/tcp", "broadcast"),
        ("[::1]:80/tcp", "loopback"),
        ("[ff02::1]:80/tcp", "multicast"),
        ("[fe80::1]:80/tcp", "link-local"),
        ("[::ffff:10.0.0.1]:80/tcp", "written as IPv6"),
    ] {
        service_refused(ServiceSpec { vip: Some(vip.parse().unwrap()), ..web() }, why);
    }
}

#[test]
fn backends_must_be_reachable_hosts_of_the_same_family_and_not_a_vip() {
    backend_refused("address = '2001:db8::1'", "is IPv6 but the VIP 10.0.0.100 is IPv4");
    backend_refused("address = '10.0.0.100'", "own VIP");
    backend_refused("address = '127.0.0.1'", "loopback");
    backend_refused("address = '239.1.1.1'", "multicast");
    backend_refused("address = '10.0.0.11'\nvlan = 5", "no MAC");
    backend_refused("address = '10.0.0.11'\nmac = 'ff:ff:ff:ff:ff:ff'", "no single host");
    for (weight, vlan) in [(0, None), (1001, None), (1, Some(0)), (1, Some(4095))] {
        let mut state = with(&[web()]);
        state.services[0].backends[0].weight = weight;
        state.services[0].backends[0].vlan = vlan;
        assert!(refused(&state).contains("out of range"));
    }
    let other = ServiceSpec {
        name: Some("dns".into()),
        vip: Some("10.0.0.11:53/udp".parse().unwrap()),
        ..ServiceSpec::default()
    };
    assert!(refused(&with(&[web(), other])).contains("the VIP of service dns"));
}

#[test]
fn nothing_is_there_twice() {
    assert!(refused(&with(&[web(), web()])).contains("service web is there already"));
    let renamed = ServiceSpec { name: Some("other".into()), ..web() };
    assert!(refused(&with(&[web(), renamed])).contains("belongs to service web already"));
    let twice = web().backends[0].clone();
    assert!(
        refused(&with(&[ServiceSpec { backends: vec![twice.clone(), twice], ..web() }])).contains("already")
    );
}

#[test]
fn more_services_than_fit_are_refused() {
    let many = |count: u32| {
        let one = |i: u32| ServiceSpec {
            name: Some(format!("s{i}")),
            vip: Some(format!("10.1.{}.{}:80/tcp", i / 256, i % 256).parse().unwrap()),
            ..ServiceSpec::default()
        };
        with(&(0..count).map(one).collect::<Vec<_>>())
    };
    desired(&many(abi::MAX_SERVICES), Kind::Xdp).unwrap();
    assert!(refused(&many(abi::MAX_SERVICES + 1)).contains("too many"));
}

#[test]
fn health_and_times_stay_in_range() {
    let health = |text: &str| ServiceSpec { health: Some(Some(text.parse().unwrap())), ..web() };
    service_refused(health("tcp,interval=1ms"), "interval = 1ms");
    let with_pace = |pace| Health::Checked(Box::new(Check { pace, ..Check::of(CheckKind::Tcp) }));
    let of = |health| ServiceSpec { health: Some(Some(health)), ..web() };
    service_refused(of(with_pace(Pace { rise: 0, ..Pace::default() })), "rise = 0");
    let port = Check { port: Some(0), ..Check::of(CheckKind::Tcp) };
    service_refused(of(Health::Checked(Box::new(port))), "port 0");
    let every_port = ServiceSpec { vip: Some("10.0.0.100:*/tcp".parse().unwrap()), ..web() };
    desired(&with(std::slice::from_ref(&every_port)), Kind::Xdp).unwrap();
    service_refused(
        ServiceSpec { health: Some(Some("tcp".parse().unwrap())), ..every_port },
        "no port to check",
    );
    let half_a_second = Some(Duration::from_millis(1500));
    service_refused(ServiceSpec { tracking_timeout: half_a_second, ..web() }, "whole seconds");
    service_refused(ServiceSpec { transition: Some(Duration::ZERO), ..web() }, "too short");
}

#[test]
fn affinity_none_implies_tracking_off_and_refuses_any_other() {
    let none = ServiceSpec { affinity: Some(Affinity::None), ..web() };
    assert_eq!(none.complete().unwrap().tracking, Tracking::Off);
    service_refused(ServiceSpec { tracking: Some(Tracking::Full), ..none }, "must be `off`");
}

#[test]
fn interface_names_obey_the_kernels_rules() {
    for name in ["", ".", "a/b", "a b", "sixteen-letters-"] {
        let mut state = Desired::new(1);
        state.interfaces = vec![toml::from_str(&format!("name = '{name}'")).unwrap()];
        assert!(refused(&state).contains("interface name"));
    }
}

#[test]
fn round_robin_remembers_everyone_or_is_refused() {
    let turns = ServiceSpec { scheduler: Some(Scheduler::RoundRobin), ..web() };
    desired(&with(std::slice::from_ref(&turns)), Kind::Xdp).unwrap();
    service_refused(ServiceSpec { affinity: Some(Affinity::None), ..turns.clone() }, "affinity `none`");
    for tracking in [Tracking::Off, Tracking::Transitions] {
        service_refused(ServiceSpec { tracking: Some(tracking), ..turns.clone() }, "tracking `full`");
    }
    let many = (0..=abi::RING_TURNS as u32).map(|n| BackendSpec {
        address: Some(std::net::Ipv4Addr::from(0x0a01_0000 + n).into()),
        ..BackendSpec::default()
    });
    service_refused(ServiceSpec { backends: many.collect(), ..turns.clone() }, "4097 backends are too many");

    // It implies tracking `full`, also for a service that had another.
    let mut service = ServiceSpec { tracking: Some(Tracking::Off), ..web() }.complete().unwrap();
    turns.change(&mut service);
    assert_eq!(service.tracking, Tracking::Full);
}
