//! The services of a plane: what its controller changes, and what a successor gets, also after that has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::held::Held;
use crate::dataplane::proxy::pool::Member;
use crate::dataplane::proxy::service::Service;
use crate::dataplane::{BackendAddress, BackendTarget, ServiceKey};

/// Services; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Estate(Arc<Mutex<BTreeMap<ServiceKey, Held>>>);

/// A service of it.
#[derive(Debug)]
pub(in super::super) struct Bequest {
    /// With its memory and its counts.
    pub(in super::super) service: Arc<Service>,
    /// Its backends as the controller saw them.
    pub(in super::super) backends: BTreeMap<BackendAddress, BackendTarget>,
    /// The same as workers see them.
    pub(in super::super) members: Vec<(BackendAddress, Arc<Member>)>,
}

impl Estate {
    /// The services, to look at or to change.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceKey, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients of all of them just now.
    pub fn connections(&self) -> u32 {
        self.lock().values().map(|held| held.service.connections()).sum()
    }

    /// What of them a successor gets.
    pub(in super::super) fn bequests(&self) -> BTreeMap<ServiceKey, Bequest> {
        let bequest = |(key, held): (&ServiceKey, &Held)| {
            let (service, backends) = (held.service.clone(), held.observed.backends.clone());
            (*key, Bequest { service, backends, members: held.members(key) })
        };
        self.lock().iter().map(bequest).collect()
    }
}
