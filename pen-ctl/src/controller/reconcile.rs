//! Makes the data plane equal to the desired state, given what is seen; and takes over what it held before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::Controller;
use crate::api::document::{InterfaceDocument, InterfaceState};
use crate::api::event::Kind;
use crate::dataplane::{self, BackendAddress, HealthStatus, Operation, ServiceKey};
use crate::health::NOT_CHECKED;
use crate::journal::Note;
use crate::plan::plan;
use crate::state::desired::Service;
use crate::surroundings::{Probe, Watched};
use crate::target::{self, Sighting};

/// What an operation is about: when one fails, the others go on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The data plane as a whole.
    Everything,
    /// The address where everybody may look.
    Http,
    /// An interface.
    Interface(String),
    /// A service.
    Service(ServiceKey),
}

impl Subject {
    fn of(operation: &Operation) -> Self {
        match operation {
            Operation::SetSeed(_) | Operation::SetFlood(_) => Self::Everything,
            Operation::Attach { name, .. } | Operation::Detach { name } => Self::Interface(name.clone()),
            Operation::SetService { key, .. }
            | Operation::RemoveService { key }
            | Operation::SetBackend { key, .. }
            | Operation::RemoveBackend { key, .. }
            | Operation::SetTable { key, .. } => Self::Service(*key),
        }
    }
}

impl Controller {
    /// The interfaces are known. The first time, what the data plane holds is adopted: ways and health stand until
    /// something else is seen.
    pub(super) fn start(&mut self) {
        if self.started {
            return;
        }
        match self.plane.observe() {
            Ok(observed) => self.observed = observed,
            Err(error) => {
                let message = format!("the data plane cannot be looked at yet: {error}");
                self.journal().note(Note::new(Kind::Trouble, message));
                return;
            }
        }
        self.started = true;
        for service in &self.store.desired().services {
            let Some(found) = self.observed.services.get(&service.vip) else { continue };
            if found.has_table {
                self.built.insert(service.vip);
            }
            for backend in &service.backends {
                let Some(before) = found.backends.get(&backend.address) else { continue };
                let id = (service.vip, backend.address);
                if let Some(path) = before.path {
                    self.seen.adopted.insert(id, path);
                }
                if before.health != HealthStatus::Unknown {
                    let detail = "as it was before the controller's restart".to_owned();
                    let (status, since) = (before.health, before.health_since);
                    let sighting = Sighting { status, detail, since, ..Sighting::default() };
                    self.seen.health.insert(id, sighting);
                }
            }
        }
    }

    /// Compares what should be with what is, and carries out the difference. Does nothing before the start.
    pub fn reconcile(&mut self) {
        if !self.ended {
            self.expire_trial();
        }
        if self.started && !self.ended {
            self.end_drains();
        }
        self.settle();
        self.note_failures();
    }

    /// The same without a word about what failed, for changes that may be taken back.
    pub(super) fn settle(&mut self) {
        if !self.started || self.ended {
            return;
        }
        let begun = Instant::now();
        self.settle_now();
        self.timings().reconciled(begun.elapsed());
    }

    fn settle_now(&mut self) {
        self.forget_the_removed();
        self.meet_the_new();
        self.watch();
        match self.plane.observe() {
            Ok(observed) => self.observed = observed,
            Err(error) => {
                self.failures = BTreeMap::from([(Subject::Everything, error.to_string())]);
                return;
            }
        }
        self.note_inserted();
        self.hold_up_the_unchecked();
        self.await_first_tables();
        let (target, standings) = self.build();
        for (key, service) in target.services.iter().filter(|(_, service)| service.members.is_some()) {
            self.seen.first_tables.remove(key);
            if !service.backends.is_empty() {
                self.built.insert(*key);
            }
        }
        self.hooks.follow(&self.store.desired().services, &self.options.journal);
        self.note_changes(&standings);
        self.note_panics(&standings);
        self.standings = standings;
        let steps = plan(&target, &self.observed);
        self.carry_out(&steps);
        self.watch_drains();
        self.announce();
    }

    fn carry_out(&mut self, steps: &[Operation]) {
        let mut failures = BTreeMap::new();
        for step in steps {
            let subject = Subject::of(step);
            // What comes after a failed step of the same service counts on it.
            if failures.contains_key(&subject) {
                continue;
            }
            tracing::debug!(?step, "operation");
            match self.plane.apply(step) {
                Ok(_) => self.note_attachment(step),
                Err(error) => {
                    failures.insert(subject, error.to_string());
                }
            }
        }
        if !steps.is_empty() {
            match self.plane.observe() {
                Ok(observed) => self.observed = observed,
                Err(error) => {
                    failures.insert(Subject::Everything, error.to_string());
                }
            }
        }
        if let Err(error) = self.keep_door() {
            failures.insert(Subject::Http, error.to_string());
        }
        self.failures = failures;
    }

    /// Notes where packets begin or cease to be looked at; that something about an attachment changed is no news.
    fn note_attachment(&self, done: &Operation) {
        match done {
            Operation::Attach { name, .. } if !self.observed.interfaces.contains_key(name) => {
                self.note_interface(name, "attached");
            }
            Operation::Detach { name } => self.note_interface(name, "detached"),
            _ => {}
        }
    }

    pub(super) fn note_interface(&self, name: &str, message: &str) {
        let interface = Some(name.to_owned());
        self.journal().note(Note { interface, ..Note::new(Kind::Interface, message) });
    }

    /// Notes what fails now and did not before, and which interfaces now wait for something or have a trouble, once.
    pub(super) fn note_failures(&mut self) {
        let failures = self.failures.iter().map(|(subject, why)| {
            let retried = format!("{why}; trying again every 5 s");
            (subject.clone(), (Kind::Trouble, retried))
        });
        let mut troubles = self.troubled_interfaces();
        troubles.extend(failures);
        for (subject, (kind, trouble)) in &troubles {
            if self.noted.get(subject) != Some(trouble) {
                let note = Note::new(*kind, trouble);
                self.journal().warn(match subject {
                    Subject::Everything | Subject::Http => note,
                    Subject::Interface(name) => Note { interface: Some(name.clone()), ..note },
                    Subject::Service(key) => Note { service: Some(self.service_name(key)), ..note },
                });
            }
        }
        self.noted = troubles.into_iter().map(|(subject, (_, trouble))| (subject, trouble)).collect();
    }

    /// Interfaces that are meant to be attached and are not, although nothing failed; and those that are, but not all
    /// works there.
    fn troubled_interfaces(&self) -> BTreeMap<Subject, (Kind, String)> {
        if !self.started || self.ended {
            return BTreeMap::new();
        }
        let all = self.store.desired().interfaces.iter().map(|spec| self.interface(spec));
        let troubled =
            all.filter(|interface| !interface.detail.is_empty() && interface.state != InterfaceState::Unused);
        troubled
            .map(|InterfaceDocument { name, state, detail, .. }| {
                let pending = if state == InterfaceState::Pending { "pending: " } else { "" };
                let trouble = format!("{pending}{detail}");
                (Subject::Interface(name), (Kind::Interface, trouble))
            })
            .collect()
    }

    fn forget_the_removed(&mut self) {
        let services = &self.store.desired().services;
        let keys: BTreeSet<ServiceKey> = services.iter().map(|service| service.vip).collect();
        let of = |service: &Service| {
            let key = service.vip;
            service.backends.iter().map(move |backend| (key, backend.address)).collect::<Vec<_>>()
        };
        let backends: BTreeSet<(ServiceKey, BackendAddress)> = services.iter().flat_map(of).collect();
        let addresses: BTreeSet<IpAddr> = backends.iter().filter_map(|(_, address)| address.ip()).collect();
        self.seen.health.retain(|id, _| backends.contains(id));
        self.seen.adopted.retain(|id, _| backends.contains(id));
        self.seen.recovering.retain(|id, _| backends.contains(id));
        self.transitions.retain(|id, _| backends.contains(id));
        self.retold.keep(|id| backends.contains(id));
        self.seen.resolutions.retain(|address, _| addresses.contains(address));
        self.seen.first_tables.retain(|key, _| keys.contains(key));
        self.built.retain(|key| keys.contains(key));
    }

    /// A backend that nothing is known of yet is `unknown` from now on.
    fn meet_the_new(&mut self) {
        let since = self.clock.unix_seconds();
        for service in &self.store.desired().services {
            for backend in &service.backends {
                let sighting = self.seen.health.entry((service.vip, backend.address));
                sighting.or_insert(Sighting { since, ..Sighting::default() });
            }
        }
    }

    /// Has the surroundings watch and check what is wanted, where that changed.
    fn watch(&mut self) {
        let (kind, attached) = (self.kind(), target::attached(self.store.desired(), &self.seen.links));
        let mut watched: BTreeMap<IpAddr, Watched> = BTreeMap::new();
        let mut probes = Vec::new();
        for service in &self.store.desired().services {
            for backend in &service.backends {
                let address = backend.address;
                // The proxy connects: the system finds the way.
                if let Some(address) = address.ip().filter(|_| kind == dataplane::Kind::Xdp) {
                    let entry = watched.entry(address).or_insert(Watched { address, fixed_mac: None });
                    entry.fixed_mac = entry.fixed_mac.or(backend.mac);
                }
                if let Some(check) = service.check(backend, self.kind()) {
                    let known = self.seen.health.get(&(service.vip, address));
                    let initial = known.map_or(HealthStatus::Unknown, |sighting| sighting.status);
                    let hop = target::hop(service, backend, &check, kind, &self.seen, &attached);
                    probes.push(Probe { key: service.vip, address, check, hop, initial });
                }
            }
        }
        if watched != self.watched {
            self.surroundings.watch(watched.values().cloned().collect());
            self.watched = watched;
        }
        let asked = |probe: &Probe| (probe.key, probe.address, probe.check.clone(), probe.hop.clone());
        let probed: Vec<_> = probes.iter().map(asked).collect();
        if probed != self.probed {
            self.surroundings.probe(probes);
            self.probed = probed;
        }
    }

    /// A backend that is not checked is up once its MAC is known, and stays so: without a MAC it does not serve.
    fn hold_up_the_unchecked(&mut self) {
        let now = self.clock.unix_seconds();
        let (kind, attached) = (self.kind(), target::attached(self.store.desired(), &self.seen.links));
        for service in &self.store.desired().services {
            for backend in service.backends.iter().filter(|backend| target::unchecked(service, backend, kind))
            {
                let id = (service.vip, backend.address);
                let up =
                    self.seen.health.get(&id).is_some_and(|sighting| sighting.status == HealthStatus::Up);
                if !up && target::reachable(service, backend, kind, &self.seen, &attached) {
                    let detail = NOT_CHECKED.to_owned();
                    let up = Sighting { status: HealthStatus::Up, detail, since: now, ..Sighting::default() };
                    self.seen.health.insert(id, up);
                }
            }
        }
    }

    /// Services that got their first backends wait for results, but no longer than one check may take.
    fn await_first_tables(&mut self) {
        let now = self.clock.uptime();
        for service in &self.store.desired().services {
            let waits = !service.backends.is_empty()
                && !self.built.contains(&service.vip)
                && !self.observed.services.get(&service.vip).is_some_and(|found| found.has_table);
            if !waits {
                self.seen.first_tables.remove(&service.vip);
                continue;
            }
            let checks = service.backends.iter().filter_map(|backend| service.check(backend, self.kind()));
            let longest = checks.map(|check| check.pace.timeout).max();
            self.seen.first_tables.entry(service.vip).or_insert(now + longest.unwrap_or_default());
        }
    }
}
