//! Changes to the desired state: checked whole, made durable, carried out; taken back if the data plane refuses.

use super::reconcile::Subject;
use super::{Controller, no_service};
use crate::api::document::ChangeDocument;
use crate::api::{ApiError, ErrorCode, Interfaces, Reply};
use crate::budget;
use crate::dataplane::{self, BackendAddress, Operation, ServiceSettings};
use crate::own_address;
use crate::state::desired::{Desired, InterfaceSpec, Service};
use crate::state::spec::{BackendSpec, ServiceSpec};
use crate::state::validate;
use crate::target::{bond, link_named};

/// Why a proxy neither attaches nor detaches.
const ATTACHES_NOWHERE: &str = "the proxy listens on sockets and attaches to no interface";

/// The answer to a change.
pub(super) fn changed(changed: bool) -> Reply {
    Reply::Changed(ChangeDocument { changed, warnings: Vec::new(), forwards: None })
}

impl Controller {
    pub(super) fn service_add(&mut self, spec: &ServiceSpec) -> Result<Reply, ApiError> {
        let service = spec.complete()?;
        let (name, key) = (service.name.clone(), service.vip);
        let mut desired = self.store.desired().clone();
        desired.services.push(service);
        self.change(desired, &[Subject::Service(key)])?;
        self.service_reply(&name)
    }

    pub(super) fn service_set(&mut self, name: &str, spec: &ServiceSpec) -> Result<Reply, ApiError> {
        if !spec.backends.is_empty() {
            return Err(ApiError::invalid(
                format!("service {name}: backends are not changed together with their service"),
                "use `backend add`, `backend set` and `backend remove`",
            ));
        }
        let mut desired = self.store.desired().clone();
        let service = desired.service_mut(name).ok_or_else(|| no_service(name))?;
        let before = service.vip;
        spec.change(service);
        let (name, key) = (service.name.clone(), service.vip);
        self.change(desired, &[Subject::Service(before), Subject::Service(key)])?;
        self.service_reply(&name)
    }

    pub(super) fn service_remove(&mut self, name: &str) -> Result<Reply, ApiError> {
        let key = self.found(name)?.vip;
        let mut desired = self.store.desired().clone();
        desired.services.retain(|service| service.name != name);
        self.change(desired, &[Subject::Service(key)])?;
        Ok(changed(true))
    }

    pub(super) fn backend_add(&mut self, service: &str, spec: &BackendSpec) -> Result<Reply, ApiError> {
        let mut desired = self.store.desired().clone();
        let wanted = desired.service_mut(service).ok_or_else(|| no_service(service))?;
        let backend = spec.complete(service)?;
        let (key, address) = (wanted.vip, backend.address);
        wanted.backends.push(backend);
        self.change(desired, &[Subject::Service(key)])?;
        self.backend_reply(service, address)
    }

    pub(super) fn backend_set(
        &mut self,
        service: &str,
        address: BackendAddress,
        spec: &BackendSpec,
    ) -> Result<Reply, ApiError> {
        if spec.address.is_some_and(|other| other != address) {
            return Err(ApiError::invalid(
                format!("backend {address} of service {service}: its address cannot be changed"),
                "add the new one and remove the old one",
            ));
        }
        let mut desired = self.store.desired().clone();
        let wanted = desired.service_mut(service).ok_or_else(|| no_service(service))?;
        let key = wanted.vip;
        let backend = wanted.backend_mut(address).ok_or_else(|| no_backend(service, address))?;
        spec.change(backend);
        self.change(desired, &[Subject::Service(key)])?;
        self.backend_reply(service, address)
    }

    pub(super) fn backend_remove(
        &mut self,
        service: &str,
        address: BackendAddress,
    ) -> Result<Reply, ApiError> {
        let mut desired = self.store.desired().clone();
        let wanted = desired.service_mut(service).ok_or_else(|| no_service(service))?;
        let key = wanted.vip;
        wanted.backend(address).ok_or_else(|| no_backend(service, address))?;
        wanted.backends.retain(|backend| backend.address != address);
        self.change(desired, &[Subject::Service(key)])?;
        Ok(changed(true))
    }

    /// Attaches to interfaces that exist: a name that nobody has was most likely mistyped.
    pub(super) fn attach(&mut self, interfaces: Vec<InterfaceSpec>) -> Result<Reply, ApiError> {
        validate::interfaces(&interfaces)?;
        if self.kind() == dataplane::Kind::Proxy {
            let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("attach to {}: {ATTACHES_NOWHERE}", names.join(", ")),
                "leave that out, or end the proxy and run XDP (`run --dataplane xdp`)",
            ));
        }
        let mut desired = self.store.desired().clone();
        let mut subjects = Vec::new();
        for spec in interfaces {
            let Some(link) = link_named(&self.seen.links, &spec.name) else {
                return Err(ApiError::new(
                    ErrorCode::NotFound,
                    format!("there is no interface {}", spec.name),
                    "`ip link` shows those there are",
                ));
            };
            if !link.ethernet || link.mac.is_none() {
                return Err(ApiError::invalid(
                    format!("interface {} carries no Ethernet frames", spec.name),
                    "direct server return works by MAC addresses: attach to an Ethernet interface",
                ));
            }
            if let Some((what, way_out)) = bond::refusal(link, spec.mode, &self.seen.links) {
                return Err(ApiError::invalid(format!("interface {} {what}", spec.name), way_out));
            }
            subjects.push(Subject::Interface(spec.name.clone()));
            match desired.interfaces.iter_mut().find(|before| before.name == spec.name) {
                Some(before) => *before = spec,
                None => desired.interfaces.push(spec),
            }
        }
        self.change(desired, &subjects)?;
        let named = |name: &str| subjects.contains(&Subject::Interface(name.to_owned()));
        Ok(self.interface_reply(named))
    }

    /// Detaches; what is not attached is no error. From a proxy, only names that are kept for XDP can be taken.
    pub(super) fn detach(&mut self, interfaces: &Interfaces) -> Result<Reply, ApiError> {
        let mut desired = self.store.desired().clone();
        let before = desired.interfaces.len();
        match interfaces {
            Interfaces::All => desired.interfaces.clear(),
            Interfaces::Named(names) => {
                desired.interfaces.retain(|interface| !names.contains(&interface.name))
            }
        }
        let some = desired.interfaces.len() != before;
        if let (Interfaces::Named(names), false, dataplane::Kind::Proxy) = (interfaces, some, self.kind()) {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("detach from {}: {ATTACHES_NOWHERE}", names.join(", ")),
                "nothing is to be done; to end a service here, `service remove`",
            ));
        }
        self.change(desired, &[])?;
        let left = self.failures.iter().find(|(subject, _)| match (subject, interfaces) {
            (Subject::Interface(name), Interfaces::Named(names)) => names.contains(name),
            (Subject::Interface(_), Interfaces::All) => true,
            _ => false,
        });
        match left {
            Some((_, why)) => {
                Err(ApiError::new(ErrorCode::Refused, why, "detaching is tried again every 5 s"))
            }
            None => Ok(changed(some)),
        }
    }

    /// Detaches everywhere without wanting it: the next controller attaches again.
    pub(super) fn detach_for_now(&mut self) -> Result<(), ApiError> {
        for name in self.observed.interfaces.keys().cloned().collect::<Vec<_>>() {
            self.plane
                .apply(&Operation::Detach { name: name.clone() })
                .map_err(|error| ApiError::new(ErrorCode::Refused, error.to_string(), ""))?;
            self.note_interface(&name, "detached");
        }
        if let Ok(observed) = self.plane.observe() {
            self.observed = observed;
        }
        self.announce();
        Ok(())
    }

    /// Makes a desired state durable and carries it out. If the data plane refuses it for one of `subjects`, the
    /// state from before is brought back.
    pub(super) fn change(&mut self, desired: Desired, subjects: &[Subject]) -> Result<(), ApiError> {
        validate::desired(&desired, self.kind())?;
        own_address::refuse(self.store.desired(), &desired, &self.seen.links)?;
        self.check_memory(&desired)?;
        let before = self.store.desired().clone();
        if desired != before {
            self.open_door(&desired)?;
            self.replace(desired)?;
        }
        self.settle();
        let outcome = self.take_back_if_refused(before, subjects);
        self.note_failures();
        outcome
    }

    fn take_back_if_refused(&mut self, before: Desired, subjects: &[Subject]) -> Result<(), ApiError> {
        let refused = |(subject, _): &(&Subject, &String)| {
            **subject == Subject::Everything || subjects.contains(subject)
        };
        let Some(why) = self.failures.iter().find(refused).map(|(_, why)| why.clone()) else {
            return Ok(());
        };
        if *self.store.desired() == before {
            let hint = "nothing was changed by this command; it is tried again every 5 s";
            return Err(ApiError::new(ErrorCode::Refused, why, hint));
        }
        self.replace(before)?;
        self.settle();
        Err(ApiError::new(ErrorCode::Refused, why, "nothing was changed"))
    }

    /// Under XDP each service takes a slot table of its own out of kernel memory, and what its lists and limits need: better
    /// refused than half built.
    pub(super) fn check_memory(&self, desired: &Desired) -> Result<(), ApiError> {
        if self.kind() != dataplane::Kind::Xdp {
            return Ok(());
        }
        let needed: u64 = desired.services.iter().map(|service| self.memory_for(service)).sum();
        match (self.options.available_memory)() {
            Some(available) if needed > available => Err(ApiError::new(
                ErrorCode::Refused,
                format!("{} MiB of memory are needed and {} are left", needed >> 20, available >> 20),
                "a service's slot table takes 1 MiB, each of its limits another, its access list 4 MiB and one for 8,192 \
                 prefixes: free memory, or ask for less",
            )),
            _ => Ok(()),
        }
    }

    /// Bytes that the data plane has to find for a service beside what it has for it.
    fn memory_for(&self, service: &Service) -> u64 {
        let limits = |settings: &ServiceSettings| {
            let limits = settings.rate_limit;
            let each = limits.map(|limits| [limits.packets.is_some(), limits.flows.is_some()]);
            each.into_iter().flatten().filter(|is_limited| *is_limited).count()
        };
        let settings = service.settings(self.kind());
        let before = self.observed.services.get(&service.vip).map(|found| &found.settings);
        let new_limits = limits(&settings).saturating_sub(before.map_or(0, limits));
        // A list that changes is made beside the one that it takes the place of.
        let same = before.is_some_and(|before| before.access == settings.access);
        let prefixes = if same { 0 } else { settings.access.allow.len() + settings.access.deny.len() };
        let blocks = if prefixes == 0 { 0 } else { budget::LIST };
        let service = if before.is_some() { 0 } else { budget::SERVICE };
        service + budget::LIMIT * new_limits as u64 + blocks + budget::PREFIX * prefixes as u64
    }

    pub(super) fn found(&self, name: &str) -> Result<&Service, ApiError> {
        self.store.desired().service(name).ok_or_else(|| no_service(name))
    }
}

/// What to say of a backend that is not there.
pub(crate) fn no_backend(service: &str, address: BackendAddress) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!("service {service} has no backend {address}"),
        format!("`pen-ctl backend list {service}` shows those it has"),
    )
}
