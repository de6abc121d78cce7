//! Works out what the data plane should hold, from what is wanted and what was seen. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::dataplane::{
    BackendAddress, BackendPath, BackendTarget, HealthStatus, InterfaceTarget, Kind, Mac, Member,
    ProxyBackend, ServiceKey, ServiceTarget, Target,
};
use crate::state::desired::{AdminState, Backend, Desired, Service};
use crate::surroundings::{Advice, Ground, Link, Links, Resolution};

mod advised;
pub(crate) mod bond;
mod hop;
mod shares;
mod standing;

pub use hop::hop;
pub use shares::{grown, grows_in};

/// What was seen of a backend's health, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// The verdict.
    pub status: HealthStatus,
    /// In words; may be empty.
    pub detail: String,
    /// What these words are about.
    pub ground: Ground,
    /// When the verdict last changed, seconds since the Unix epoch.
    pub since: u64,
    /// What its agent asks for.
    pub advice: Advice,
}

/// All that was seen of the machine around.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Interfaces by kernel index.
    pub links: Links,
    /// Ways to backends, as far as they are known.
    pub resolutions: BTreeMap<IpAddr, Resolution>,
    /// Ways that the data plane used when this controller came; they hold until `resolutions` says otherwise.
    pub adopted: BTreeMap<(ServiceKey, BackendAddress), BackendPath>,
    /// Health, as far as it is known.
    pub health: BTreeMap<(ServiceKey, BackendAddress), Sighting>,
    /// Backends that came back a while ago, and when (uptime of the controller): while their shares grow.
    pub recovering: BTreeMap<(ServiceKey, BackendAddress), Duration>,
    /// Services whose first table is not built yet, and when (uptime of the controller) it is at the latest.
    pub first_tables: BTreeMap<ServiceKey, Duration>,
    /// Why VIPs cannot be asked, where they are to be.
    pub unaskable: BTreeSet<String>,
}

impl Seen {
    /// The way to a backend, as far as it is known.
    fn resolution(&self, backend: &Backend) -> Option<&Resolution> {
        self.resolutions.get(&backend.address.ip()?)
    }
}

/// How a backend stands: more than the data plane needs, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is, once known.
    pub path: Option<BackendPath>,
    /// It keeps the clients it has.
    pub usable: bool,
    /// It gets newcomers.
    pub serving: bool,
    /// It would, were not others of a lower priority there.
    pub standby: bool,
    /// It would not, were not too few others there.
    pub panic: bool,
    /// Its share of newcomers, in the measure of its weight: the weight, unless its agent says otherwise.
    pub weight: u16,
    /// It was asked to keep the clients it has and get no new ones, by the operator or by its agent.
    pub draining: bool,
    /// Something is known of it: a result, that it cannot be reached, an order of the administrator's.
    pub known: bool,
    /// The reason is what its checks say.
    pub unhealthy: bool,
    /// Why not, in words; `None` when it does.
    pub reason: Option<String>,
}

/// How backends stand, by service and address.
pub type Standings = BTreeMap<(ServiceKey, BackendAddress), Standing>;

/// What the data plane should hold at `now` (uptime of the controller), and how each backend stands.
pub fn build(desired: &Desired, kind: Kind, seen: &Seen, now: Duration) -> (Target, Standings) {
    let interfaces = match kind {
        Kind::Xdp => interfaces(desired, &seen.links),
        Kind::Proxy => BTreeMap::new(),
    };
    let attached: BTreeSet<u32> = interfaces.values().map(|interface| interface.ifindex).collect();
    let mut standings = Standings::new();
    let mut services = BTreeMap::new();
    for service in &desired.services {
        let own = standing::stand(service, kind, seen, &attached);
        services.insert(service.vip, service_target(service, kind, &own, seen, now));
        standings.extend(own.into_iter().map(|(address, standing)| ((service.vip, address), standing)));
    }
    let Desired { seed, flood_inserts_per_cpu, .. } = *desired;
    (Target { seed, flood_inserts_per_cpu, interfaces, services }, standings)
}

/// The interfaces that are wanted, exist, carry Ethernet and can be attached as they are meant to be.
fn interfaces(desired: &Desired, links: &Links) -> BTreeMap<String, InterfaceTarget> {
    let mut targets = BTreeMap::new();
    for spec in &desired.interfaces {
        let Some(link) = link_named(links, &spec.name).filter(|link| link.ethernet) else {
            continue;
        };
        let Some(mac) = link.mac.filter(|_| bond::refusal(link, spec.mode, links).is_none()) else {
            continue;
        };
        let master_mac = link.master.and_then(|master| links.get(&master)).and_then(|master| master.mac);
        let target = InterfaceTarget {
            ifindex: link.index,
            mac,
            master_mac,
            mode: bond::mode(link, spec.mode),
            announce: spec.announce,
        };
        targets.insert(spec.name.clone(), target);
    }
    targets
}

/// The interface of that name.
pub fn link_named<'a>(links: &'a Links, name: &str) -> Option<&'a Link> {
    links.values().find(|link| link.name == name)
}

fn service_target(
    service: &Service,
    kind: Kind,
    standings: &BTreeMap<BackendAddress, Standing>,
    seen: &Seen,
    now: Duration,
) -> ServiceTarget {
    let mut backends = BTreeMap::new();
    let mut members = Vec::new();
    let shares = shares::shares(service, seen, now);
    for backend in &service.backends {
        let Some(standing) = standings.get(&backend.address) else { continue };
        let Standing { path, usable, serving, .. } = *standing;
        let weight = shares.get(&backend.address).copied().unwrap_or(backend.weight);
        let sighting = seen.health.get(&(service.vip, backend.address)).cloned().unwrap_or_default();
        let target = BackendTarget {
            path,
            usable,
            serving,
            health: sighting.status,
            health_since: sighting.since,
            proxy: (kind == Kind::Proxy).then(|| proxy_backend(backend, standing, weight)),
        };
        backends.insert(backend.address, target);
        if serving {
            members.push(Member { address: backend.address, weight });
        }
    }
    members.sort();
    let due = first_table_due(service, seen, now);
    ServiceTarget { settings: service.settings(kind), backends, members: due.then_some(members) }
}

/// What only the proxy acts on.
fn proxy_backend(backend: &Backend, standing: &Standing, weight: u16) -> ProxyBackend {
    ProxyBackend {
        weight,
        priority: backend.priority,
        soft_limit: backend.soft_limit,
        hard_limit: backend.hard_limit,
        standby: standing.standby,
        draining: standing.draining,
    }
}

/// A first table waits until every backend has a result or its time is up, so that the first to answer does not
/// get everybody.
fn first_table_due(service: &Service, seen: &Seen, now: Duration) -> bool {
    let Some(deadline) = seen.first_tables.get(&service.vip) else {
        return true;
    };
    now >= *deadline || service.backends.iter().all(|backend| has_result(service, backend, seen))
}

fn has_result(service: &Service, backend: &Backend, seen: &Seen) -> bool {
    let unreachable = matches!(seen.resolution(backend), Some(Resolution::Unreachable(_)));
    let known =
        seen.health.get(&(service.vip, backend.address)).is_some_and(|s| s.status != HealthStatus::Unknown);
    backend.state != AdminState::Up || unreachable || known
}

/// Whether a backend that is not checked can be held up: under XDP once its MAC is known, in the proxy at once.
pub fn reachable(
    service: &Service,
    backend: &Backend,
    kind: Kind,
    seen: &Seen,
    attached: &BTreeSet<u32>,
) -> bool {
    kind == Kind::Proxy || path(service, backend, seen, attached).is_ok()
}

/// Kernel indexes of the interfaces that are wanted, exist and carry Ethernet.
pub fn attached(desired: &Desired, links: &Links) -> BTreeSet<u32> {
    interfaces(desired, links).values().map(|interface| interface.ifindex).collect()
}

/// Whether a backend's health is a matter of its MAC alone.
pub fn unchecked(service: &Service, backend: &Backend, kind: Kind) -> bool {
    service.check(backend, kind).is_none()
}

/// Where a backend is, or why that is not known.
fn path(
    service: &Service,
    backend: &Backend,
    seen: &Seen,
    attached: &BTreeSet<u32>,
) -> Result<BackendPath, String> {
    let adopted = || seen.adopted.get(&(service.vip, backend.address)).copied();
    match (seen.resolution(backend), backend.mac, backend.vlan) {
        (Some(Resolution::Local), ..) => {
            Ok(BackendPath { mac: Mac([0; 6]), ifindex: 0, vlan: 0, inner_vlan: 0, local: true })
        }
        (Some(Resolution::OnLink { mac, ifindex }), fixed, None) => {
            behind(*ifindex, fixed.unwrap_or(*mac), seen, attached)
        }
        (Some(Resolution::OnLink { ifindex, .. }), Some(mac), Some(vlan)) => {
            let found = behind(*ifindex, mac, seen, attached)?;
            Ok(BackendPath { vlan, inner_vlan: 0, ..found })
        }
        // The host need not have a foot in that VLAN: then there is no route, but only one way out.
        (_, Some(mac), Some(vlan)) if attached.len() == 1 => {
            let ifindex = attached.first().copied().unwrap_or_default();
            Ok(BackendPath { mac, ifindex, vlan, inner_vlan: 0, local: false })
        }
        (Some(Resolution::Unreachable(why)), ..) => Err(format!("no MAC: {why}")),
        (None, ..) => {
            let known = adopted().filter(|path| path.local || attached.contains(&path.ifindex));
            known.ok_or_else(|| "waiting for its MAC".to_owned())
        }
        (Some(Resolution::OnLink { .. }), None, Some(_)) => {
            Err("no MAC: a backend with `vlan` needs `mac`".into())
        }
    }
}

/// From the interface that routes name to the attached one: itself, the one that its VLANs are on, or a port of it.
fn behind(ifindex: u32, mac: Mac, seen: &Seen, attached: &BTreeSet<u32>) -> Result<BackendPath, String> {
    let found = |ifindex, vlan, inner_vlan| Ok(BackendPath { mac, ifindex, vlan, inner_vlan, local: false });
    let link = |index: u32| seen.links.get(&index);
    // Of a bond any port will do; packets that come in on a port go out of it again.
    let port = |index: u32| {
        let is_port = |port: &&u32| link(**port).and_then(|port| port.master) == Some(index);
        attached.get(&index).or_else(|| attached.iter().find(is_port)).copied()
    };
    if let Some(index) = port(ifindex) {
        return found(index, 0, 0);
    }
    let Some((parent, tag)) = link(ifindex).and_then(|link| link.vlan) else {
        return Err(not_attached(link(ifindex), ifindex));
    };
    if let Some(index) = port(parent) {
        return found(index, tag, 0);
    }
    let Some((grandparent, outer)) = link(parent).and_then(|link| link.vlan) else {
        return Err(not_attached(link(ifindex), ifindex));
    };
    match port(grandparent) {
        Some(index) => found(index, outer, tag),
        None => Err(not_attached(link(ifindex), ifindex)),
    }
}

fn not_attached(link: Option<&Link>, ifindex: u32) -> String {
    let name = link.map_or_else(|| format!("number {ifindex}"), |link| link.name.clone());
    format!("behind interface {name}, which is neither attached nor a VLAN on one that is")
}

#[cfg(test)]
mod tests;
