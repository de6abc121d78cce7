//! The controller against a data plane and surroundings in memory.

mod adoption;
mod changes;
mod checks;
mod drains;
mod files;
mod flood;
mod http;
mod interfaces;
mod journal;
mod logs;
mod metrics;
mod occupancy;
mod own_address;
mod policy;
mod proxied;
mod revisions;
mod trials;

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::api::document::{ChangeDocument, StatusDocument};
use crate::dataplane::fake::FakePlane;
use crate::dataplane::{HealthStatus, Mac, Operation};
use crate::state::desired::InterfaceSpec;
use crate::state::spec::{BackendSpec, ServiceSpec};
use crate::surroundings::testing::link;
use crate::surroundings::{Advice, Ground, Link, Links, Probe, Resolution};

/// What the controller asked of its surroundings.
#[derive(Default)]
struct Asked {
    watched: BTreeSet<Watched>,
    probes: Vec<Probe>,
    announced: Vec<(String, Vec<IpAddr>)>,
    withdrawn: Vec<(String, Vec<IpAddr>)>,
}

#[derive(Clone, Default)]
struct FakeSurroundings(Arc<Mutex<Asked>>);

impl Surroundings for FakeSurroundings {
    fn watch(&mut self, addresses: BTreeSet<Watched>) {
        self.0.lock().unwrap().watched = addresses;
    }
    fn probe(&mut self, probes: Vec<Probe>) {
        self.0.lock().unwrap().probes = probes;
    }
    fn announce(&mut self, interface: &Link, vips: &[IpAddr]) {
        self.0.lock().unwrap().announced.push((interface.name.clone(), vips.to_vec()));
    }
    fn withdraw(&mut self, interface: &Link, vips: &[IpAddr]) {
        self.0.lock().unwrap().withdrawn.push((interface.name.clone(), vips.to_vec()));
    }
}

/// A clock that stands still until it is told the time, in milliseconds of uptime; and by how many seconds somebody set
/// the calendar beside it.
#[derive(Clone, Default)]
struct FakeClock(Arc<AtomicU64>, Arc<AtomicI64>);

impl Clock for FakeClock {
    fn unix_seconds(&self) -> u64 {
        let passed = 1_000_000 + self.0.load(Ordering::Relaxed) / 1000;
        passed.saturating_add_signed(self.1.load(Ordering::Relaxed))
    }
    fn uptime(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// A controller and everything around it.
struct Bench {
    home: TempDir,
    plane: FakePlane,
    asked: FakeSurroundings,
    clock: FakeClock,
    controller: Option<Controller>,
}

impl Bench {
    /// Nothing configured, eth0 (index 2) and eth1 (index 3) there.
    fn new() -> Self {
        let mut bench = Self::not_started();
        bench.hear([Event::Links(links())]);
        bench
    }

    fn not_started() -> Self {
        let mut bench = Self {
            home: tempfile::tempdir().unwrap(),
            plane: FakePlane::default(),
            asked: FakeSurroundings::default(),
            clock: FakeClock::default(),
            controller: None,
        };
        bench.start(Options::default());
        bench
    }

    /// Ends the controller that runs, if any, and starts another on the same state and data plane.
    fn start(&mut self, options: Options) {
        self.controller = None;
        self.asked = FakeSurroundings::default();
        let mut store = Store::open(&self.state_dir()).unwrap();
        expire_at_start(&mut store, self.clock.unix_seconds(), &options.journal);
        if let Some(file) = &options.file {
            apply_at_start(&mut store, file, self.plane.kind(), self.clock.unix_seconds()).unwrap();
        }
        self.start_with(store, options);
    }

    fn start_with(&mut self, store: Store, options: Options) {
        let (plane, asked, clock) = (self.plane.clone(), self.asked.clone(), self.clock.clone());
        let controller = Controller::new(store, Box::new(plane), Box::new(asked), Box::new(clock), options);
        self.controller = Some(controller);
    }

    fn state_dir(&self) -> PathBuf {
        self.home.path().join("pen")
    }

    fn controller(&mut self) -> &mut Controller {
        self.controller.as_mut().unwrap()
    }

    fn hear<const N: usize>(&mut self, events: [Event; N]) {
        for event in events {
            self.controller().event(event);
        }
        self.controller().reconcile();
    }

    fn ask(&mut self, request: Request) -> Result<Reply, ApiError> {
        self.controller().ask(request.into()).map(|answered| answered.reply)
    }

    #[track_caller]
    fn done(&mut self, request: Request) -> Reply {
        self.ask(request).unwrap()
    }

    /// Refused, with one line that says so, and nothing changed: not the state, not the data plane.
    #[track_caller]
    fn refused(&mut self, request: Request, why: &str) {
        let (state, held) = (self.state(), self.plane.lock().observed.clone());
        let error = self.ask(request).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.to_string().contains('\n') && !error.hint.is_empty(), "{error:?}");
        assert_eq!(self.state(), state, "{error}");
        assert_eq!(self.plane.lock().observed, held, "{error}");
    }

    /// The state as it is on disk.
    fn state(&self) -> String {
        std::fs::read_to_string(self.state_dir().join("state.json")).unwrap()
    }

    /// Has the tracking tables counted, as the controller's loop does before it answers.
    fn count_tables(&mut self) {
        let due = self.controller().table_count_due(&Request::Status).unwrap();
        self.controller().tables_counted(due.take());
    }

    fn status(&mut self) -> StatusDocument {
        match self.done(Request::Status) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// A service with two backends, resolved and healthy, on eth0.
    fn with_web() -> Self {
        let mut bench = Self::new();
        bench.done(attach("eth0"));
        bench.done(add_service("web", "10.0.0.100:80/tcp"));
        bench.done(add_backend("web", 11));
        bench.done(add_backend("web", 12));
        bench.hear([found(11), found(12), health(11, HealthStatus::Up), health(12, HealthStatus::Up)]);
        assert_eq!(bench.members(), [11, 12]);
        bench
    }

    /// Last bytes of the addresses that share the table of `web`.
    fn members(&self) -> Vec<u8> {
        let inner = self.plane.lock();
        let members = inner.observed.services[&vip()].members.clone().unwrap();
        let last = |address: BackendAddress| match address.ip() {
            Some(IpAddr::V4(v4)) => v4.octets()[3],
            _ => 0,
        };
        members.into_iter().map(|member| last(member.address)).collect()
    }

    fn reason(&mut self, n: u8) -> String {
        let status = self.status();
        let backend = status.services[0].backends.iter().find(|backend| backend.address == at(n)).unwrap();
        backend.reason.clone().unwrap_or_default()
    }

    /// What was done to the data plane since this was last asked.
    fn operations(&self) -> Vec<Operation> {
        std::mem::take(&mut self.plane.lock().operations)
    }
}

fn vip() -> ServiceKey {
    "10.0.0.100:80/tcp".parse().unwrap()
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// The same as the address of a backend.
fn at(n: u8) -> BackendAddress {
    ip(n).into()
}

fn links() -> Links {
    let tun = Link { ethernet: false, mac: None, ..link(4, "tun0") };
    let bond = Link { bond: true, ..link(5, "bond0") };
    let ports = [(6, "eth2"), (7, "eth3")].map(|(index, name)| Link { master: Some(5), ..link(index, name) });
    let others = [link(2, "eth0"), link(3, "eth1"), tun, bond];
    others.into_iter().chain(ports).map(|link| (link.index, link)).collect()
}

fn without(name: &str) -> Event {
    Event::Links(links().into_iter().filter(|(_, link)| link.name != name).collect())
}

fn found(n: u8) -> Event {
    Event::Neighbor {
        address: ip(n),
        resolution: Resolution::OnLink { mac: Mac([2, 0, 0, 0, 0, n]), ifindex: 2 },
    }
}

fn lost(n: u8) -> Event {
    let resolution = Resolution::Unreachable("no answer to ARP on eth0".into());
    Event::Neighbor { address: ip(n), resolution }
}

fn health(n: u8, status: HealthStatus) -> Event {
    Event::Health {
        key: vip(),
        address: at(n),
        status,
        detail: "as told".into(),
        ground: Ground::Result,
        advice: Advice::default(),
    }
}

fn attach(name: &str) -> Request {
    Request::Attach(vec![InterfaceSpec::new(name)])
}

fn add_service(name: &str, vip: &str) -> Request {
    Request::ServiceAdd(ServiceSpec {
        name: Some(name.into()),
        vip: Some(vip.parse().unwrap()),
        ..ServiceSpec::default()
    })
}

fn add_backend(service: &str, n: u8) -> Request {
    Request::BackendAdd {
        service: service.into(),
        spec: BackendSpec { address: Some(at(n)), ..BackendSpec::default() },
    }
}

fn set_backend(n: u8, spec: BackendSpec) -> Request {
    Request::BackendSet { service: "web".into(), address: at(n), spec }
}
