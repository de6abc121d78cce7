//! Changes by request: what they do, what is refused, what survives a refusal.

use std::io;

use super::*;
use crate::api::configuration::How;
use crate::state::desired::AdminState;
use crate::state::store::{Files, RealFiles};

fn set_state(n: u8, state: AdminState) -> Request {
    set_backend(n, BackendSpec { state: Some(state), ..BackendSpec::default() })
}

#[test]
fn a_backend_serves_once_it_is_found_and_healthy() {
    let mut bench = Bench::new();
    bench.done(attach("eth0"));
    bench.done(add_service("web", "10.0.0.100:80/tcp"));
    bench.done(add_backend("web", 11));
    assert_eq!(bench.reason(11), "waiting for its MAC");
    assert_eq!(bench.asked.0.lock().unwrap().probes.len(), 1, "checks start at once");
    bench.hear([found(11)]);
    assert_eq!(bench.reason(11), "waiting for the first health check");
    bench.hear([health(11, HealthStatus::Up)]);
    assert_eq!(bench.members(), [11]);
    let backend = bench.status().services[0].backends[0].clone();
    assert!(backend.serving && backend.reason.is_none());
    assert_eq!(backend.mac, Some(Mac([2, 0, 0, 0, 0, 11])));
}

#[test]
fn a_backend_that_cannot_be_resolved_is_accepted_and_says_why_it_does_not_serve() {
    let mut bench = Bench::with_web();
    bench.hear([lost(11)]);
    assert_eq!(bench.members(), [12]);
    assert_eq!(bench.reason(11), "no MAC: no answer to ARP on eth0");
    bench.hear([found(11)]);
    assert_eq!(bench.members(), [11, 12], "what was healthy before need not be checked anew");
}

#[test]
fn a_fixed_mac_is_not_looked_up() {
    let mut bench = Bench::with_web();
    let mac = Some(Mac([2, 0, 0, 0, 0, 0x77]));
    bench.done(set_backend(11, BackendSpec { mac: Some(mac), ..BackendSpec::default() }));
    assert!(bench.asked.0.lock().unwrap().watched.contains(&Watched { address: ip(11), fixed_mac: mac }));
    assert_eq!(bench.status().services[0].backends[0].mac, mac);
}

#[test]
fn first_to_answer_does_not_get_everybody() {
    let mut bench = Bench::new();
    bench.done(attach("eth0"));
    let both = "name = 'web'\nvip = '10.0.0.100:80/tcp'\n\
                backend = [{ address = '10.0.0.11' }, { address = '10.0.0.12' }]";
    bench.done(Request::ServiceAdd(toml::from_str(both).unwrap()));
    bench.hear([found(11), found(12), health(11, HealthStatus::Up)]);
    assert_eq!(bench.members(), [] as [u8; 0]);
    assert_eq!(bench.controller().wake_in(), Some(Duration::from_millis(500)));
    bench.clock.0.store(500, Ordering::Relaxed);
    bench.controller().reconcile();
    assert_eq!(bench.members(), [11], "one timeout has passed");
    assert_eq!(bench.controller().wake_in(), None);
    bench.hear([health(12, HealthStatus::Up)]);
    assert_eq!(bench.members(), [11, 12]);
}

#[test]
fn operator_and_checks_move_newcomers_at_once() {
    let mut bench = Bench::with_web();
    bench.done(set_state(11, AdminState::Drain));
    assert_eq!((bench.members(), bench.reason(11)), (vec![12], "draining".into()));
    assert!(bench.plane.lock().observed.services[&vip()].backends[&at(11)].usable);
    bench.done(set_state(11, AdminState::Down));
    assert!(!bench.plane.lock().observed.services[&vip()].backends[&at(11)].usable);
    bench.done(set_state(11, AdminState::Up));
    assert_eq!(bench.members(), [11, 12]);
    bench.hear([health(12, HealthStatus::Down)]);
    assert_eq!((bench.members(), bench.reason(12)), (vec![11], "health check failed: as told".into()));
    bench.done(Request::BackendRemove { service: "web".into(), address: at(11) });
    assert_eq!(bench.members(), [] as [u8; 0]);
    assert_eq!(bench.status().warnings, ["service web: no backend is serving"]);
    bench.done(Request::ServiceRemove { name: "web".into() });
    assert!(bench.plane.lock().observed.services.is_empty());
}

#[test]
fn who_is_not_checked_is_up_once_its_mac_is_known() {
    let mut bench = Bench::new();
    bench.done(attach("eth0"));
    let spec = ServiceSpec {
        name: Some("dns".into()),
        vip: Some("10.0.0.100:53/udp".parse().unwrap()),
        health: Some(Some("none".parse().unwrap())),
        ..ServiceSpec::default()
    };
    bench.done(Request::ServiceAdd(spec));
    bench.done(add_backend("dns", 11));
    assert!(bench.asked.0.lock().unwrap().probes.is_empty());
    let serving = |bench: &mut Bench| bench.status().services[0].backends[0].serving;
    assert!(!serving(&mut bench));
    bench.hear([found(11)]);
    assert!(serving(&mut bench));
    bench.hear([lost(11)]);
    assert!(!serving(&mut bench));
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let mut bench = Bench::with_web();
    let plain = BackendSpec::default;
    bench.refused(add_service("web", "10.0.0.101:80/tcp"), "service web is there already");
    bench.refused(add_service("other", "10.0.0.100:80/tcp"), "belongs to service web already");
    bench.refused(add_service("a b", "10.0.0.101:80/tcp"), "contains ` `");
    bench.refused(add_backend("web", 11), "backend 10.0.0.11 of service web is there already");
    bench.refused(add_backend("web", 100), "own VIP");
    bench.refused(add_backend("wob", 13), "there is no service wob");
    bench.refused(set_backend(13, plain()), "has no backend 10.0.0.13");
    bench.refused(set_backend(11, BackendSpec { weight: Some(1001), ..plain() }), "out of range");
    bench.refused(
        Request::BackendRemove { service: "web".into(), address: at(13) },
        "has no backend 10.0.0.13",
    );
    bench.refused(Request::ServiceRemove { name: "wob".into() }, "there is no service wob");
    bench.refused(
        Request::ServiceSet { name: "wob".into(), spec: ServiceSpec::default() },
        "there is no service wob",
    );
    let v6 = BackendSpec { address: Some("2001:db8::1".parse().unwrap()), ..plain() };
    bench.refused(Request::BackendAdd { service: "web".into(), spec: v6 }, "is IPv6");
}

#[test]
fn what_the_data_plane_refuses_is_taken_back() {
    let mut bench = Bench::with_web();
    let dns: ServiceKey = "10.0.0.100:53/udp".parse().unwrap();
    bench.plane.lock().broken.insert(dns, "out of memory".into());
    bench.refused(add_service("dns", "10.0.0.100:53/udp"), "out of memory");
    assert_eq!(bench.members(), [11, 12]);
}

#[test]
fn a_service_is_refused_when_its_table_would_not_fit_in_memory() {
    let mut bench = Bench::new();
    bench.start(Options { available_memory: || Some(1 << 19), ..Options::default() });
    bench.hear([Event::Links(links())]);
    bench.refused(add_service("web", "10.0.0.100:80/tcp"), "1 MiB of memory are needed and 0 are left");
}

#[test]
fn limits_and_lists_are_refused_when_they_would_not_fit_in_memory() {
    let mut bench = Bench::new();
    // Room for a service, for a short list beside it, and for a bit.
    bench.start(Options { available_memory: || Some(11 << 19), ..Options::default() });
    bench.hear([Event::Links(links())]);
    bench.done(add_service("web", "10.0.0.100:80/tcp"));
    let set = |spec: serde_json::Value| Request::ServiceSet {
        name: "web".into(),
        spec: serde_json::from_value(spec).unwrap(),
    };
    let many: Vec<String> = (0..16_384).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    bench.refused(set(serde_json::json!({"deny": many})), "6 MiB of memory are needed and 5 are left");
    let all = serde_json::json!({"deny": many[..4096], "rate_limit": {"packets": 1000, "flows": 10}});
    bench.refused(set(all), "6 MiB of memory are needed and 5 are left");
    bench.done(set(serde_json::json!({"deny": many[..4096]})));
    bench.done(set(serde_json::json!({"rate_limit": {"packets": 1000}})));
    bench.done(set(serde_json::json!({"rate_limit": {"packets": 2000}})));
}

/// A disk that is full from some point on.
struct FullDisk(Arc<AtomicU64>);

impl Files for FullDisk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        RealFiles.read(path)
    }
    fn write(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            0 => RealFiles.write(path, contents),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        RealFiles.names(directory)
    }
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        RealFiles.make_directory(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFiles.rename(from, to)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealFiles.sync_directory(path)
    }
}

#[test]
fn nothing_is_carried_out_that_could_not_be_made_durable() {
    let mut bench = Bench::new();
    bench.controller = None;
    let full = Arc::new(AtomicU64::new(0));
    let store = Store::open_with(&bench.state_dir(), Box::new(FullDisk(full.clone()))).unwrap();
    bench.start_with(store, Options::default());
    bench.hear([Event::Links(links())]);
    full.store(1, Ordering::Relaxed);
    bench.refused(add_service("web", "10.0.0.100:80/tcp"), "cannot be written");
    full.store(0, Ordering::Relaxed);
    bench.done(add_service("web", "10.0.0.100:80/tcp"));
}

#[test]
fn changing_a_service_keeps_what_is_not_said() {
    let mut bench = Bench::with_web();
    let spec = ServiceSpec { transition: Some(Duration::from_secs(60)), ..ServiceSpec::default() };
    bench.operations();
    bench.done(Request::ServiceSet { name: "web".into(), spec });
    assert_eq!(bench.operations().len(), 1, "nothing but its settings is touched");
    assert_eq!(bench.members(), [11, 12]);
    let service = bench.status().services[0].clone();
    assert_eq!((service.transition, service.backends.len()), (Duration::from_secs(60), 2));
}

/// A spec as the API reads it.
fn said<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap()
}

#[test]
fn what_was_said_can_be_taken_back() {
    let mut bench = Bench::with_web();
    let before = bench.state();
    let tcp = r#"{"kind":"tcp","interval":"2s"}"#;
    let text = format!(r#"{{"mac":"02:00:00:00:00:77","vlan":7,"health":{tcp}}}"#);
    bench.done(set_backend(11, said(&text)));
    let service = |text: &str| Request::ServiceSet { name: "web".into(), spec: said(text) };
    bench.done(service(&format!(r#"{{"health":{tcp}}}"#)));
    assert_ne!(bench.state(), before);

    // What is not named stays.
    let named = bench.state();
    bench.done(set_backend(11, said(r#"{"weight":1}"#)));
    bench.done(service(r#"{"transition":"10m"}"#));
    assert_eq!(bench.state(), named);
    bench.refused(set_backend(11, said(r#"{"mac":null}"#)), "has a VLAN but no MAC");
    bench.done(set_backend(11, said(r#"{"mac":null,"vlan":null,"health":null}"#)));
    bench.done(service(r#"{"health":null}"#));
    assert_eq!(bench.state(), before);
}

#[test]
fn status_has_the_fields_that_were_promised() {
    let mut bench = Bench::with_web();
    bench.plane.lock().counters.dropped.insert("no_backend", dataplane::Traffic { packets: 3, bytes: 180 });
    bench.count_tables();
    let status = serde_json::to_value(bench.done(Request::Status)).unwrap();
    for path in [
        "/controller/version",
        "/controller/pid",
        "/controller/dataplane",
        "/controller/uptime_seconds",
        "/interfaces/0/name",
        "/interfaces/0/mode",
        "/interfaces/0/state",
        "/services/0/name",
        "/services/0/vip",
        "/services/0/affinity",
        "/services/0/scheduler",
        "/services/0/tracking",
        "/services/0/backends/0/address",
        "/services/0/backends/0/weight",
        "/services/0/backends/0/priority",
        "/services/0/backends/0/state",
        "/services/0/backends/0/health/status",
        "/services/0/backends/0/health/detail",
        "/services/0/backends/0/serving",
        "/services/0/backends/0/reason",
        "/services/0/backends/0/since",
        "/services/0/backends/0/mac",
        "/services/0/backends/0/packets",
        "/services/0/backends/0/bytes",
        "/packets/received",
        "/packets/forwarded",
        "/packets/answered",
        "/packets/passed",
        "/packets/dropped/no_backend",
        "/tracking/v4/used",
        "/tracking/v6/max",
        "/warnings",
    ] {
        assert!(status.pointer(path).is_some(), "{path} is missing in {status:#}");
    }
    assert_eq!(status["packets"]["received"], 3);
    assert_eq!(status["services"][0]["vip"], "10.0.0.100:80/tcp");
}

#[test]
fn a_list_that_lets_nobody_in_is_warned_of_wherever_it_is_seen() {
    let mut bench = Bench::with_web();
    let spec: ServiceSpec = toml::from_str("allow = ['2001:db8::/32']").unwrap();
    let Reply::Service(set) = bench.done(Request::ServiceSet { name: "web".into(), spec }) else { panic!() };
    let words = "its `allow` has no IPv4 prefix, so everybody is refused";
    assert!(set.warnings.iter().any(|warning| warning.starts_with(words)), "{:?}", set.warnings);
    let line = format!("service web: {words}");
    assert!(bench.status().warnings.iter().any(|warning| warning.starts_with(&line)));
    let text = "[[service]]\nname = 'web'\nvip = '10.0.0.100:80/tcp'\nallow = ['2001:db8::/32']\n".to_owned();
    let how = How { dry_run: true, ..How::default() };
    let Reply::Applied(told) = bench.done(Request::Apply { file: "pen.toml".into(), text, how }) else {
        panic!()
    };
    assert!(told.warnings.iter().any(|warning| warning.starts_with(&line)), "{:?}", told.warnings);
    let spec: ServiceSpec = toml::from_str("allow = ['10.0.0.0/8']").unwrap();
    bench.done(Request::ServiceSet { name: "web".into(), spec });
    assert_eq!(bench.status().warnings, [""; 0]);
}
