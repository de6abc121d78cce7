//! What moves packets, seen from the controller: one trait, and the words it is spoken to in.
//!
//! The controller never touches a map. It compares a [`Target`] with what a data plane [`Observed`] and has it
//! carry out [`Operation`]s, each of which leaves packets flowing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use address::{BackendAddress, UnixPath, VipAddress};
pub use counts::{Counters, Inserted, TableUse, TrackingUse, Traffic};
pub use guard::{
    AccessList, Admission, FloodLimits, NewestRefused, Prefixes, Rate, RateLimit, RefusedClients,
    RefusedPackets, Suppression,
};
pub use kind::{
    Choice, Connections, Kind, OnDown, ProxyBackend, ProxyProtocol, ProxySettings, ServiceConnections,
};

pub mod address;
pub mod clients;
pub mod counts;
pub mod fake;
pub mod guard;
pub mod kind;
pub mod proxy;
#[cfg(target_os = "linux")]
pub mod xdp;

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

/// What makes a service unique: address, port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The VIP.
    pub address: VipAddress,
    /// Port; 0 = every port, or of a Unix socket ([`ServiceKey::is_every_port`]).
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// What the choice of a backend hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// The source address.
    #[default]
    Client,
    /// The 5-tuple.
    Flow,
    /// The 5-tuple, with tracking off.
    None,
}

/// Who gets a newcomer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// The owner of its slot in a weighted Maglev table.
    #[default]
    Maglev,
    /// Backends by turns, as their weights say; under XDP it goes with tracking [`Tracking::Full`].
    RoundRobin,
    /// Whoever has the fewest connections for its weight; in the proxy only.
    LeastConnections,
}

/// Memory of which backend was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tracking {
    /// Every client (or flow).
    #[default]
    Full,
    /// Only slots that are changing owner.
    Transitions,
    /// None.
    Off,
}

/// What becomes of a packet when nobody is serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEmpty {
    /// `dropped: no_backend`.
    #[default]
    Drop,
    /// `passed: empty_pool`.
    Pass,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// Native where the driver can, else generic with a warning.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the stack, after the packet was copied.
    Generic,
}

/// What was seen of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Checks say it answers.
    Up,
    /// Checks say it does not.
    Down,
    /// Nothing seen yet.
    #[default]
    Unknown,
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Where a backend is on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendPath {
    /// Its MAC.
    pub mac: Mac,
    /// Kernel index of the attached interface it is behind.
    pub ifindex: u32,
    /// Outer VLAN ID, 0 = untagged.
    pub vlan: u16,
    /// Inner VLAN ID, 0 = none.
    pub inner_vlan: u16,
    /// It is on this host.
    pub local: bool,
}

/// Settings of a service that the data plane acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// What the choice hashes.
    pub affinity: Affinity,
    /// Who gets a newcomer.
    pub scheduler: Scheduler,
    /// Whether it is remembered.
    pub tracking: Tracking,
    /// After how long unused a memory no longer counts; zero = until evicted.
    pub tracking_timeout: Duration,
    /// How long a window of changing owners stays open.
    pub transition: Duration,
    /// What becomes of packets when nobody is serving.
    pub on_empty: OnEmpty,
    /// Who may use it.
    pub access: AccessList,
    /// How much of it one source prefix may ask for.
    pub rate_limit: Option<RateLimit>,
    /// What only the proxy acts on; `None` under XDP.
    pub proxy: Option<ProxySettings>,
}

/// A backend as the data plane should hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendTarget {
    /// Where it is; `None` while its MAC is not known.
    pub path: Option<BackendPath>,
    /// Keeps the clients it has.
    pub usable: bool,
    /// Gets newcomers.
    pub serving: bool,
    /// What was seen of it: kept by the data plane across a restart of the controller.
    pub health: HealthStatus,
    /// Since when, seconds since the Unix epoch.
    pub health_since: u64,
    /// What only the proxy acts on; `None` under XDP.
    pub proxy: Option<ProxyBackend>,
}

/// One who shares a slot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The backend's address.
    pub address: BackendAddress,
    /// 1 to 1000.
    pub weight: u16,
}

/// A service as the data plane should hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Its settings.
    pub settings: ServiceSettings,
    /// Its backends.
    pub backends: BTreeMap<BackendAddress, BackendTarget>,
    /// Who shares its slot table, sorted; `None` = leave the table as it is (the first one is not due yet).
    pub members: Option<Vec<Member>>,
}

/// An interface as the data plane should hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceTarget {
    /// Kernel index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: Mac,
    /// MAC of its bond or bridge.
    pub master_mac: Option<Mac>,
    /// How to attach.
    pub mode: AttachMode,
    /// Whether requests for VIPs are answered here.
    pub announce: bool,
}

/// All that a data plane should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Keys the choice of slots.
    pub seed: u64,
    /// Newcomers that one CPU remembers a second; beyond that, or beyond an eighth of the
    /// table on all together, they are chosen for by slot alone. 0 = neither limit.
    pub flood_inserts_per_cpu: u32,
    /// Interfaces that exist and should be attached, by name.
    pub interfaces: BTreeMap<String, InterfaceTarget>,
    /// Services.
    pub services: BTreeMap<ServiceKey, ServiceTarget>,
}

/// A service as a data plane holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedService {
    /// Its settings.
    pub settings: ServiceSettings,
    /// Its backends, retired ones left out.
    pub backends: BTreeMap<BackendAddress, BackendTarget>,
    /// Who shares its slot table; `None` = not known (adopted, or changed by someone else).
    pub members: Option<Vec<Member>>,
    /// The table in use names at least one backend.
    pub has_table: bool,
    /// How many of its slots are changing owner.
    pub in_transition: u32,
}

/// An interface as a data plane holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedInterface {
    /// What was asked for, as recorded.
    pub target: InterfaceTarget,
    /// How it is really attached: `Native` or `Generic`.
    pub mode: AttachMode,
    /// Our program runs there now.
    pub attached: bool,
    /// All that attaching sets up beside the program is in place; if not, attaching again mends it.
    pub intact: bool,
    /// What does not work there as it should, each with what to do about it; attaching again would not help.
    pub troubles: Vec<String>,
}

/// All that a data plane holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Keys the choice of slots.
    pub seed: u64,
    /// Newcomers that one CPU remembers a second; 0 = no limit, that of all CPUs together included.
    pub flood_inserts_per_cpu: u32,
    /// Interfaces by name.
    pub interfaces: BTreeMap<String, ObservedInterface>,
    /// Services.
    pub services: BTreeMap<ServiceKey, ObservedService>,
}

/// One step from what is to what should be. Packets keep flowing before, during and after each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Set the seed that keys the choice.
    SetSeed(u64),
    /// Set how many newcomers one CPU remembers a second; 0 = no limit, that of all CPUs together included.
    SetFlood(u32),
    /// Attach to an interface, or record what changed about it (its MAC, whether it announces).
    Attach {
        /// Its name.
        name: String,
        /// What it should be.
        target: InterfaceTarget,
    },
    /// Detach from an interface.
    Detach {
        /// Its name.
        name: String,
    },
    /// Add a service (without backends, with an empty table) or change its settings.
    SetService {
        /// Which.
        key: ServiceKey,
        /// Its settings.
        settings: ServiceSettings,
    },
    /// Remove a service and all its backends.
    RemoveService {
        /// Which.
        key: ServiceKey,
    },
    /// Add a backend, or change its path, state and health.
    SetBackend {
        /// Whose.
        key: ServiceKey,
        /// Which.
        address: BackendAddress,
        /// What it should be.
        target: BackendTarget,
    },
    /// Remove a backend; the table must not name it any more.
    RemoveBackend {
        /// Whose.
        key: ServiceKey,
        /// Which.
        address: BackendAddress,
    },
    /// Share the slots of a service among these, at once for all packets.
    SetTable {
        /// Whose.
        key: ServiceKey,
        /// Who, sorted by address; empty = nobody.
        members: Vec<Member>,
    },
}

/// Why a data plane could not do as asked: what failed, on what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}{}{hint}", if .hint.is_empty() { "" } else { "; " })]
pub struct DataPlaneError {
    /// What failed, on what: `attach XDP to eth0`.
    pub what: String,
    /// Why: `program 17 (xdp_firewall) is already there`.
    pub why: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// What moves packets.
pub trait DataPlane: Send {
    /// `xdp`, `proxy`, `fake`.
    fn name(&self) -> &'static str;

    /// Which rules what it holds obeys.
    fn kind(&self) -> Kind;

    /// What it holds now, looked up afresh: also finds what someone else changed.
    fn observe(&mut self) -> Result<Observed, DataPlaneError>;

    /// Carries out one operation; returns when packets see it. Idempotent.
    fn apply(&mut self, operation: &Operation) -> Result<(), DataPlaneError>;

    /// What became of packets.
    fn counters(&mut self) -> Result<Counters, DataPlaneError>;

    /// How many entries of the tracking tables were made so far.
    fn inserted(&mut self) -> Result<Inserted, DataPlaneError>;

    /// What was forwarded to one backend; `None` where it is not there. The same as [`DataPlane::counters`] says, which
    /// takes longer the more backends there are.
    fn traffic(
        &mut self,
        key: ServiceKey,
        address: BackendAddress,
    ) -> Result<Option<Traffic>, DataPlaneError> {
        Ok(self.counters()?.backends.get(&(key, address)).copied())
    }

    /// What connections of backends that are there now came to; empty where there are none.
    fn connections(&mut self) -> BTreeMap<(ServiceKey, BackendAddress), Connections> {
        BTreeMap::new()
    }

    /// What connections of services that are there now came to; empty where there are none.
    fn service_connections(&mut self) -> BTreeMap<ServiceKey, ServiceConnections> {
        BTreeMap::new()
    }

    /// What access lists and limits refused, by service that is there now; empty where there are none of either.
    fn refused(&mut self) -> Result<BTreeMap<ServiceKey, RefusedClients>, DataPlaneError> {
        Ok(BTreeMap::new())
    }

    /// Newcomers that were not remembered because there were too many; `None` = it remembers all.
    fn suppression(&mut self) -> Result<Option<Suppression>, DataPlaneError> {
        Ok(None)
    }

    /// Frames that interfaces lost after the verdict, by interface, since their drivers began to count: best effort,
    /// those that cannot be asked are left out.
    fn tx_errors(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// Hands out what reads who is remembered, with descriptors of its own: for use off the controller's task.
    fn clients(&mut self) -> Result<Box<dyn clients::Clients>, DataPlaneError>;

    /// Hands rare and puzzling things the data plane noticed to the log; called now and then.
    fn drain_log(&mut self) {}
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
