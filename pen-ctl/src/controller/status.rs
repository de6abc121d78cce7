//! Puts together the documents that people and programs look at.

use std::collections::BTreeMap;

use super::Controller;
use super::change::no_backend;
use super::reconcile::Subject;
use crate::api::document::{
    AccessDocument, BackendDocument, ControllerDocument, HealthDocument, InterfaceDocument, InterfaceList,
    InterfaceState, PacketsDocument, ProxyDocument, ServiceDocument, StatusDocument, TrackingDocument,
};
use crate::api::{ApiError, Reply};
use crate::dataplane::{
    self, AttachMode, BackendAddress, Connections, Counters, DataPlaneError, ObservedInterface,
    RefusedClients, ServiceConnections, ServiceKey, Traffic,
};
use crate::named_files;
use crate::own_address;
use crate::shut_out;
use crate::state::desired::{Backend, InterfaceSpec, Service};
use crate::state::text;
use crate::target::{bond, link_named};

/// What the data plane counts.
struct Counts {
    counters: Counters,
    backends: BTreeMap<(ServiceKey, BackendAddress), Connections>,
    services: BTreeMap<ServiceKey, ServiceConnections>,
    refused: BTreeMap<ServiceKey, RefusedClients>,
}

impl Controller {
    fn counts(&mut self, troubles: &mut Vec<String>) -> Counts {
        Counts {
            counters: or_default(self.plane.counters(), troubles),
            backends: self.plane.connections(),
            services: self.plane.service_connections(),
            refused: or_default(self.plane.refused(), troubles),
        }
    }

    pub(super) fn status(&mut self) -> StatusDocument {
        let mut troubles = Vec::new();
        let counts = self.counts(&mut troubles);
        self.look_for_flood();
        troubles.extend(self.tracking_trouble().map(str::to_owned));
        let not_counted = TrackingDocument { flood: self.flood_document(), ..TrackingDocument::default() };
        let tracking = self.tracking_document().unwrap_or(not_counted);
        let desired = self.store.desired();
        let mut warnings = self.warnings();
        warnings.extend(troubles);
        let max = tracking.tables.v4.max;
        let fixed = self.kind() == dataplane::Kind::Xdp;
        if fixed && max != 0 && max != u64::from(desired.tracking_clients) {
            warnings.push(format!(
                "tracking_clients = {} is not in force: the tables in use have {} entries and keep them until the \
                 pins are made anew (`run --discard`, which forgets clients)",
                desired.tracking_clients, max
            ));
        }
        StatusDocument {
            controller: ControllerDocument {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                dataplane: self.plane.name().to_owned(),
                uptime_seconds: self.clock.uptime().as_secs(),
                file: self.options.file.as_ref().map(|file| file.display().to_string()),
                file_differs: self.file_differs(),
                http: self.options.door.address(),
                seed: Some(desired.seed),
                revision: Some(self.revision()),
                trial: self.trial_document(),
            },
            interfaces: desired.interfaces.iter().map(|spec| self.interface(spec)).collect(),
            services: desired.services.iter().map(|service| self.service(service, &counts)).collect(),
            packets: packets(&counts.counters),
            tracking,
            warnings,
        }
    }

    /// What somebody should look at.
    pub(super) fn warnings(&self) -> Vec<String> {
        let desired = self.store.desired();
        let mut warnings: Vec<String> = self.failures.values().cloned().collect();
        for interface in desired.interfaces.iter().map(|spec| self.interface(spec)) {
            let failed = self.failures.contains_key(&Subject::Interface(interface.name.clone()));
            match interface.state {
                InterfaceState::Pending if !failed => {
                    warnings.push(format!("interface {}: {}", interface.name, interface.detail));
                }
                InterfaceState::Attached if !interface.detail.is_empty() => {
                    warnings.push(format!("interface {}: {}", interface.name, interface.detail));
                }
                _ => {}
            }
        }
        for service in desired.services.iter().filter(|service| !service.backends.is_empty()) {
            let serving = |backend: &Backend| {
                self.standings.get(&(service.vip, backend.address)).is_some_and(|standing| standing.serving)
            };
            if !service.backends.iter().any(serving) {
                warnings.push(format!("service {}: no backend is serving", service.name));
            }
        }
        let panics = self.panics(&self.standings).into_iter();
        warnings.extend(panics.map(|(key, why)| format!("service {}: {why}", self.service_name(&key))));
        warnings.extend(self.unasked_warnings());
        warnings.extend(self.loss_warnings());
        warnings.extend(self.flood_warning());
        warnings.extend(own_address::warnings(&desired.services, &self.seen.links));
        warnings.extend(named_files::warnings(&desired.services));
        warnings.extend(shut_out::warnings(&desired.services));
        warnings.extend(self.drain_trouble().map(str::to_owned));
        warnings.extend(self.http_warning());
        warnings.extend(self.file_warning());
        warnings.extend(self.trial_warning());
        warnings.extend(self.store.unsettled().map(str::to_owned));
        warnings.extend(self.history_trouble.clone());
        warnings
    }

    pub(super) fn service_documents(&mut self) -> Vec<ServiceDocument> {
        let counts = self.counts(&mut Vec::new());
        self.store.desired().services.iter().map(|service| self.service(service, &counts)).collect()
    }

    pub(super) fn service_reply(&mut self, name: &str) -> Result<Reply, ApiError> {
        let counts = self.counts(&mut Vec::new());
        let service = self.found(name)?;
        Ok(Reply::Service(Box::new(self.service(service, &counts))))
    }

    pub(super) fn backend_reply(
        &mut self,
        service: &str,
        address: BackendAddress,
    ) -> Result<Reply, ApiError> {
        let id = (self.found(service)?.vip, address);
        // That it cannot be read is told by `status`: the change itself was made.
        let traffic = self.plane.traffic(id.0, id.1).unwrap_or_default().unwrap_or_default();
        let counts = Counts {
            counters: Counters { backends: [(id, traffic)].into(), ..Counters::default() },
            backends: self.plane.connections(),
            services: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        let service = self.found(service)?;
        let backend = service.backend(address).ok_or_else(|| no_backend(&service.name, address))?;
        Ok(Reply::Backend(Box::new(self.backend(service, backend, &counts))))
    }

    pub(super) fn interface_reply(&self, wanted: impl Fn(&str) -> bool) -> Reply {
        let specs = self.store.desired().interfaces.iter().filter(|spec| wanted(&spec.name));
        Reply::Interfaces(InterfaceList { interfaces: specs.map(|spec| self.interface(spec)).collect() })
    }

    pub(super) fn interface(&self, spec: &InterfaceSpec) -> InterfaceDocument {
        let found = self.observed.interfaces.get(&spec.name).filter(|found| found.attached);
        let failure = self.failures.get(&Subject::Interface(spec.name.clone()));
        let unused = self.kind() == dataplane::Kind::Proxy;
        let (state, detail) = match (found, failure, link_named(&self.seen.links, &spec.name)) {
            _ if unused => (InterfaceState::Unused, "the proxy attaches to no interface".to_owned()),
            (_, Some(why), _) => (InterfaceState::Pending, why.clone()),
            (_, _, None) => {
                (InterfaceState::Pending, "does not exist; it is attached when it appears".to_owned())
            }
            (Some(found), _, Some(link)) => {
                let slow = bond::warning(link, spec.mode, &self.seen.links);
                (InterfaceState::Attached, troubles(found, spec.mode, slow).join("; "))
            }
            (None, _, Some(link)) if !link.ethernet || link.mac.is_none() => {
                (InterfaceState::Pending, "carries no Ethernet frames; take it out".to_owned())
            }
            (None, _, Some(link)) => {
                let detail = match bond::refusal(link, spec.mode, &self.seen.links) {
                    Some((what, way_out)) => format!("{what}; {way_out}"),
                    None => "not attached yet".to_owned(),
                };
                (InterfaceState::Pending, detail)
            }
        };
        let mode = found.map_or(spec.mode, |found| found.mode);
        let name = spec.name.clone();
        let (tx_errors, lately) = (self.losses.total(&name), self.losses.lately(&name));
        InterfaceDocument {
            name,
            mode,
            state,
            detail,
            announce: spec.announce,
            tx_errors,
            tx_errors_last_minute: lately,
        }
    }

    /// How many slots of a service are changing owner.
    pub(super) fn slots_in_transition(&self, service: &Service) -> u32 {
        self.observed.services.get(&service.vip).map_or(0, |found| found.in_transition)
    }

    fn service(&self, service: &Service, counts: &Counts) -> ServiceDocument {
        let backends: Vec<BackendDocument> =
            service.backends.iter().map(|backend| self.backend(service, backend, counts)).collect();
        let removed = counts.counters.removed_backends.get(&service.vip).copied().unwrap_or_default();
        ServiceDocument {
            name: service.name.clone(),
            vip: service.vip,
            affinity: service.affinity,
            scheduler: service.scheduler,
            tracking: service.tracking,
            tracking_timeout: service.tracking_timeout,
            transition: service.transition,
            slots_in_transition: self.slots_in_transition(service),
            on_empty: service.on_empty,
            health: service.effective_health(self.kind()),
            access: AccessDocument { allow: service.allow.len(), deny: service.deny.len() },
            rate_limit: service.rate_limit,
            panic: service.panic,
            slow_start: service.slow_start,
            on_change: service.on_change.clone(),
            packets: removed.packets + backends.iter().map(|backend| backend.packets).sum::<u64>(),
            bytes: removed.bytes + backends.iter().map(|backend| backend.bytes).sum::<u64>(),
            refused: Self::refused(service, &counts.refused).map(Into::into),
            backends,
            proxy: service.settings(self.kind()).proxy.map(|settings| ProxyDocument {
                settings,
                connections: counts.services.get(&service.vip).copied().unwrap_or_default(),
            }),
            warnings: own_address::warning(&service.vip, &self.seen.links)
                .into_iter()
                .chain(named_files::of_service(service))
                .chain(shut_out::warning(service))
                .collect(),
        }
    }

    /// What a service refused; `None` where it neither asks anything of its clients nor ever did.
    pub(super) fn refused(
        service: &Service,
        counted: &BTreeMap<ServiceKey, RefusedClients>,
    ) -> Option<RefusedClients> {
        let refused = counted.get(&service.vip).copied()?;
        let asks = !service.allow.is_empty() || !service.deny.is_empty() || service.rate_limit.is_some();
        (asks || refused != RefusedClients::default()).then_some(refused)
    }

    fn backend(&self, service: &Service, backend: &Backend, counts: &Counts) -> BackendDocument {
        let id = (service.vip, backend.address);
        let standing = self.standings.get(&id);
        let sighting = self.seen.health.get(&id).cloned().unwrap_or_default();
        let Traffic { packets, bytes } = counts.counters.backends.get(&id).copied().unwrap_or_default();
        let path = standing.and_then(|standing| standing.path);
        let connections = counts.backends.get(&id).cloned();
        let open = connections.as_ref().map(|connections| connections.open);
        let left_out = connections.as_ref().and_then(|connections| connections.left_out.clone());
        BackendDocument {
            service: service.name.clone(),
            address: backend.address,
            weight: backend.weight,
            effective_weight: Some(standing.map_or(backend.weight, |standing| standing.weight)),
            growing: self.grown(service, backend),
            priority: backend.priority,
            state: backend.state,
            drain: self.drain_document(service, backend, open),
            health: HealthDocument { status: sighting.status, detail: sighting.detail },
            serving: standing.is_some_and(|standing| standing.serving) && left_out.is_none(),
            reason: standing
                .map_or_else(|| Some("not looked at yet".to_owned()), |standing| standing.reason.clone())
                .or(left_out),
            warnings: named_files::of_backend(backend).into_iter().collect(),
            since: text::timestamp(sighting.since),
            mac: path.filter(|path| !path.local).map(|path| path.mac),
            packets,
            bytes,
            soft_limit: backend.soft_limit,
            hard_limit: backend.hard_limit,
            connections: (self.kind() == dataplane::Kind::Proxy).then(|| connections.unwrap_or_default()),
        }
    }
}

/// What does not work as it should on an attached interface, each with what to do about it. `slow`: why it is so slow a
/// mode, where that is known.
fn troubles(found: &ObservedInterface, asked: AttachMode, slow: Option<String>) -> Vec<String> {
    let mut troubles = Vec::new();
    if found.mode == AttachMode::Generic && asked == AttachMode::Auto {
        let usual = "runs in generic mode, which is slower: its driver has no native XDP, or it was attached so (to try \
                     again: detach, attach; `--mode generic` is content with it)";
        troubles.push(slow.unwrap_or_else(|| usual.to_owned()));
    }
    troubles.extend(found.troubles.iter().cloned());
    troubles
}

fn packets(counters: &Counters) -> PacketsDocument {
    let forwarded = counters.forwarded().packets;
    let by_reason = |reasons: &BTreeMap<&'static str, Traffic>| {
        reasons.iter().map(|(reason, traffic)| ((*reason).to_owned(), traffic.packets)).collect()
    };
    let document = PacketsDocument {
        received: 0,
        forwarded,
        answered: by_reason(&counters.answered),
        passed: by_reason(&counters.passed),
        dropped: by_reason(&counters.dropped),
    };
    let others = [&document.answered, &document.passed, &document.dropped];
    let received = forwarded + others.into_iter().flat_map(|reasons| reasons.values()).sum::<u64>();
    PacketsDocument { received, ..document }
}

fn or_default<T: Default>(result: Result<T, DataPlaneError>, troubles: &mut Vec<String>) -> T {
    result.unwrap_or_else(|error| {
        troubles.push(error.to_string());
        T::default()
    })
}
