//! The desired state: everything the administrator asked for, complete, with defaults filled in.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text;
use crate::dataplane::{
    Affinity, AttachMode, Mac, OnEmpty, Protocol, Scheduler, ServiceKey, ServiceSettings, Tracking,
};
use crate::surroundings::Check;

/// Entries of each tracking table where the file does not say.
pub const DEFAULT_TRACKING_CLIENTS: u32 = 262_144;
/// How long a window of changing owners stays open where nothing else is said.
pub const DEFAULT_TRANSITION: Duration = Duration::from_secs(600);

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
    /// Its backends, in the order they were added.
    #[serde(default)]
    pub backends: Vec<Backend>,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Its address, of the VIP's family.
    #[serde(with = "text::address")]
    pub address: IpAddr,
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

/// How a backend is checked. Written `none`, `tcp`, `tcp,interval=2s` or as a table with the key `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not at all: up once its MAC is known.
    None,
    /// A TCP connection opens.
    Tcp(TcpHealth),
}

/// Settings of a TCP check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpHealth {
    /// Port to connect to; `None` = the service's.
    pub port: Option<u16>,
    /// From one check to the next.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
}

impl Default for TcpHealth {
    fn default() -> Self {
        Self {
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: 2,
            fall: 3,
        }
    }
}

impl Desired {
    /// Nothing wanted yet.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            interfaces: Vec::new(),
            http: None,
            tracking_clients: DEFAULT_TRACKING_CLIENTS,
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
            backends: Vec::new(),
        }
    }

    /// The backend of that address.
    pub fn backend(&self, address: IpAddr) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.address == address)
    }

    /// The backend of that address, to change it.
    pub fn backend_mut(&mut self, address: IpAddr) -> Option<&mut Backend> {
        self.backends.iter_mut().find(|backend| backend.address == address)
    }

    /// What the data plane acts on.
    pub fn settings(&self) -> ServiceSettings {
        ServiceSettings {
            affinity: self.affinity,
            scheduler: self.scheduler,
            tracking: self.tracking,
            tracking_timeout: self.tracking_timeout,
            transition: self.transition,
            on_empty: self.on_empty,
        }
    }

    /// How backends are checked where nothing is said: an exact TCP port is connected to, all else is not checked.
    pub fn default_health(&self) -> Health {
        match (self.vip.protocol, self.vip.port) {
            (Protocol::Tcp, 1..) => Health::Tcp(TcpHealth::default()),
            _ => Health::None,
        }
    }

    /// How its backends are checked where they do not say otherwise.
    pub fn effective_health(&self) -> Health {
        self.health.clone().unwrap_or_else(|| self.default_health())
    }

    /// How one of its backends is checked.
    pub fn check(&self, backend: &Backend) -> Check {
        match backend.health.clone().unwrap_or_else(|| self.effective_health()) {
            Health::None => Check::None,
            Health::Tcp(TcpHealth { port, interval, timeout, rise, fall }) => {
                Check::Tcp { port: port.unwrap_or(self.vip.port), interval, timeout, rise, fall }
            }
        }
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
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            weight: 1,
            priority: 0,
            mac: None,
            vlan: None,
            state: AdminState::Up,
            remove_at: None,
            health: None,
        }
    }
}

fn one() -> u16 {
    1
}

fn transition() -> Duration {
    DEFAULT_TRANSITION
}
