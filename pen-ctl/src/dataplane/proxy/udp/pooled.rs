//! The backends of a worker's UDP sessions: those of the services whose listeners it has.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::io::Errno;
use tracing::{info, warn};

use super::{Backends, Load, Manner};
use crate::dataplane::proxy::choose::Excluded;
use crate::dataplane::proxy::endpoint::{Endpoint, Peer};
use crate::dataplane::proxy::pool::{Place, Role};
use crate::dataplane::proxy::service::Service;

/// The services of a worker's listeners.
#[derive(Debug, Default)]
pub(in super::super) struct Pooled {
    worker: usize,
    /// By listener.
    services: Vec<Option<Arc<Service>>>,
}

/// A backend, as it was when it was chosen.
#[derive(Clone, Debug)]
pub(in super::super) struct Chosen(Place);

impl PartialEq for Chosen {
    fn eq(&self, other: &Chosen) -> bool {
        Arc::ptr_eq(&self.0.member, &other.0.member)
    }
}

/// A session's place with a backend and with its service.
#[derive(Debug)]
pub(in super::super) struct Lease {
    service: Arc<Service>,
    place: Place,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.place.member.leave();
        self.service.leave();
    }
}

impl Pooled {
    /// Those of that worker: none yet.
    pub(in super::super) fn of(worker: usize) -> Pooled {
        Pooled { worker, services: Vec::new() }
    }

    /// That listener is of that service, or of none any more.
    pub(in super::super) fn set(&mut self, listener: usize, service: Option<Arc<Service>>) {
        if self.services.len() <= listener {
            self.services.resize(listener + 1, None);
        }
        self.services[listener] = service;
    }

    /// Whether a session keeps its backend, as its service now stands.
    pub(in super::super) fn keeps(&self, listener: usize, Chosen(place): &Chosen) -> bool {
        self.service(listener).is_some_and(|service| {
            service.state().pool.place_of(&place.member).is_some_and(|place| place.role != Role::Out)
        })
    }

    fn service(&self, listener: usize) -> Option<&Arc<Service>> {
        self.services.get(listener)?.as_ref()
    }
}

impl Backends for Pooled {
    type Id = Chosen;
    type Lease = Lease;

    fn choose(
        &mut self,
        listener: usize,
        client: SocketAddr,
        excluded: &[Chosen],
    ) -> Option<(Chosen, SocketAddr)> {
        let service = self.service(listener)?;
        let state = service.state();
        if !service.has_room(&state) || state.settings.stubborn && !excluded.is_empty() {
            return None;
        }
        let mut tried = Excluded::nobody();
        excluded.iter().for_each(|Chosen(place)| tried.add(place.member.id()));
        let place = service.choose(&state, Peer::from(client), &tried)?;
        match *place.member.endpoint() {
            Endpoint::Inet(address) => Some((Chosen(place), address)),
            Endpoint::Unix(_) => None,
        }
    }

    fn admits(&mut self, listener: usize, client: SocketAddr) -> bool {
        self.service(listener).is_none_or(|service| service.state().admits(Peer::from(client)))
    }

    fn denied(&mut self, listener: usize, datagrams: u64) {
        if let Some(service) = self.service(listener) {
            service.count(self.worker).denied.add(datagrams);
        }
    }

    fn enter(&mut self, listener: usize, Chosen(place): &Chosen) -> Option<Lease> {
        let service = self.service(listener)?.clone();
        if !service.enter(&service.state()) {
            return None;
        }
        if !place.enter() {
            service.leave();
            return None;
        }
        place.member.count(self.worker).connections.add(1);
        Some(Lease { service, place: place.clone() })
    }

    fn manner(&mut self, listener: usize) -> Manner {
        self.service(listener).map_or(Manner::default(), |service| {
            let settings = &service.state().settings;
            Manner { transparent: settings.transparent, preface: settings.proxy_protocol.is_some() }
        })
    }

    fn opened(&mut self, listener: usize) {
        if let Some(service) = self.service(listener) {
            service.count(self.worker).accepted.add(1);
        }
    }

    fn turned_away(&mut self, listener: usize, datagrams: u64) {
        if let Some(service) = self.service(listener) {
            service.count(self.worker).turned_away.add(datagrams);
        }
    }

    fn carried(&mut self, _: usize, Chosen(place): &Chosen, load: Load) {
        let counts = place.member.count(self.worker);
        counts.datagrams.add(load.datagrams);
        // As the statistics see it: received from clients, sent to clients.
        counts.received.add(load.sent);
        counts.sent.add(load.received);
    }

    fn failed(&mut self, listener: usize, Chosen(place): &Chosen, why: Errno) {
        place.member.count(self.worker).failures.add(1);
        let Some(service) = self.service(listener) else { return };
        let state = service.state();
        if service.failed(&state, &place.member, &format!("unreachable: {why}")) {
            let (backend, out_for) = (place.member.endpoint(), state.settings.out_for);
            warn!(service = %service.name, %backend, "backend left out for {out_for:?}: unreachable: {why}");
        }
    }

    fn answered(&mut self, listener: usize, Chosen(place): &Chosen) {
        if place.member.succeeded() {
            let service = self.service(listener).map_or("", |service| service.name.as_str());
            info!(%service, backend = %place.member.endpoint(), "backend answers again");
        }
    }
}
