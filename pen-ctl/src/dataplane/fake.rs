//! A data plane in memory: for tests of everything above it. It moves no packets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clients::{Clients, Fate, Remembered};
use super::{
    AttachMode, BackendAddress, Connections, Counters, DataPlane, DataPlaneError, Inserted, Kind, Observed,
    ObservedInterface, ObservedService, Operation, RefusedClients, ServiceConnections, ServiceKey,
    Suppression, TrackingUse,
};

/// A data plane in memory; clones share it, so that a test can look at what a controller does to it.
#[derive(Clone, Debug, Default)]
pub struct FakePlane {
    inner: Arc<Mutex<Inner>>,
    /// While somebody holds this, counting how full the tables are goes on and on.
    pub slow: Arc<tokio::sync::Mutex<()>>,
}

/// What is in it.
#[derive(Debug, Default)]
pub struct Inner {
    /// Whose rules what it holds obeys.
    pub kind: Kind,
    /// What connections to backends came to.
    pub connections: BTreeMap<(ServiceKey, BackendAddress), Connections>,
    /// What connections from clients came to.
    pub service_connections: BTreeMap<ServiceKey, ServiceConnections>,
    /// What it holds.
    pub observed: Observed,
    /// What it was asked, in order, refused operations left out.
    pub operations: Vec<Operation>,
    /// What it counts.
    pub counters: Counters,
    /// What it answers.
    pub inserted: Inserted,
    /// What its interfaces lose.
    pub tx_errors: BTreeMap<String, u64>,
    /// What its access lists and limits refused.
    pub refused: BTreeMap<ServiceKey, RefusedClients>,
    /// Newcomers that it did not remember.
    pub suppression: Option<Suppression>,
    /// How full its tables are.
    pub tracking: TrackingUse,
    /// Interfaces that carry someone else's program: attaching there is refused with these words.
    pub occupied: BTreeMap<String, String>,
    /// What does not work on interfaces once they are attached.
    pub troubles: BTreeMap<String, Vec<String>>,
    /// Whom it remembers.
    pub remembered: Vec<Remembered>,
    /// Services that cannot be set, with the reason.
    pub broken: BTreeMap<ServiceKey, String>,
}

impl FakePlane {
    /// What is in it, to look at or to change.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DataPlane for FakePlane {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn kind(&self) -> Kind {
        self.lock().kind
    }

    fn observe(&mut self) -> Result<Observed, DataPlaneError> {
        Ok(self.lock().observed.clone())
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DataPlaneError> {
        let mut inner = self.lock();
        inner.apply(operation)?;
        inner.operations.push(operation.clone());
        Ok(())
    }

    fn counters(&mut self) -> Result<Counters, DataPlaneError> {
        Ok(self.lock().counters.clone())
    }

    fn inserted(&mut self) -> Result<Inserted, DataPlaneError> {
        Ok(self.lock().inserted)
    }

    fn connections(&mut self) -> BTreeMap<(ServiceKey, BackendAddress), Connections> {
        self.lock().connections.clone()
    }

    fn service_connections(&mut self) -> BTreeMap<ServiceKey, ServiceConnections> {
        self.lock().service_connections.clone()
    }

    fn refused(&mut self) -> Result<BTreeMap<ServiceKey, RefusedClients>, DataPlaneError> {
        Ok(self.lock().refused.clone())
    }

    fn suppression(&mut self) -> Result<Option<Suppression>, DataPlaneError> {
        Ok(self.lock().suppression)
    }

    fn tx_errors(&mut self) -> BTreeMap<String, u64> {
        self.lock().tx_errors.clone()
    }

    fn clients(&mut self) -> Result<Box<dyn Clients>, DataPlaneError> {
        Ok(Box::new(self.clone()))
    }
}

impl Clients for FakePlane {
    fn read(&self, visit: &mut dyn FnMut(&Remembered) -> Fate) -> Result<u64, DataPlaneError> {
        let remembered = self.lock().remembered.clone();
        let (mut kept, mut forgotten, mut stopped) = (Vec::new(), 0, false);
        for one in remembered {
            let fate = if stopped { Fate::Keep } else { visit(&one) };
            stopped |= fate == Fate::Stop;
            if fate == Fate::Forget { forgotten += 1 } else { kept.push(one) }
        }
        self.lock().remembered = kept;
        Ok(forgotten)
    }

    fn occupancy(&self) -> Result<TrackingUse, DataPlaneError> {
        let _counting = self.slow.blocking_lock();
        Ok(self.lock().tracking)
    }

    /// Whoever comes first in the table gets everybody.
    fn newcomer(&self, service: &ServiceKey, _: IpAddr) -> Result<Option<BackendAddress>, DataPlaneError> {
        let inner = self.lock();
        let members = inner.observed.services.get(service).and_then(|service| service.members.as_ref());
        Ok(members.and_then(|members| members.first()).map(|member| member.address))
    }
}

impl Inner {
    /// Refuses what the contract of [`Operation`] forbids: a real data plane would misdirect packets.
    fn apply(&mut self, operation: &Operation) -> Result<(), DataPlaneError> {
        let refuse = |why: &str| {
            Err(DataPlaneError { what: format!("{operation:?}"), why: why.into(), hint: String::new() })
        };
        match operation {
            Operation::SetSeed(seed) => self.observed.seed = *seed,
            Operation::SetFlood(limit) => self.observed.flood_inserts_per_cpu = *limit,
            Operation::Attach { name, target } => {
                if let Some(why) = self.occupied.get(name) {
                    let what = format!("attach to {name}");
                    return Err(DataPlaneError { what, why: why.clone(), hint: "detach that first".into() });
                }
                let mode =
                    if target.mode == AttachMode::Generic { AttachMode::Generic } else { AttachMode::Native };
                let troubles = self.troubles.get(name).cloned().unwrap_or_default();
                let target = target.clone();
                let interface = ObservedInterface { target, mode, attached: true, intact: true, troubles };
                self.observed.interfaces.insert(name.clone(), interface);
            }
            Operation::Detach { name } => {
                self.observed.interfaces.remove(name);
            }
            Operation::SetService { key, settings } => {
                if let Some(why) = self.broken.get(key) {
                    return refuse(why);
                }
                let empty = ObservedService {
                    settings: settings.clone(),
                    backends: BTreeMap::new(),
                    members: Some(Vec::new()),
                    has_table: false,
                    in_transition: 0,
                };
                self.observed.services.entry(*key).or_insert(empty).settings = settings.clone();
            }
            Operation::RemoveService { key } => {
                self.observed.services.remove(key);
            }
            Operation::SetBackend { key, address, target } => match self.observed.services.get_mut(key) {
                Some(service) => {
                    service.backends.insert(*address, *target);
                }
                None => return refuse("no such service"),
            },
            Operation::RemoveBackend { key, address } => match self.observed.services.get_mut(key) {
                Some(service) if service.has_table && service.members.is_none() => {
                    return refuse("the table may name it");
                }
                Some(service)
                    if service.members.iter().flatten().any(|member| member.address == *address) =>
                {
                    return refuse("the table names it");
                }
                Some(service) => {
                    service.backends.remove(address);
                }
                None => return refuse("no such service"),
            },
            Operation::SetTable { key, members } => match self.observed.services.get_mut(key) {
                Some(service)
                    if members.iter().any(|member| !service.backends.contains_key(&member.address)) =>
                {
                    return refuse("the table would name a backend that is not there");
                }
                Some(service) => {
                    service.members = Some(members.clone());
                    service.has_table = !members.is_empty();
                }
                None => return refuse("no such service"),
            },
        }
        Ok(())
    }
}
