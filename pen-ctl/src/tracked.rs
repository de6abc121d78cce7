//! Answers questions about who is remembered: lists, shows, forgets, counts. Each reads the tables through and blocks
//! for as long as that takes, so never on the controller's task.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipnet::IpNet;

use crate::api::document::clients::{
    ClientDocument, ClientList, ClientOfService, ClientShow, ClientStatus, DecidedBy, ForgetDocument,
};
use crate::api::{ApiError, ErrorCode};
use crate::dataplane::clients::{Clients, Fate, FlowPorts, Remembered, Standing};
use crate::dataplane::{Affinity, BackendAddress, DataPlaneError, Scheduler, ServiceKey, Tracking};
use crate::state::desired::Service;
use crate::state::text;

/// Memories of one client that are shown at most.
const SHOWN_OF_ONE: usize = 1000;
/// A client that was seen within so many seconds is there; others may never come back.
pub const RECENTLY: u32 = 60;

/// All that questions about clients are answered from, as of one moment: made by the controller, used elsewhere.
#[derive(Clone)]
pub struct View {
    clients: Arc<dyn Clients>,
    services: Arc<[Service]>,
    /// Seconds since the Unix epoch.
    now: u64,
}

/// Which memories; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this service.
    pub service: Option<String>,
    /// Of this backend.
    pub backend: Option<BackendAddress>,
    /// Of clients with these addresses.
    pub source: Option<IpNet>,
}

/// In which order clients are listed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Who was seen last comes first
    #[default]
    Seen,
    /// Who has been silent for longest comes first
    Idle,
    /// By address
    Address,
}

/// How far forgetting has come, for others to look at.
#[derive(Debug, Default)]
pub struct Progress {
    forgotten: AtomicU64,
    stale: AtomicU64,
}

impl Progress {
    /// What it has come to by now.
    pub fn so_far(&self) -> ForgetDocument {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ForgetDocument { forgotten: count(&self.forgotten), stale: count(&self.stale), goes_on: true }
    }
}

/// How many are remembered on a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All whose memory is of it.
    pub left: u64,
    /// Those that were seen within [`RECENTLY`].
    pub recent: u64,
}

/// How many are remembered, by service and backend.
pub type Counts = BTreeMap<(ServiceKey, BackendAddress), Count>;

/// Counts who is remembered on each of these backends.
///
/// # Errors
/// The tables cannot be read.
pub fn count(
    clients: &dyn Clients,
    backends: &BTreeSet<(ServiceKey, BackendAddress)>,
) -> Result<Counts, DataPlaneError> {
    let mut counts: Counts = backends.iter().map(|id| (*id, Count::default())).collect();
    clients.read(&mut |one| {
        let id = one.service.zip(one.backend).filter(|_| one.standing.holds());
        if let Some(count) = id.and_then(|id| counts.get_mut(&id)) {
            count.left += 1;
            count.recent += u64::from(one.idle <= RECENTLY);
        }
        Fate::Keep
    })?;
    Ok(counts)
}

/// A place in an order: no two memories share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    first: u32,
    client: IpAddr,
    flow: Option<FlowPorts>,
    /// The how manieth it was: removed services cannot be told apart.
    number: u64,
}

/// The first so many in an order, of however many: no more than those are kept.
struct First {
    order: Order,
    limit: usize,
    kept: BTreeMap<Rank, Remembered>,
    seen: u64,
}

impl First {
    fn new(order: Order, limit: usize) -> Self {
        Self { order, limit, kept: BTreeMap::new(), seen: 0 }
    }

    fn offer(&mut self, one: &Remembered) {
        self.seen += 1;
        let first = match self.order {
            Order::Seen => one.idle,
            Order::Idle => u32::MAX - one.idle,
            Order::Address => 0,
        };
        let rank = Rank { first, client: one.client, flow: one.flow, number: self.seen };
        let full = self.kept.len() >= self.limit;
        if full && self.kept.last_key_value().is_none_or(|(last, _)| *last < rank) {
            return;
        }
        self.kept.insert(rank, one.clone());
        if full {
            self.kept.pop_last();
        }
    }
}

impl View {
    /// What `clients` reads, seen with these services at `now` (seconds since the Unix epoch).
    pub fn new(clients: Box<dyn Clients>, services: &[Service], now: u64) -> Self {
        Self { clients: clients.into(), services: services.into(), now }
    }

    /// The first `limit` clients of a selection in an order; those that do not count any more only with `all`. Ends
    /// early, with what it has, once `stop` is set.
    ///
    /// # Errors
    /// The selection names what is not there, or the tables cannot be read.
    pub fn list(
        &self,
        selection: &Selection,
        all: bool,
        order: Order,
        limit: usize,
        stop: &AtomicBool,
    ) -> Result<ClientList, ApiError> {
        let wanted = self.wanted(selection)?;
        let mut first = First::new(order, limit);
        let mut stale = 0;
        self.read(stop, |one| {
            if !wanted.holds(one) {
                return Fate::Keep;
            }
            if all || one.standing.holds() {
                first.offer(one);
            }
            stale += u64::from(!one.standing.holds());
            Fate::Keep
        })?;
        let clients = first.kept.values().map(|one| self.document(one)).collect();
        Ok(ClientList { clients, total: first.seen, stale })
    }

    /// All that is known of one client. Ends early once `stop` is set.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn show(&self, address: IpAddr, stop: &AtomicBool) -> Result<ClientShow, ApiError> {
        let mut first = First::new(Order::Seen, SHOWN_OF_ONE);
        let mut whole = BTreeMap::new();
        self.read(stop, |one| {
            if one.client == address {
                first.offer(one);
                if let (Some(service), None, Standing::Counts) = (one.service, one.flow, one.standing) {
                    whole.insert(service, one.backend);
                }
            }
            Fate::Keep
        })?;
        let of_its_family =
            |service: &&Service| service.vip.ip().is_some_and(|vip| vip.is_ipv4() == address.is_ipv4());
        let services = self.services.iter().filter(of_its_family);
        Ok(ClientShow {
            address,
            services: services
                .map(|service| self.next(service, address, whole.get(&service.vip).copied()))
                .collect::<Result<_, _>>()?,
            remembered: first.kept.values().map(|one| self.document(one)).collect(),
            total: first.seen,
        })
    }

    /// Where a client's next packet to a service goes, given what is remembered of it as a whole.
    fn next(
        &self,
        service: &Service,
        client: IpAddr,
        remembered: Option<Option<BackendAddress>>,
    ) -> Result<ClientOfService, ApiError> {
        let list = service.access();
        let access = (!list.is_empty()).then(|| list.admission(client));
        let (backend, by) = match remembered {
            // Asked before anything else: whom it refuses no memory lets in.
            _ if access.is_some_and(|access| !access.admitted) => (None, DecidedBy::Access),
            Some(backend) => (backend, DecidedBy::Memory),
            None if service.affinity != Affinity::Client => (None, DecidedBy::Flow),
            None if service.scheduler == Scheduler::RoundRobin => (None, DecidedBy::Turn),
            None if service.scheduler == Scheduler::LeastConnections => (None, DecidedBy::Connections),
            None => match self.clients.newcomer(&service.vip, client).map_err(refused)? {
                Some(backend) => (Some(backend), DecidedBy::Slot),
                None => (None, DecidedBy::Nobody),
            },
        };
        Ok(ClientOfService { service: service.name.clone(), vip: service.vip, backend, by, access })
    }

    /// Forgets the memories of a selection, those that do not count any more, too, and tells `progress` meanwhile.
    ///
    /// # Errors
    /// The selection names what is not there, or the tables cannot be read: what was forgotten until then stays so.
    pub fn forget(&self, selection: &Selection, progress: &Progress) -> Result<ForgetDocument, ApiError> {
        let wanted = self.wanted(selection)?;
        let mut forget = |one: &Remembered| {
            if !wanted.holds(one) {
                return Fate::Keep;
            }
            progress.forgotten.fetch_add(1, Ordering::Relaxed);
            progress.stale.fetch_add(u64::from(!one.standing.holds()), Ordering::Relaxed);
            Fate::Forget
        };
        let forgotten = self.clients.read(&mut forget).map_err(refused)?;
        // Those that were evicted in time are not counted.
        let stale = progress.so_far().stale.min(forgotten);
        Ok(ForgetDocument { forgotten, stale, goes_on: false })
    }

    fn read(&self, stop: &AtomicBool, mut visit: impl FnMut(&Remembered) -> Fate) -> Result<u64, ApiError> {
        let mut visit = |one: &Remembered| match stop.load(Ordering::Relaxed) {
            true => Fate::Stop,
            false => visit(one),
        };
        self.clients.read(&mut visit).map_err(refused)
    }

    /// Resolves the names of a selection. A backend that no service has is refused: most likely it was mistyped.
    fn wanted(&self, selection: &Selection) -> Result<Wanted, ApiError> {
        let service = match &selection.service {
            None => None,
            Some(name) => {
                let found = self.services.iter().find(|service| service.name == *name);
                Some(found.ok_or_else(|| crate::controller::no_service(name))?)
            }
        };
        if let Some(address) = selection.backend {
            let has = |service: &Service| service.backend(address).is_some();
            match service {
                Some(service) if !has(service) => {
                    return Err(crate::controller::no_backend(&service.name, address));
                }
                None if !self.services.iter().any(has) => {
                    return Err(ApiError::new(
                        ErrorCode::NotFound,
                        format!("no service has a backend {address}"),
                        "`pen-ctl backend list` shows those there are",
                    ));
                }
                _ => {}
            }
        }
        let source = selection.source.map(|net| net.trunc());
        Ok(Wanted { service: service.map(|service| service.vip), backend: selection.backend, source })
    }

    fn document(&self, one: &Remembered) -> ClientDocument {
        let service = one.service.and_then(|key| self.services.iter().find(|service| service.vip == key));
        let idle = u64::from(one.idle);
        ClientDocument {
            address: one.client,
            port: one.flow.map(|flow| flow.client),
            service_port: one.flow.map(|flow| flow.service),
            service: service.map(|service| service.name.clone()),
            backend: one.backend,
            last_seen: text::timestamp(self.now.saturating_sub(idle)),
            idle_seconds: idle,
            status: match one.standing {
                Standing::Counts => ClientStatus::Tracked,
                Standing::BackendDown => ClientStatus::BackendDown,
                Standing::TimedOut => ClientStatus::TimedOut,
                Standing::NotAsked => ClientStatus::NotAsked,
                Standing::BackendRemoved => ClientStatus::BackendRemoved,
                Standing::ServiceRemoved => ClientStatus::ServiceRemoved,
            },
        }
    }
}

/// A selection with its names resolved.
struct Wanted {
    service: Option<ServiceKey>,
    backend: Option<BackendAddress>,
    source: Option<IpNet>,
}

impl Wanted {
    fn holds(&self, one: &Remembered) -> bool {
        self.service.is_none_or(|service| one.service == Some(service))
            && self.backend.is_none_or(|backend| one.backend == Some(backend))
            && self.source.is_none_or(|source| source.contains(&one.client))
    }
}

/// Whether a service remembers anybody at all.
pub fn remembers(service: &Service) -> bool {
    service.tracking != Tracking::Off
}

fn refused(error: DataPlaneError) -> ApiError {
    ApiError::new(ErrorCode::Refused, format!("{}: {}", error.what, error.why), error.hint)
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("services", &self.services)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// The same only if it is a copy: what can be read differs from moment to moment.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.clients, &other.clients)
    }
}

#[cfg(test)]
mod tests;
