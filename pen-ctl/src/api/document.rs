//! The documents the controller answers with: what `--json` prints. Fields are added, never renamed.

pub mod admission;
pub mod clients;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use admission::{FloodDocument, RefusedDocument};

use crate::api::configuration::TrialDocument;
use crate::check::Health;
use crate::dataplane::{
    Affinity, AttachMode, BackendAddress, Connections, HealthStatus, Inserted, Kind, Mac, OnEmpty,
    ProxySettings, RateLimit, Scheduler, ServiceConnections, ServiceKey, Tracking, TrackingUse,
};
use crate::state::desired::AdminState;
use crate::state::revision::Revision;
use crate::state::text;

/// Everything there is to see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// The controller itself.
    pub controller: ControllerDocument,
    /// Interfaces attached or meant to be.
    pub interfaces: Vec<InterfaceDocument>,
    /// Services.
    pub services: Vec<ServiceDocument>,
    /// What became of packets.
    pub packets: PacketsDocument,
    /// How full the tracking tables are.
    pub tracking: TrackingDocument,
    /// What somebody should look at, one line each.
    pub warnings: Vec<String>,
}

/// How full the tracking tables are, or were when they were last counted. All is 0, sizes too, until they were for the
/// first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingDocument {
    /// By family.
    #[serde(flatten)]
    pub tables: TrackingUse,
    /// Whole seconds since they were counted; `null` while they were not.
    #[serde(default = "just_now")]
    pub age_seconds: Option<u64>,
    /// Entries that were made a second, by family, over the last seconds; `null` where that is not known yet.
    #[serde(default)]
    pub inserts_per_second: Option<Inserted>,
    /// Newcomers that were not remembered because there were too many at once; absent where all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<FloodDocument>,
}

/// Controllers that know no age counted when they were asked.
fn just_now() -> Option<u64> {
    Some(0)
}

/// The controller itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerDocument {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// What moves packets: `xdp`.
    pub dataplane: String,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// The file it was started with.
    pub file: Option<String>,
    /// That file is other than the one last applied: what runs is the durable state.
    pub file_differs: bool,
    /// Where everybody may look, over TCP; absent = nowhere.
    #[serde(default)]
    pub http: Option<SocketAddr>,
    /// Keys the choice of slots; the same on all nodes of a fleet. Absent over TCP: who knows it can choose addresses
    /// that all go to one backend.
    #[serde(default, with = "text::optional_seed", skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Which desired state there is: what the header `ETag` says and `If-Match` compares.
    pub revision: Option<Revision>,
    /// What waits to be confirmed.
    pub trial: Option<TrialDocument>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceDocument {
    /// Its name.
    pub name: String,
    /// How it is attached: `native` or `generic`; before that, what was asked for.
    pub mode: AttachMode,
    /// Whether packets flow through us.
    pub state: InterfaceState,
    /// Why it is pending, in words; empty when attached.
    pub detail: String,
    /// Whether requests for VIPs are answered here.
    pub announce: bool,
    /// Frames that were lost after the verdict, as its driver tells, since it began to count; some seconds old. Absent
    /// where that is not known.
    #[serde(default)]
    pub tx_errors: Option<u64>,
    /// Those of them that were lost within the last minute.
    #[serde(default)]
    pub tx_errors_last_minute: u64,
}

/// Whether packets of an interface flow through us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceState {
    /// They do.
    Attached,
    /// They will, once what stands in the way is gone.
    Pending,
    /// They never will: what moves packets attaches to no interface.
    Unused,
}

/// Interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceList {
    /// In the order they were asked for.
    pub interfaces: Vec<InterfaceDocument>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDocument {
    /// What people call it.
    pub name: String,
    /// VIP, port and protocol.
    pub vip: ServiceKey,
    /// What the choice hashes.
    pub affinity: Affinity,
    /// Who gets a newcomer.
    pub scheduler: Scheduler,
    /// Memory of which backend was given.
    pub tracking: Tracking,
    /// After how long unused a memory no longer counts; zero = until evicted.
    #[serde(with = "text::required_duration")]
    pub tracking_timeout: Duration,
    /// How long a window of changing owners stays open.
    #[serde(with = "text::required_duration")]
    pub transition: Duration,
    /// How many of its slots, of [`pen_common::abi::SLOTS`], are changing owner.
    #[serde(default)]
    pub slots_in_transition: u32,
    /// What becomes of packets when nobody is serving.
    pub on_empty: OnEmpty,
    /// How its backends are checked.
    pub health: Health,
    /// How many prefixes its access lists have; the lists themselves are in the configuration only.
    #[serde(default)]
    pub access: AccessDocument,
    /// How much of it one source prefix may ask for; absent = as much as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// In percent: when fewer of its backends serve, all that are not down by order do; 0 = never.
    #[serde(default)]
    pub panic: u8,
    /// How long the share of a backend that is back grows.
    #[serde(default, with = "text::required_duration")]
    pub slow_start: Duration,
    /// The program that hears of each change of its backends; empty = none.
    #[serde(default)]
    pub on_change: Vec<String>,
    /// Its backends.
    pub backends: Vec<BackendDocument>,
    /// Frames forwarded, to removed backends too.
    pub packets: u64,
    /// Their bytes from the Ethernet header on.
    pub bytes: u64,
    /// Frames (in the proxy connections and datagrams) that it refused; absent where it asks nothing of its clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedDocument>,
    /// What only the proxy does for it; absent under XDP.
    #[serde(flatten)]
    pub proxy: Option<ProxyDocument>,
    /// What somebody should know about it, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How long a service's access lists are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessDocument {
    /// Prefixes that are let in; 0 = all are.
    pub allow: usize,
    /// Prefixes that are refused.
    pub deny: usize,
}

/// Services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceList {
    /// In the order they were added.
    pub services: Vec<ServiceDocument>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendDocument {
    /// The name of its service.
    pub service: String,
    /// Its address.
    pub address: BackendAddress,
    /// Its share of newcomers.
    pub weight: u16,
    /// What that share is now, as its agent says.
    #[serde(default)]
    pub effective_weight: Option<u16>,
    /// Which part of that it has for now, in percent, while it grows after it came back; absent = all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing: Option<u32>,
    /// The lowest number that has anybody serving serves.
    pub priority: u16,
    /// What the administrator asked of it.
    pub state: AdminState,
    /// How far it is from being removed; absent unless it was asked to be removed after a drain.
    #[serde(default)]
    pub drain: Option<DrainDocument>,
    /// What was seen of it.
    pub health: HealthDocument,
    /// It gets newcomers.
    pub serving: bool,
    /// Why it is not serving, in words; absent when it is.
    pub reason: Option<String>,
    /// What somebody should know about it, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When its health last changed (RFC 3339).
    pub since: String,
    /// Its MAC, once known.
    pub mac: Option<Mac>,
    /// Frames forwarded to it.
    pub packets: u64,
    /// Their bytes from the Ethernet header on.
    pub bytes: u64,
    /// Newcomers pass it over while it has as many connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<u32>,
    /// Nobody is connected to it while it has as many connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<u32>,
    /// What its connections came to; absent under XDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
}

/// What only the proxy does for a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyDocument {
    /// Its settings.
    #[serde(flatten)]
    pub settings: ProxySettings,
    /// What its connections came to.
    pub connections: ServiceConnections,
}

/// A backend on its way out: it is removed when nobody is left on it, or at the deadline, whichever is first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainDocument {
    /// The deadline (RFC 3339).
    pub remove_at: String,
    /// How long until then.
    pub seconds_left: u64,
    /// Clients (with affinity `flow`: flows) that are remembered on it, some seconds old; absent while they are
    /// not counted yet, and where nobody is remembered (tracking `off`).
    pub clients_left: Option<u64>,
    /// Those of them that were seen within the last minute: the others may never come back.
    pub clients_seen_last_minute: Option<u64>,
    /// The same in words: `12 clients left, 3 of them seen in the last minute`.
    pub detail: String,
}

/// Backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendList {
    /// By service, in the order they were added.
    pub backends: Vec<BackendDocument>,
}

/// What was seen of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthDocument {
    /// The verdict.
    pub status: HealthStatus,
    /// In words: `connected in 0.3 ms`, `connection refused`.
    pub detail: String,
}

/// What became of packets, in frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketsDocument {
    /// All that came in on attached interfaces.
    pub received: u64,
    /// To backends.
    pub forwarded: u64,
    /// By us, by reason.
    pub answered: BTreeMap<String, u64>,
    /// To the local stack, by reason.
    pub passed: BTreeMap<String, u64>,
    /// Away, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// What a good configuration file holds: what `check` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDocument {
    /// The file.
    pub file: String,
    /// How many interfaces it names.
    pub interfaces: usize,
    /// How many services.
    pub services: usize,
    /// How many backends, over all services.
    pub backends: usize,
    /// The data plane that it was checked for, or is right for alone; absent = it is right for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataplane: Option<Kind>,
    /// What somebody should know about it, one line each.
    pub warnings: Vec<String>,
}

/// What a change came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeDocument {
    /// Something is other than before.
    pub changed: bool,
    /// What somebody should know about it, one line each.
    pub warnings: Vec<String>,
    /// False where nothing is forwarded any more once a controller has ended: a proxy ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwards: Option<bool>,
}
