//! The controller of a proxy: no interfaces, no MACs, the proxy's rules, and connections for everybody to see.

use super::*;
use crate::api::Interfaces;
use crate::api::configuration::How;
use crate::api::document::InterfaceState;
use crate::dataplane::{Connections, Kind, ServiceConnections};

const APP: &str = "/run/app.sock";

/// A proxy whose machine tells of no interfaces.
fn proxied() -> Bench {
    let mut bench = Bench::not_started();
    bench.plane.lock().kind = Kind::Proxy;
    bench.hear([Event::Links(Links::new())]);
    bench
}

fn add(service: &str, address: &str) -> Request {
    let spec = BackendSpec { address: Some(address.parse().unwrap()), ..BackendSpec::default() };
    Request::BackendAdd { service: service.into(), spec }
}

fn up(key: ServiceKey, address: &str) -> Event {
    let detail = "connected in 0.1 ms".to_owned();
    let (address, advice) = (address.parse().unwrap(), Advice::default());
    Event::Health { key, address, status: HealthStatus::Up, detail, ground: Ground::Result, advice }
}

/// With `web` on two backends that are up: one on a port of its own, one on a Unix socket.
fn with_web() -> Bench {
    let mut bench = proxied();
    bench.done(add_service("web", "10.0.0.100:80/tcp"));
    bench.done(add("web", "10.0.0.11:8080"));
    bench.done(add("web", APP));
    bench.hear([up(vip(), "10.0.0.11:8080"), up(vip(), APP)]);
    bench
}

#[test]
fn backends_serve_as_soon_as_they_answer_whatever_the_interfaces() {
    let mut bench = with_web();
    let status = bench.status();
    assert!(status.services[0].backends.iter().all(|backend| backend.serving), "{status:?}");
    assert_eq!(bench.plane.lock().observed.services[&vip()].members.as_ref().unwrap().len(), 2);
    let asked = bench.asked.0.lock().unwrap();
    assert!(asked.watched.is_empty(), "the system finds the way");
    let checked: Vec<_> =
        asked.probes.iter().map(|probe| (probe.address.to_string(), &probe.check)).collect();
    assert!(checked.iter().any(|(address, check)| address == "10.0.0.11:8080" && check.port == Some(8080)));
    assert!(checked.iter().any(|(address, _)| address == APP));
}

#[test]
fn udp_backends_and_unix_listeners_work_by_default() {
    let mut bench = proxied();
    bench.done(add_service("log", "0.0.0.0:514/udp"));
    bench.done(add("log", "10.0.0.11"));
    assert!(bench.status().services[0].backends[0].serving, "UDP is not checked: up at once");
    bench.done(add_service("app", APP));
    bench.done(add("app", "127.0.0.1:8080"));
    let asked = bench.asked.0.lock().unwrap();
    assert_eq!(asked.probes.len(), 1, "what listens on a Unix socket has its backends connected to");
}

#[test]
fn nothing_is_attached_and_interfaces_of_before_are_kept_and_shown_as_unused() {
    let mut bench = Bench::new();
    bench.done(attach("eth0"));
    bench.plane.lock().observed.interfaces.clear();
    bench.plane.lock().kind = Kind::Proxy;
    bench.start(Options::default());
    bench.hear([Event::Links(Links::new())]);
    let status = bench.status();
    assert_eq!(status.interfaces[0].state, InterfaceState::Unused);
    assert_eq!(status.warnings, [] as [String; 0]);
    assert!(bench.plane.lock().observed.interfaces.is_empty());
    bench.refused(attach("eth1"), "attaches to no interface");
    let detach = |name: &str| Request::Detach(Interfaces::Named(vec![name.into()]));
    bench.refused(detach("lo"), "attaches to no interface");
    bench.done(detach("eth0"));
    assert!(bench.status().interfaces.is_empty());
    bench.refused(detach("eth0"), "attaches to no interface");
    bench.done(Request::Detach(Interfaces::All));
}

#[test]
fn services_take_no_slot_table_of_the_kernels_memory() {
    let mut bench = Bench::not_started();
    bench.plane.lock().kind = Kind::Proxy;
    bench.start(Options { available_memory: || Some(1 << 19), ..Options::default() });
    bench.hear([Event::Links(Links::new())]);
    bench.done(add_service("web", "10.0.0.100:80/tcp"));
}

#[test]
fn connections_are_shown_and_why_newcomers_pass_a_backend_over() {
    let mut bench = with_web();
    let left_out = Some("connect: connection refused".to_owned());
    let refused = Connections { open: 1, total: 20, failed: 3, left_out };
    let address: BackendAddress = APP.parse().unwrap();
    bench.plane.lock().connections.insert((vip(), address), refused);
    let counts = ServiceConnections { open: 2, accepted: 40, turned_away: 5 };
    bench.plane.lock().service_connections.insert(vip(), counts);
    let status = serde_json::to_value(bench.status()).unwrap();
    let web = &status["services"][0];
    assert_eq!(web["connections"], serde_json::json!({"open": 2, "accepted": 40, "turned_away": 5}));
    assert_eq!((&web["connect_timeout"], &web["on_down"]), (&"5s".into(), &"keep".into()));
    let app = &web["backends"][1];
    assert_eq!(app["connections"], serde_json::json!({"open": 1, "total": 20, "failed": 3}));
    assert_eq!((&app["serving"], &app["reason"]), (&false.into(), &"connect: connection refused".into()));
    assert_eq!(web["backends"][0]["connections"]["open"], 0, "one that nobody came to has none");
}

#[test]
fn the_rules_are_the_proxys() {
    let mut bench = with_web();
    bench.refused(add_service("all", "10.0.0.100:*/tcp"), "listens on one port");
    bench.refused(add("web", "10.0.0.100:80"), "where the service itself listens");
    let mut bench = Bench::with_web();
    bench.refused(add("web", "10.0.0.13:8080"), "has a port");
}

#[test]
fn a_file_that_wants_another_data_plane_is_applied_and_that_is_said() {
    let mut bench = proxied();
    let apply =
        |text: &str| Request::Apply { file: "pen.toml".into(), text: text.into(), how: How::default() };
    let Reply::Applied(applied) = bench.done(apply("dataplane = 'xdp'")) else { panic!() };
    assert!(applied.warnings[0].contains("run --dataplane xdp"), "{applied:?}");
    let Reply::Applied(applied) = bench.done(apply("dataplane = 'proxy'")) else { panic!() };
    assert!(applied.warnings.is_empty(), "{applied:?}");
    let Reply::Config(config) = bench.done(Request::Export) else { panic!() };
    assert!(config.toml.starts_with("dataplane = \"proxy\"\n"), "{}", config.toml);
}

#[test]
fn a_drain_ends_with_the_last_connection_where_nobody_is_remembered() {
    let mut bench = with_web();
    let spec = ServiceSpec { tracking: Some(dataplane::Tracking::Off), ..ServiceSpec::default() };
    bench.done(Request::ServiceSet { name: "web".into(), spec });
    let address: BackendAddress = APP.parse().unwrap();
    let open = |bench: &Bench, open| {
        let connections = Connections { open, ..Connections::default() };
        bench.plane.lock().connections.insert((vip(), address), connections);
    };
    open(&bench, 2);
    let within = Duration::from_secs(600);
    bench.done(Request::BackendDrain { service: "web".into(), address, within });
    let pass = |bench: &mut Bench| {
        bench.clock.0.fetch_add(5000, Ordering::Relaxed);
        bench.controller().tick();
        bench.status().services[0].backends.iter().find(|one| one.address == address).cloned()
    };
    let leaving = pass(&mut bench).unwrap().drain.unwrap();
    assert_eq!((leaving.clients_left, leaving.detail.as_str()), (Some(2), "2 connections left"));
    open(&bench, 0);
    assert_eq!(pass(&mut bench), None, "nobody is connected any more");
}
