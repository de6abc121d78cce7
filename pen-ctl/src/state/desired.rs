//! The desired state: everything the administrator asked for, complete, with defaults filled in.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::text;
use crate::check::{self, Check, DnsCheck, Health};
use crate::dataplane::{
    AccessList, Affinity, AttachMode, BackendAddress, Kind, Mac, OnDown, OnEmpty, Prefixes, Protocol,
    ProxyProtocol, ProxySettings, RateLimit, Scheduler, ServiceKey, ServiceSettings, Tracking,
};

/// Entries of each tracking table where the file does not say.
pub const DEFAULT_TRACKING_CLIENTS: u32 = 262_144;
/// Newcomers that one CPU remembers a second where the file does not say.
pub const DEFAULT_FLOOD_INSERTS: u32 = 100_000;
/// How long a window of changing owners stays open where nothing else is said.
pub const DEFAULT_TRANSITION: Duration = Duration::from_secs(600);
/// Where name servers listen.
const DNS: u16 = 53;

/// All that the administrator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Keys the choice of slots; the same on all nodes of a fleet.
    #[serde(with = "text::seed")]
    pub seed: u64,
    /// Interfaces to attach, in the order they were asked for.
    #[serde(default)]
    pub interfaces: Vec<InterfaceSpec>,
    /// Where everybody may look, over TCP; `None` = nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// Entries of each tracking table (one for IPv4, one for IPv6).
    pub tracking_clients: u32,
    /// Newcomers that one CPU remembers a second, others are chosen for by slot alone; 0 = all of them.
    #[serde(default = "flood_inserts", skip_serializing_if = "is_flood_inserts")]
    pub flood_inserts_per_cpu: u32,
    /// Services, in the order they were added.
    #[serde(default)]
    pub services: Vec<Service>,
}

/// An interface to attach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceSpec {
    /// Its name, 1 to 15 bytes (`IFNAMSIZ` − 1).
    pub name: String,
    /// How to attach.
    pub mode: AttachMode,
    /// Whether requests for VIPs are answered here, and VIPs announced.
    pub announce: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What people call it.
    pub name: String,
    /// VIP, port and protocol.
    pub vip: ServiceKey,
    /// What the choice hashes.
    #[serde(default)]
    pub affinity: Affinity,
    /// Who gets a newcomer.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// Memory of which backend was given; [`Tracking::Off`] whenever affinity is [`Affinity::None`].
    #[serde(default)]
    pub tracking: Tracking,
    /// After how long unused a memory no longer counts; zero = until evicted.
    #[serde(default, with = "text::required_duration")]
    pub tracking_timeout: Duration,
    /// How long a window of changing owners stays open.
    #[serde(default = "transition", with = "text::required_duration")]
    pub transition: Duration,
    /// What becomes of packets when nobody is serving.
    #[serde(default)]
    pub on_empty: OnEmpty,
    /// How its backends are checked; `None` = by default ([`Service::default_health`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Prefixes of clients that are let in, all others are refused; empty = all are let in.
    #[serde(default, skip_serializing_if = "Prefixes::is_empty")]
    pub allow: Prefixes,
    /// Prefixes of clients that are refused; empty = none.
    #[serde(default, skip_serializing_if = "Prefixes::is_empty")]
    pub deny: Prefixes,
    /// How much of it one source prefix may ask for; `None` = as much as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// In percent: when fewer of its backends serve, all that are not down by order do; 0 = never.
    #[serde(default, skip_serializing_if = "is_default")]
    pub panic: u8,
    /// How long the share of a backend that is back grows until it is whole; zero = at once.
    #[serde(default, with = "text::required_duration", skip_serializing_if = "is_default")]
    pub slow_start: Duration,
    /// A program, and what it is told, that hears of each change of its backends; empty = none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_change: Vec<String>,
    /// How long a backend may take to accept a connection; `None` = by default. The proxy's, as are those that follow.
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// After how long without a byte a connection ends, zero = never; `None` = by default.
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// How many connections it has at once at most; `None` = as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Clients stay with the backend they were given, even while it refuses them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stubborn: bool,
    /// Backends are connected to from the client's own address.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transparent: bool,
    /// How backends are told the client's address; `None` = not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Clients that say first for whom they come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol_from: Vec<IpNet>,
    /// What becomes of a backend's connections when it goes down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_down: OnDown,
    /// Its backends, in the order they were added.
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Where it is reached.
    pub address: BackendAddress,
    /// Its share of newcomers: 1 to 1000.
    #[serde(default = "one")]
    pub weight: u16,
    /// The lowest number that has anybody serving serves.
    #[serde(default)]
    pub priority: u16,
    /// Its MAC where it is not to be looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The VLAN it is on, 1 to 4094; goes with `mac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// What the administrator asked of it.
    #[serde(default)]
    pub state: AdminState,
    /// When it is removed at the latest, seconds since the Unix epoch; goes with [`AdminState::Drain`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_at: Option<u64>,
    /// How it is checked, where other than its service's way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Newcomers pass it over while it has as many connections; the proxy's, as is the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<u32>,
    /// Nobody is connected to it while it has as many connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<u32>,
}

/// What the administrator asked of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// Serve.
    #[default]
    Up,
    /// Keep the clients it has, get no new ones.
    Drain,
    /// Nothing at all.
    Down,
}

impl Desired {
    /// Nothing wanted yet.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            interfaces: Vec::new(),
            http: None,
            tracking_clients: DEFAULT_TRACKING_CLIENTS,
            flood_inserts_per_cpu: DEFAULT_FLOOD_INSERTS,
            services: Vec::new(),
        }
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The service of that name, to change it.
    pub fn service_mut(&mut self, name: &str) -> Option<&mut Service> {
        self.services.iter_mut().find(|service| service.name == name)
    }

    /// Has access lists that equal those of another state be the same in memory, where a list may have 16 MiB.
    pub(crate) fn share_lists(&mut self, other: &Self) {
        for service in &mut self.services {
            let Some(like) = other.service(&service.name) else { continue };
            for (list, like) in [(&mut service.allow, &like.allow), (&mut service.deny, &like.deny)] {
                if list == like {
                    *list = like.clone();
                }
            }
        }
    }
}

impl Service {
    /// A service with nothing but defaults.
    pub fn new(name: String, vip: ServiceKey) -> Self {
        Self {
            name,
            vip,
            affinity: Affinity::default(),
            scheduler: Scheduler::default(),
            tracking: Tracking::default(),
            tracking_timeout: Duration::ZERO,
            transition: DEFAULT_TRANSITION,
            on_empty: OnEmpty::default(),
            health: None,
            allow: Prefixes::default(),
            deny: Prefixes::default(),
            rate_limit: None,
            panic: 0,
            slow_start: Duration::ZERO,
            on_change: Vec::new(),
            connect_timeout: None,
            idle_timeout: None,
            max_connections: None,
            stubborn: false,
            transparent: false,
            proxy_protocol: None,
            proxy_protocol_from: Vec::new(),
            on_down: OnDown::default(),
            backends: Vec::new(),
        }
    }

    /// The backend of that address.
    pub fn backend(&self, address: BackendAddress) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.address == address)
    }

    /// The backend of that address, to change it.
    pub fn backend_mut(&mut self, address: BackendAddress) -> Option<&mut Backend> {
        self.backends.iter_mut().find(|backend| backend.address == address)
    }

    /// What a data plane of that kind acts on.
    pub fn settings(&self, kind: Kind) -> ServiceSettings {
        ServiceSettings {
            affinity: self.affinity,
            scheduler: self.scheduler,
            tracking: self.tracking,
            tracking_timeout: self.tracking_timeout,
            transition: self.transition,
            on_empty: self.on_empty,
            access: self.access(),
            rate_limit: self.rate_limit,
            proxy: (kind == Kind::Proxy).then(|| self.proxy_settings()),
        }
    }

    /// Who may use it.
    pub fn access(&self) -> AccessList {
        AccessList { allow: self.allow.clone(), deny: self.deny.clone() }
    }

    /// What only the proxy acts on.
    fn proxy_settings(&self) -> ProxySettings {
        let plain = ProxySettings::new(self.vip.protocol);
        ProxySettings {
            connect_timeout: self.connect_timeout.unwrap_or(plain.connect_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(plain.idle_timeout),
            max_connections: self.max_connections,
            stubborn: self.stubborn,
            transparent: self.transparent,
            proxy_protocol: self.proxy_protocol,
            proxy_protocol_from: self.proxy_protocol_from.clone(),
            on_down: self.on_down,
        }
    }

    /// How backends are checked where nothing is said: an exact TCP port is connected to, a name server is asked. All
    /// else is pinged under XDP; the proxy needs no privilege, so it may not, but sees by itself who does not answer.
    pub fn default_health(&self, plane: Kind) -> Health {
        match (self.vip.protocol, self.vip.port) {
            (Protocol::Tcp, _) if !self.vip.is_every_port() => Health::of(check::Kind::Tcp),
            (Protocol::Udp, DNS) => Health::of(check::Kind::Dns(DnsCheck::default())),
            _ => match plane {
                Kind::Xdp => Health::of(check::Kind::Icmp),
                Kind::Proxy => Health::None,
            },
        }
    }

    /// How its backends are checked where they do not say otherwise.
    pub fn effective_health(&self, plane: Kind) -> Health {
        self.health.clone().unwrap_or_else(|| self.default_health(plane))
    }

    /// Whether one of its backends has an agent that is asked: somebody must have said so.
    pub fn asks_agent(&self, backend: &Backend) -> bool {
        let said = backend.health.as_ref().or(self.health.as_ref());
        said.and_then(Health::check).is_some_and(|check| matches!(check.kind, check::Kind::Agent(_)))
    }

    /// How one of its backends is checked, with the port that is asked; `None` = not at all.
    pub fn check(&self, backend: &Backend, plane: Kind) -> Option<Check> {
        let default;
        let health = match backend.health.as_ref().or(self.health.as_ref()) {
            Some(said) => said,
            None => {
                default = self.default_health(plane);
                &default
            }
        };
        let check = health.check()?;
        let port = check.port.or(backend.address.port()).unwrap_or(self.vip.port);
        Some(Check { port: check.kind.has_port().then_some(port), ..check.clone() })
    }
}

impl InterfaceSpec {
    /// An interface with nothing but defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), mode: AttachMode::default(), announce: true }
    }
}

impl Backend {
    /// A backend with nothing but defaults.
    pub fn new(address: BackendAddress) -> Self {
        Self {
            address,
            weight: 1,
            priority: 0,
            mac: None,
            vlan: None,
            state: AdminState::Up,
            remove_at: None,
            health: None,
            soft_limit: None,
            hard_limit: None,
        }
    }
}

/// Left out of the stored state while nothing is said: an older pen can still read it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn flood_inserts() -> u32 {
    DEFAULT_FLOOD_INSERTS
}

fn is_flood_inserts(value: &u32) -> bool {
    *value == DEFAULT_FLOOD_INSERTS
}

fn one() -> u16 {
    1
}

fn transition() -> Duration {
    DEFAULT_TRANSITION
}
