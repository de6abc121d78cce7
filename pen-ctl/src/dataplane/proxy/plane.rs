//! The proxy as the controller works with it: services, backends and who serves, carried out by workers of this process.
//!
//! Every operation makes one new [`service::State`](super::service::State), which connections see from then on whole;
//! those that are open go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::available_parallelism;

use super::count::Totals;
use super::handover::{Heir, Inherited};
use super::service::Service;
use super::{Proxy, StartError, transparent};
use crate::dataplane::clients::Clients;
use crate::dataplane::{
    BackendAddress, Connections, Counters, DataPlane, DataPlaneError, Inserted, Kind, Observed,
    ObservedService, Operation, RefusedClients, RefusedPackets, ServiceConnections, ServiceKey,
    ServiceSettings, Traffic,
};
use clients::ProxyClients;
use estate::Estate;
use held::Held;
pub(super) use held::{endpoint, endpoint_of};

mod clients;
pub mod estate;
mod held;
#[cfg(test)]
pub(super) mod tests;

/// The proxy, as one data plane.
#[derive(Debug)]
pub struct ProxyPlane {
    proxy: Arc<Proxy>,
    /// Clients that each service remembers at most.
    clients: usize,
    seed: u64,
    /// Kept for whoever asks, and without effect: it is about packets.
    flood_inserts_per_cpu: u32,
    /// Those that are there; a successor finds them here, too.
    services: Estate,
    /// Services that were removed and may have connections.
    leaving: Vec<Arc<Service>>,
    /// What was counted of services that have gone, those that are leaving left out.
    gone: Totals,
    /// Entries that services which were removed had made.
    gone_inserted: Inserted,
    /// Connections and datagrams that the access lists of services which were removed had refused.
    gone_denied: u64,
}

/// Starts the proxy with one worker for each processor.
///
/// # Errors
/// The system lacks what workers need.
pub fn open(tracking_clients: u32) -> Result<ProxyPlane, StartError> {
    let workers = available_parallelism().map_or(1, usize::from);
    let proxy = Proxy::start(workers)?;
    Ok(ProxyPlane::new(Arc::new(proxy), tracking_clients as usize))
}

impl ProxyPlane {
    fn new(proxy: Arc<Proxy>, clients: usize) -> ProxyPlane {
        ProxyPlane {
            proxy,
            clients,
            seed: 0,
            flood_inserts_per_cpu: 0,
            services: Estate::default(),
            leaving: Vec::new(),
            gone: Totals::default(),
            gone_inserted: Inserted::default(),
            gone_denied: 0,
        }
    }

    /// The workers; they go on when the plane is dropped, for as long as somebody has them.
    pub fn proxy(&self) -> Arc<Proxy> {
        self.proxy.clone()
    }

    /// What a successor is to get, as it is by then.
    pub fn estate(&self) -> Estate {
        self.services.clone()
    }

    /// Goes on from what a predecessor had: its services are there, closed until it is said who serves. Who is to hear of
    /// clients that come to the predecessor yet.
    pub fn inherit(&mut self, inherited: Vec<Inherited>) -> Vec<Heir> {
        let mut heirs = Vec::new();
        for one in inherited {
            let key = one.key;
            let service = self.proxy.service(key.to_string(), key.protocol, one.settings(), self.clients);
            let (observed, waiting, heir) = one.bequeath(&service, self.proxy.workers());
            heirs.push(heir);
            let held = Held { service, observed, waiting, decided: false, looked_at: false };
            self.services.lock().insert(key, held);
        }
        heirs
    }

    fn set_service(&mut self, key: ServiceKey, settings: &ServiceSettings) -> Result<(), DataPlaneError> {
        let failed = |why: String, hint: &str| DataPlaneError {
            what: format!("open {key}"),
            why,
            hint: hint.to_owned(),
        };
        if settings.proxy.as_ref().is_some_and(|proxy| proxy.transparent) {
            transparent::check().map_err(|error| {
                failed(
                    format!("transparent = true: {error}"),
                    "it takes Linux, FreeBSD or OpenBSD, and root or CAP_NET_ADMIN",
                )
            })?;
        }
        let mut services = self.services.lock();
        if let Some(held) = services.get_mut(&key) {
            held.observed.settings = settings.clone();
        } else {
            let (wanted, protocol) = (held::settings(settings, self.seed), key.protocol);
            let listeners = self.proxy.bind(protocol, &endpoint_of(&key));
            let waiting = vec![listeners.map_err(|error| failed(error.to_string(), ""))?];
            let service = self.proxy.service(key.to_string(), protocol, wanted, self.clients);
            let observed = ObservedService {
                settings: settings.clone(),
                backends: BTreeMap::new(),
                members: Some(Vec::new()),
                has_table: false,
                in_transition: 0,
            };
            services.insert(key, Held { service, observed, waiting, decided: false, looked_at: false });
        }
        if let Some(held) = services.get_mut(&key) {
            held.refresh(&key, self.seed, &self.proxy);
        }
        Ok(())
    }

    fn remove_service(&mut self, key: &ServiceKey) {
        let Some(held) = self.services.lock().remove(key) else { return };
        self.proxy.close(&held.service);
        held.service.set(held.service.state().settings.clone(), &[]);
        self.proxy.look();
        let [v4, v6] = held.service.chooser().memory.churn();
        self.gone_inserted.v4 += v4.inserted;
        self.gone_inserted.v6 += v6.inserted;
        self.gone_denied += held.service.denied();
        self.leaving.push(held.service);
    }

    /// Changes what a service that is there is to hold.
    fn change(&self, key: &ServiceKey, change: impl FnOnce(&mut Held)) -> Result<(), DataPlaneError> {
        let mut services = self.services.lock();
        let held = services.get_mut(key).ok_or_else(|| DataPlaneError {
            what: format!("change {key}"),
            why: "it is not open".into(),
            hint: "see why in the log: it is tried again".into(),
        })?;
        change(held);
        held.refresh(key, self.seed, &self.proxy);
        Ok(())
    }

    /// What was counted of services that have gone.
    fn gone(&mut self) -> Totals {
        let (mut gone, mut leaving) = (self.gone, Totals::default());
        self.leaving.retain(|service| {
            let totals = service.gone_totals();
            let last = Arc::strong_count(service) == 1;
            *if last { &mut gone } else { &mut leaving } =
                if last { gone.plus(totals) } else { leaving.plus(totals) };
            !last
        });
        self.gone = gone;
        gone.plus(leaving)
    }
}

impl Drop for ProxyPlane {
    /// Whoever waits to be let in is not let in any more; a successor listens there itself.
    fn drop(&mut self) {
        self.services.lock().values_mut().for_each(|held| held.waiting.clear());
    }
}

impl DataPlane for ProxyPlane {
    fn name(&self) -> &'static str {
        Kind::Proxy.name()
    }

    fn kind(&self) -> Kind {
        Kind::Proxy
    }

    fn observe(&mut self) -> Result<Observed, DataPlaneError> {
        // Backends of a new service are told right after it: who still has none when looked at again, has none.
        let mut services = self.services.lock();
        for held in services.values_mut().filter(|held| held.observed.backends.is_empty()) {
            if std::mem::replace(&mut held.looked_at, true) {
                held.waiting.drain(..).for_each(|listeners| self.proxy.open(&held.service, listeners));
            }
        }
        let held = services.iter().map(|(key, held)| (*key, held.observed.clone()));
        Ok(Observed {
            seed: self.seed,
            flood_inserts_per_cpu: self.flood_inserts_per_cpu,
            interfaces: BTreeMap::new(),
            services: held.collect(),
        })
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DataPlaneError> {
        match operation {
            Operation::SetSeed(seed) => {
                self.seed = *seed;
                for (key, held) in self.services.lock().iter_mut() {
                    held.refresh(key, *seed, &self.proxy);
                }
            }
            Operation::SetFlood(limit) => self.flood_inserts_per_cpu = *limit,
            Operation::Attach { name, .. } => {
                return Err(DataPlaneError {
                    what: format!("attach to {name}"),
                    why: "the proxy attaches to no interface".into(),
                    hint: "leave `interfaces` out, or run with --dataplane xdp".into(),
                });
            }
            Operation::Detach { .. } => {}
            Operation::SetService { key, settings } => self.set_service(*key, settings)?,
            Operation::RemoveService { key } => self.remove_service(key),
            Operation::SetBackend { key, address, target } => {
                let keep = |held: &mut Held| _ = held.observed.backends.insert(*address, *target);
                self.change(key, keep)?;
            }
            Operation::RemoveBackend { key, address } => {
                self.change(key, |held| _ = held.observed.backends.remove(address))?;
            }
            Operation::SetTable { key, members } => self.change(key, |held| held.decide(members))?,
        }
        Ok(())
    }

    fn inserted(&mut self) -> Result<Inserted, DataPlaneError> {
        let mut inserted = self.gone_inserted;
        for held in self.services.lock().values() {
            let [v4, v6] = held.service.chooser().memory.churn();
            inserted.v4 += v4.inserted;
            inserted.v6 += v6.inserted;
        }
        Ok(inserted)
    }

    fn counters(&mut self) -> Result<Counters, DataPlaneError> {
        let traffic = |totals: Totals| Traffic { packets: totals.datagrams, bytes: totals.received };
        let removed_services = traffic(self.gone());
        let mut counters = Counters { removed_services, ..Counters::default() };
        let (mut turned_away, mut denied) = (0, self.gone_denied);
        for (key, held) in self.services.lock().iter() {
            for (address, member) in held.members(key) {
                counters.backends.insert((*key, address), traffic(Totals::of(member.counts())));
            }
            counters.removed_backends.insert(*key, traffic(held.service.gone_totals()));
            turned_away += held.service.accepted_and_turned_away().1;
            denied += held.service.denied();
        }
        for (reason, packets) in [("no_backend", turned_away), ("denied", denied)] {
            counters.dropped.insert(reason, Traffic { packets, bytes: 0 });
        }
        Ok(counters)
    }

    fn connections(&mut self) -> BTreeMap<(ServiceKey, BackendAddress), Connections> {
        let mut all = BTreeMap::new();
        for (key, held) in self.services.lock().iter() {
            for (address, member) in held.members(key) {
                let totals = Totals::of(member.counts());
                let connections = Connections {
                    open: member.connections().into(),
                    total: totals.connections,
                    failed: totals.failures,
                    left_out: member.left_out(held.service.clock().now()),
                };
                all.insert((*key, address), connections);
            }
        }
        all
    }

    fn service_connections(&mut self) -> BTreeMap<ServiceKey, ServiceConnections> {
        let of = |held: &Held| {
            let (accepted, turned_away) = held.service.accepted_and_turned_away();
            ServiceConnections { open: held.service.connections().into(), accepted, turned_away }
        };
        self.services.lock().iter().map(|(key, held)| (*key, of(held))).collect()
    }

    /// Nobody is limited, and of whom a list refused only the number is kept.
    fn refused(&mut self) -> Result<BTreeMap<ServiceKey, RefusedClients>, DataPlaneError> {
        let of = |held: &Held| {
            let denied = RefusedPackets { packets: held.service.denied(), newest: None };
            RefusedClients { denied, ..RefusedClients::default() }
        };
        Ok(self.services.lock().iter().map(|(key, held)| (*key, of(held))).collect())
    }

    fn clients(&mut self) -> Result<Box<dyn Clients>, DataPlaneError> {
        let of = |(key, held): (&ServiceKey, &Held)| {
            let names = held.observed.backends.keys().map(|address| (endpoint(address, key), *address));
            (*key, held.service.clone(), names.collect())
        };
        let services = self.services.lock().iter().map(of).collect();
        Ok(Box::new(ProxyClients::new(services, self.gone_inserted)))
    }
}
