//! A service that the plane holds: what the controller was told of it, and what workers are to make of that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::dataplane::proxy::Proxy;
use crate::dataplane::proxy::choose::Policy;
use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::listener::Listeners;
use crate::dataplane::proxy::pool::{self, BackendConfig, Role};
use crate::dataplane::proxy::preface::Version;
use crate::dataplane::proxy::service::{Service, Settings};
use crate::dataplane::{
    BackendAddress, BackendTarget, HealthStatus, Member, ObservedService, OnDown, ProxyProtocol,
    ProxySettings, ServiceKey, ServiceSettings, VipAddress,
};

/// How long a backend is left out after a connection to it failed. Health checks, which know more, go on meanwhile.
const OUT_FOR: Duration = Duration::from_secs(10);

/// A service that is there.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) service: Arc<Service>,
    pub(super) observed: ObservedService,
    /// Sockets on which clients wait until it is known who serves.
    pub(super) waiting: Vec<Listeners>,
    /// It was said who shares its newcomers.
    pub(super) decided: bool,
    /// The controller has seen it.
    pub(super) looked_at: bool,
}

impl Held {
    /// Clients need not wait any more: it is known who serves, if only that nobody does.
    pub(super) fn is_open(&self) -> bool {
        let idle = |target: &BackendTarget| target.health != HealthStatus::Unknown && !target.serving;
        let backends = &self.observed.backends;
        let nobody = self.observed.members.is_some() && !backends.is_empty() && backends.values().all(idle);
        self.decided || nobody
    }

    /// The backends that are there, as people name them, with what workers know of them.
    pub(super) fn members(&self, key: &ServiceKey) -> Vec<(BackendAddress, Arc<pool::Member>)> {
        let names: HashMap<Endpoint, BackendAddress> =
            self.observed.backends.keys().map(|address| (endpoint(address, key), *address)).collect();
        let state = self.service.state();
        let name = |place: &pool::Place| Some((*names.get(place.member.endpoint())?, place.member.clone()));
        state.pool.places().filter_map(name).collect()
    }

    /// Has new connections see it as it is to be, and clients come once it is known who serves.
    pub(super) fn refresh(&mut self, key: &ServiceKey, seed: u64, proxy: &Proxy) {
        let weights: BTreeMap<BackendAddress, u16> =
            self.observed.members.iter().flatten().map(|member| (member.address, member.weight)).collect();
        let backends = self.observed.backends.iter();
        let config = |(address, target): (&BackendAddress, &BackendTarget)| {
            config(endpoint(address, key), target, weights.get(address).copied())
        };
        let backends: Vec<BackendConfig> = backends.map(config).collect();
        self.service.set(settings(&self.observed.settings, seed), &backends);
        if self.is_open() {
            self.waiting.drain(..).for_each(|listeners| proxy.open(&self.service, listeners));
        }
        proxy.look();
    }

    /// These share newcomers from now on.
    pub(super) fn decide(&mut self, members: &[Member]) {
        self.observed.members = Some(members.to_vec());
        self.observed.has_table = !members.is_empty();
        self.decided = true;
    }
}

/// A backend as workers read it; `weight` is its share of newcomers, where it has one.
fn config(endpoint: Endpoint, target: &BackendTarget, weight: Option<u16>) -> BackendConfig {
    let proxy = target.proxy.as_ref();
    let standby = proxy.filter(|proxy| proxy.standby && !proxy.draining);
    let role = match (target.usable, weight, standby) {
        (false, ..) => Role::Out,
        (true, Some(_), _) => Role::Serving,
        (true, None, Some(standby)) => Role::Standby(standby.priority),
        (true, None, None) => Role::Keeping,
    };
    BackendConfig {
        endpoint,
        weight: weight.or(proxy.map(|proxy| proxy.weight)).unwrap_or(1),
        role,
        soft_limit: proxy.and_then(|proxy| proxy.soft_limit),
        hard_limit: proxy.and_then(|proxy| proxy.hard_limit),
    }
}

/// Settings as workers read them.
pub(super) fn settings(settings: &ServiceSettings, seed: u64) -> Settings {
    let ServiceSettings { affinity, scheduler, tracking, tracking_timeout, .. } = *settings;
    let tracking_timeout = u32::try_from(tracking_timeout.as_secs()).unwrap_or(u32::MAX);
    let policy = Policy { affinity, tracking, scheduler, tracking_timeout, seed };
    let access = settings.access.clone();
    let plain = Settings { out_for: OUT_FOR, access, ..Settings::new(policy) };
    let Some(proxy) = &settings.proxy else { return plain };
    let ProxySettings { connect_timeout, idle_timeout, max_connections, stubborn, transparent, .. } = *proxy;
    Settings {
        connect_timeout,
        idle_timeout,
        max_connections,
        stubborn,
        transparent,
        proxy_protocol: proxy.proxy_protocol.map(|version| match version {
            ProxyProtocol::V1 => Version::V1,
            ProxyProtocol::V2 => Version::V2,
        }),
        proxy_protocol_from: proxy.proxy_protocol_from.clone(),
        close_on_down: proxy.on_down == OnDown::Close,
        ..plain
    }
}

/// Where a service listens.
pub(in super::super) fn endpoint_of(key: &ServiceKey) -> Endpoint {
    match key.address {
        VipAddress::Ip(address) => Endpoint::Inet((address, key.port).into()),
        VipAddress::Unix(path) => Endpoint::Unix(path.as_path().to_owned()),
    }
}

/// Where a backend of that service listens.
pub(in super::super) fn endpoint(address: &BackendAddress, key: &ServiceKey) -> Endpoint {
    match address {
        BackendAddress::Ip(address) => Endpoint::Inet((*address, key.port).into()),
        BackendAddress::Port(address) => Endpoint::Inet(*address),
        BackendAddress::Unix(path) => Endpoint::Unix(path.as_path().to_owned()),
    }
}
