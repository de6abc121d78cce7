//! What people write about services and backends: keys of the file, of the API and of flags, each optional.
//!
//! The same types add (what is left out gets its default) and change (what is left out stays). Some keys can be taken back:
//! `null` in JSON, which is `Some(None)` here.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::desired::{AdminState, Backend, Service};
use super::text::{self, TextError};
use crate::check::Health;
use crate::dataplane::{
    Affinity, BackendAddress, Mac, OnDown, OnEmpty, Prefixes, ProxyProtocol, RateLimit, Scheduler,
    ServiceKey, Tracking,
};

/// Keys of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSpec {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// VIP, port and protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip: Option<ServiceKey>,
    /// What the choice hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Who gets a newcomer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Memory of which backend was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
    /// After how long unused a memory no longer counts; zero = until evicted.
    #[serde(with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub tracking_timeout: Option<Duration>,
    /// How long a window of changing owners stays open.
    #[serde(with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub transition: Option<Duration>,
    /// What becomes of packets when nobody is serving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_empty: Option<OnEmpty>,
    /// How its backends are checked; `null` = by default.
    #[serde(deserialize_with = "text::nullable", skip_serializing_if = "Option::is_none")]
    pub health: Option<Option<Health>>,
    /// Prefixes of clients that are let in, all others are refused; empty = all are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Prefixes>,
    /// Prefixes of clients that are refused; empty = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Prefixes>,
    /// How much of it one source prefix may ask for; `null` = as much as it likes.
    #[serde(deserialize_with = "text::nullable", skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Option<RateLimit>>,
    /// In percent: when fewer of its backends serve, all that are not down by order do; 0 = never.
    #[serde(deserialize_with = "text::number::panic", skip_serializing_if = "Option::is_none")]
    pub panic: Option<u8>,
    /// How long the share of a backend that is back grows until it is whole; zero = at once.
    #[serde(with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// A program, and what it is told, that hears of each change of its backends; empty = none.
    #[serde(deserialize_with = "text::command", skip_serializing_if = "Option::is_none")]
    pub on_change: Option<Vec<String>>,
    /// How long a backend may take to accept a connection; `null` = by default. The proxy's, as are those that follow.
    #[serde(
        deserialize_with = "text::nullable_duration",
        serialize_with = "text::write_nullable_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub connect_timeout: Option<Option<Duration>>,
    /// After how long without a byte a connection ends, zero = never; `null` = by default.
    #[serde(
        deserialize_with = "text::nullable_duration",
        serialize_with = "text::write_nullable_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub idle_timeout: Option<Option<Duration>>,
    /// How many connections it has at once at most; `null` = as many as there is room for.
    #[serde(deserialize_with = "text::number::nullable_limit", skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<Option<u32>>,
    /// Clients stay with the backend they were given, even while it refuses them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stubborn: Option<bool>,
    /// Backends are connected to from the client's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transparent: Option<bool>,
    /// How backends are told the client's address; `null` = not.
    #[serde(deserialize_with = "text::nullable", skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Option<ProxyProtocol>>,
    /// Clients that say first for whom they come.
    #[serde(with = "text::optional_prefixes", skip_serializing_if = "Option::is_none")]
    pub proxy_protocol_from: Option<Vec<IpNet>>,
    /// What becomes of a backend's connections when it goes down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_down: Option<OnDown>,
    /// Its backends (in the file and when adding).
    #[serde(rename = "backend", skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendSpec>,
}

/// Keys of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendSpec {
    /// Where it is reached.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub address: Option<BackendAddress>,
    /// Its share of newcomers: 1 to 1000.
    #[serde(deserialize_with = "text::number::weight", skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The lowest number that has anybody serving serves.
    #[serde(deserialize_with = "text::number::priority", skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// Its MAC where it is not to be looked up; `null` = it is.
    #[serde(deserialize_with = "text::nullable", skip_serializing_if = "Option::is_none")]
    pub mac: Option<Option<Mac>>,
    /// The VLAN it is on; goes with `mac`. `null` = none is said.
    #[serde(deserialize_with = "text::number::nullable_vlan", skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Option<u16>>,
    /// What is asked of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<AdminState>,
    /// How it is checked, where other than its service's way; `null` = its service's way.
    #[serde(deserialize_with = "text::nullable", skip_serializing_if = "Option::is_none")]
    pub health: Option<Option<Health>>,
    /// Newcomers pass it over while it has as many connections; `null` = always room. The proxy's, as is the next.
    #[serde(deserialize_with = "text::number::nullable_limit", skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<Option<u32>>,
    /// Nobody is connected to it while it has as many connections; `null` = always room.
    #[serde(deserialize_with = "text::number::nullable_limit", skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<Option<u32>>,
}

impl ServiceSpec {
    /// A service of its own, with defaults for what is left out.
    pub fn complete(&self) -> Result<Service, TextError> {
        let missing = |key, example| {
            let name = self.name.as_deref().unwrap_or("without a name");
            TextError(format!("service {name}: the key `{key}` is missing; write {key} = \"{example}\""))
        };
        let vip = self.vip.ok_or_else(|| missing("vip", "10.0.0.100:80/tcp"))?;
        let name = self.name.clone().ok_or_else(|| {
            TextError(format!("service {vip}: the key `name` is missing; write name = \"web\""))
        })?;
        let mut service = Service::new(name, vip);
        self.change(&mut service);
        for backend in &self.backends {
            service.backends.push(backend.complete(&service.name)?);
        }
        Ok(service)
    }

    /// Changes what is said; backends are left alone. Affinity `none` implies tracking `off`, and leaving it
    /// brings tracking back to its default unless it is named too; scheduler `round-robin` implies tracking `full`.
    pub fn change(&self, service: &mut Service) {
        let was = service.affinity;
        set(&mut service.name, &self.name);
        set(&mut service.vip, &self.vip);
        set(&mut service.affinity, &self.affinity);
        set(&mut service.scheduler, &self.scheduler);
        if was == Affinity::None && service.affinity != Affinity::None {
            service.tracking = Tracking::default();
        }
        set(&mut service.tracking, &self.tracking);
        if service.affinity == Affinity::None && self.tracking.is_none() {
            service.tracking = Tracking::Off;
        } else if self.scheduler == Some(Scheduler::RoundRobin) && self.tracking.is_none() {
            service.tracking = Tracking::Full;
        }
        set(&mut service.tracking_timeout, &self.tracking_timeout);
        set(&mut service.transition, &self.transition);
        set(&mut service.on_empty, &self.on_empty);
        set(&mut service.health, &self.health);
        set(&mut service.allow, &self.allow);
        set(&mut service.deny, &self.deny);
        set(&mut service.rate_limit, &self.rate_limit);
        set(&mut service.panic, &self.panic);
        set(&mut service.slow_start, &self.slow_start);
        set(&mut service.on_change, &self.on_change);
        set(&mut service.connect_timeout, &self.connect_timeout);
        set(&mut service.idle_timeout, &self.idle_timeout);
        set(&mut service.max_connections, &self.max_connections);
        set(&mut service.stubborn, &self.stubborn);
        set(&mut service.transparent, &self.transparent);
        set(&mut service.proxy_protocol, &self.proxy_protocol);
        set(&mut service.proxy_protocol_from, &self.proxy_protocol_from);
        set(&mut service.on_down, &self.on_down);
    }
}

impl BackendSpec {
    /// A backend of its own, with defaults for what is left out.
    pub fn complete(&self, service: &str) -> Result<Backend, TextError> {
        let address = self.address.ok_or_else(|| {
            TextError(format!(
                "service {service}: a backend has no `address`; write backend = [{{ address = \"10.0.0.11\" }}]"
            ))
        })?;
        let mut backend = Backend::new(address);
        self.change(&mut backend);
        Ok(backend)
    }

    /// Changes what is said; the address stays. Whoever names a state takes back that the backend is to be removed.
    pub fn change(&self, backend: &mut Backend) {
        if self.state.is_some() {
            backend.remove_at = None;
        }
        set(&mut backend.weight, &self.weight);
        set(&mut backend.priority, &self.priority);
        set(&mut backend.state, &self.state);
        set(&mut backend.mac, &self.mac);
        set(&mut backend.vlan, &self.vlan);
        set(&mut backend.health, &self.health);
        set(&mut backend.soft_limit, &self.soft_limit);
        set(&mut backend.hard_limit, &self.hard_limit);
    }
}

fn set<T: Clone>(field: &mut T, wanted: &Option<T>) {
    if let Some(value) = wanted {
        field.clone_from(value);
    }
}

/// Reads what is said: unlike serde's own form of an option, `null` is nothing to say.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
