//! Backends on their way out: drained, counted now and then, removed when nobody is left on them or at the deadline.
//!
//! The deadline is part of the desired state, so that it holds through restarts. Counting is handed out ([`Census`]):
//! whoever runs the controller does it elsewhere and brings the result back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::change::no_backend;
use super::reconcile::Subject;
use super::{Controller, SHARE_OF_TIME, no_service};
use crate::api::document::DrainDocument;
use crate::api::event::Kind;
use crate::api::{ApiError, Reply};
use crate::dataplane::clients::Clients;
use crate::dataplane::{Affinity, BackendAddress, DataPlaneError, ServiceKey, Tracking};
use crate::journal::Note;
use crate::state::desired::{AdminState, Backend, Service};
use crate::state::store::Cause;
use crate::state::text;
use crate::tracked::{self, Count, Counts};

/// From the moment a table names a backend no more until its newcomers are surely remembered: packets that were on
/// their way then are through within a fraction of this.
const LAST_NEWCOMERS: Duration = Duration::from_secs(1);
/// From one count to the next, at least.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long a drain may take at most.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

type Id = (ServiceKey, BackendAddress);

/// What is known of backends on their way out beside the desired state.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// Since when (uptime) no table names them, as far as we know.
    since: BTreeMap<Id, Duration>,
    /// Their deadlines: as the state has them, and by uptime since this controller first saw them.
    due: BTreeMap<Id, (u64, Duration)>,
    /// Who was left on them when last counted.
    counts: Counts,
    /// When (uptime) the count under way began.
    counting: Option<Duration>,
    /// When (uptime) the next count is due at the earliest.
    next: Duration,
    /// Why nobody was counted the last time.
    uncounted: Option<String>,
    /// Why something that is due was not done.
    trouble: Option<String>,
}

/// A count to be made, off the controller's task.
pub struct Census {
    clients: Box<dyn Clients>,
    backends: BTreeSet<Id>,
}

impl Census {
    /// Counts; takes as long as reading the tracking tables takes.
    pub fn take(self) -> Result<Counts, DataPlaneError> {
        tracked::count(self.clients.as_ref(), &self.backends)
    }
}

impl Controller {
    /// Drains a backend, to be removed when nobody is left on it, or after `within`.
    pub(super) fn backend_drain(
        &mut self,
        service: &str,
        address: BackendAddress,
        within: Duration,
    ) -> Result<Reply, ApiError> {
        let mut desired = self.store.desired().clone();
        let wanted = desired.service_mut(service).ok_or_else(|| no_service(service))?;
        let key = wanted.vip;
        let backend = wanted.backend_mut(address).ok_or_else(|| no_backend(service, address))?;
        let wrong = |why: &str, hint: &str| {
            Err(ApiError::invalid(format!("backend {address} of service {service}: {why}"), hint))
        };
        if within.is_zero() {
            return wrong("a drain of no time is none", "leave the time out to remove it at once");
        }
        if within > LONGEST {
            return wrong("a drain of more than a year is too long", "use at most 365days");
        }
        if backend.state == AdminState::Down {
            return wrong("it is down, so that nobody is on it", "remove it at once, without a drain");
        }
        let seconds = within.as_secs() + u64::from(within.subsec_nanos() > 0);
        backend.state = AdminState::Drain;
        backend.remove_at = Some(self.clock.unix_seconds() + seconds);
        self.change(desired, &[Subject::Service(key)])?;
        self.backend_reply(service, address)
    }

    /// Takes note of who is on its way out since now, and forgets who is not any more.
    pub(super) fn watch_drains(&mut self) {
        self.watch_deadlines();
        let now = self.clock.uptime();
        let leaving: BTreeSet<Id> = leaving(&self.store.desired().services).map(|(id, ..)| id).collect();
        self.drains.since.retain(|id, _| leaving.contains(id));
        self.drains.counts.retain(|id, _| leaving.contains(id));
        for id in leaving {
            self.drains.since.entry(id).or_insert(now);
        }
    }

    /// Takes note of deadlines that are new: from then on they are counted by a clock that nobody sets.
    fn watch_deadlines(&mut self) {
        let (now, unix) = (self.clock.uptime(), self.clock.unix_seconds());
        let deadlines: BTreeMap<Id, u64> =
            leaving(&self.store.desired().services).map(|(id, _, at)| (id, at)).collect();
        self.drains.due.retain(|id, (at, _)| deadlines.get(id) == Some(at));
        for (id, at) in deadlines {
            let due = now + Duration::from_secs(at.saturating_sub(unix));
            self.drains.due.entry(id).or_insert((at, due));
        }
    }

    /// Removes whoever nobody is left on, and whose time is up.
    pub(super) fn end_drains(&mut self) {
        self.watch_deadlines();
        let now = self.clock.uptime();
        let mut desired = self.store.desired().clone();
        let mut ended = Vec::new();
        let open = self.open_connections();
        for service in &mut desired.services {
            let (key, name, remembers) = (service.vip, service.name.clone(), tracked::remembers(service));
            service.backends.retain(|backend| {
                let id = (key, backend.address);
                let remembered = self.drains.counts.get(&id).map(|count| count.left);
                let left = remaining(remembered, remembers, open.get(&id).copied());
                let passed = self.drains.due.get(&id).is_some_and(|(_, due)| *due <= now);
                let due = backend.remove_at.is_some() && (passed || left == Some(0));
                if due {
                    ended.push((name.clone(), backend.address, left));
                }
                !due
            });
        }
        if ended.is_empty() {
            self.drains.trouble = None;
            return;
        }
        if let Err(error) = self.store.replace(desired) {
            let trouble = format!("drained backends cannot be removed: {error}; trying again every 5 s");
            if self.drains.trouble.as_ref() != Some(&trouble) {
                self.journal().warn(Note::new(Kind::Drain, &trouble));
            }
            self.drains.trouble = Some(trouble);
            return;
        }
        self.drains.trouble = None;
        self.record(None, Cause::Changed);
        for (service, address, left) in ended {
            let message = match left {
                Some(0) => "removed: nobody was left on it".to_owned(),
                Some(left) => format!("removed: the time for its drain is up ({left} were left on it)"),
                None => "removed: the time for its drain is up".to_owned(),
            };
            let (service, backend) = (Some(service), Some(address));
            self.journal().note(Note { service, backend, ..Note::new(Kind::Drain, message) });
        }
    }

    /// How many connections are open to backends that had time to lose who came last; under XDP nobody knows.
    fn open_connections(&mut self) -> BTreeMap<Id, u64> {
        let now = self.clock.uptime();
        let mut open = self.plane.connections();
        let settled = |since: &Duration| now >= *since + LAST_NEWCOMERS;
        open.retain(|id, _| self.drains.since.get(id).is_some_and(settled));
        open.into_iter().map(|(id, connections)| (id, connections.open)).collect()
    }

    /// A count that is due, if any; to be answered with [`Controller::counted`].
    pub fn census_due(&mut self) -> Option<Census> {
        let now = self.clock.uptime();
        if self.drains.counting.is_some() || self.census_in() != Some(Duration::ZERO) {
            return None;
        }
        let backends = self.countable().filter(|(_, from)| now >= *from);
        let backends: BTreeSet<Id> = backends.map(|(id, _)| id).collect();
        match self.plane.clients() {
            Ok(clients) => {
                self.drains.counting = Some(now);
                Some(Census { clients, backends })
            }
            Err(error) => {
                self.not_counted(&error);
                None
            }
        }
    }

    /// Hears what a count came to; [`Controller::reconcile`] acts on it.
    pub fn counted(&mut self, result: Result<Counts, DataPlaneError>) {
        let now = self.clock.uptime();
        let took = now.saturating_sub(self.drains.counting.take().unwrap_or(now));
        self.drains.next = now + COUNT_EVERY.max(took * SHARE_OF_TIME);
        match result {
            // Whoever was taken back and drained anew meanwhile is counted anew.
            Ok(counts) => {
                let since = &self.drains.since;
                let still = |id: &Id| since.get(id).is_some_and(|since| *since + took <= now);
                self.drains.uncounted = None;
                self.drains.counts.extend(counts.into_iter().filter(|(id, _)| still(id)));
            }
            Err(error) => self.not_counted(&error),
        }
    }

    fn not_counted(&mut self, error: &DataPlaneError) {
        let message = format!("who is left on draining backends is not known: {error}");
        if self.drains.uncounted.as_ref() != Some(&message) {
            self.journal().warn(Note::new(Kind::Drain, &message));
        }
        self.drains.uncounted = Some(message);
        self.drains.counts.clear();
        self.drains.next = self.clock.uptime() + COUNT_EVERY * SHARE_OF_TIME;
    }

    /// In how long the next count is due; `None` while one is under way and where there is nothing to count.
    pub(super) fn census_in(&self) -> Option<Duration> {
        if !self.started || self.ended || self.drains.counting.is_some() {
            return None;
        }
        let first = self.countable().map(|(_, from)| from).min()?;
        Some(first.max(self.drains.next).saturating_sub(self.clock.uptime()))
    }

    /// In how long the next deadline is; those that passed already wait for the next look.
    pub(super) fn deadline_in(&self) -> Option<Duration> {
        let now = self.clock.uptime();
        let deadlines = self.drains.due.values().map(|(_, due)| *due);
        deadlines.filter(|due| *due > now).min().map(|due| due - now)
    }

    /// What keeps drains from ending.
    pub(super) fn drain_trouble(&self) -> Option<&str> {
        self.drains.trouble.as_deref()
    }

    /// How far a backend is from being removed.
    /// `open` is how many connections it has, where that is known.
    pub(super) fn drain_document(
        &self,
        service: &Service,
        backend: &Backend,
        open: Option<u64>,
    ) -> Option<DrainDocument> {
        let remove_at = backend.remove_at?;
        let id = (service.vip, backend.address);
        let count = self.drains.counts.get(&id).copied();
        let left = match self.drains.due.get(&id) {
            Some((at, due)) if *at == remove_at => due.saturating_sub(self.clock.uptime()),
            _ => Duration::from_secs(remove_at.saturating_sub(self.clock.unix_seconds())),
        };
        Some(DrainDocument {
            remove_at: text::timestamp(remove_at),
            seconds_left: left.as_secs() + u64::from(left.subsec_nanos() > 0),
            clients_left: remaining(count.map(|count| count.left), tracked::remembers(service), open),
            clients_seen_last_minute: count.map(|count| count.recent),
            detail: match &self.drains.uncounted {
                Some(why) if tracked::remembers(service) => why.clone(),
                _ => detail(service, count, open),
            },
        })
    }

    /// Who is on its way out and can be counted, and from when (uptime) on.
    fn countable(&self) -> impl Iterator<Item = (Id, Duration)> {
        leaving(&self.store.desired().services)
            .filter(|(_, service, _)| tracked::remembers(service))
            .filter_map(|(id, service, _)| {
                Some((id, *self.drains.since.get(&id)? + until_all_known(service)))
            })
    }
}

/// Backends on their way out, with their services and deadlines.
fn leaving(services: &[Service]) -> impl Iterator<Item = (Id, &Service, u64)> {
    services.iter().flat_map(|service| {
        let backends = service.backends.iter();
        backends.filter_map(move |one| Some(((service.vip, one.address), service, one.remove_at?)))
    })
}

/// From the moment a table names a backend no more until whoever is on it is remembered. With tracking `transitions` flows
/// are so only once they show themselves, for which they have as long as a window is open.
fn until_all_known(service: &Service) -> Duration {
    match service.tracking {
        Tracking::Transitions => service.transition.max(LAST_NEWCOMERS),
        Tracking::Full | Tracking::Off => LAST_NEWCOMERS,
    }
}

/// How many are left, as far as that is known: those that are remembered and, in the proxy, those that are connected. Who is
/// both counts once.
fn remaining(remembered: Option<u64>, remembers: bool, open: Option<u64>) -> Option<u64> {
    match (remembers, open) {
        (true, Some(open)) => remembered.map(|remembered| remembered.max(open)),
        (true, None) => remembered,
        (false, open) => open,
    }
}

/// Who is left, in words.
fn detail(service: &Service, count: Option<Count>, open: Option<u64>) -> String {
    let what = if service.affinity == Affinity::Client { "client" } else { "flow" };
    match count {
        _ if !tracked::remembers(service) && open.is_some() => {
            format!("{} left", plural(open.unwrap_or_default(), "connection"))
        }
        _ if !tracked::remembers(service) => {
            "nobody is remembered (tracking off), so it stays until the deadline".to_owned()
        }
        None => format!("{what}s are being counted"),
        Some(Count { left, recent }) => {
            let open = open.filter(|open| *open > 0);
            let open = open.map(|open| format!(", {} open", plural(open, "connection")));
            let left = plural(left, what);
            format!("{left} left, {recent} of them seen in the last minute{}", open.unwrap_or_default())
        }
    }
}

fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
