//! The single writer of the desired state: keeps it, and keeps the data plane equal to it.
//!
//! [`Controller`] is synchronous and is told everything: requests, events, the time. [`serve`] is the loop around it.

mod actor;
mod announce;
mod change;
mod clock;
mod drain;
mod file;
mod flood;
mod hearing;
mod history;
mod http;
mod losses;
mod metrics;
mod occupancy;
mod own_file;
mod policy;
mod reconcile;
mod retold;
mod serving;
mod status;
mod trial;
mod unasked;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use actor::{Call, ControllerHandle, serve};
pub(crate) use change::no_backend;
pub use clock::{Clock, SystemClock};
pub use drain::Census;
pub use file::{applies_at_start, apply_at_start};
pub use http::wanted_address;
pub use occupancy::TableCount;
pub use trial::expire_at_start;
pub use windows::WindowsToEnd;

use crate::api::document::{BackendList, ChangeDocument, ServiceList};
use crate::api::{Answered, ApiError, Asked, ErrorCode, Reply, Request};
use crate::check::Check;
use crate::dataplane::{self, BackendAddress, DataPlane, DataPlaneError, Observed, ServiceKey};
use crate::hooks::Hooks;
use crate::journal::Journal;
use crate::metrics::timings::Timings;
use crate::server::tcp::Door;
use crate::state::revision::Revision;
use crate::state::store::{Cause, Store};
use crate::surroundings::{Event, Hop, Surroundings, Watched};
use crate::target::{Seen, Sighting, Standings};
use crate::tracked::View;
use announce::Announced;
use drain::Drains;
use flood::Flood;
use losses::Losses;
use occupancy::Occupancy;
use own_file::OwnFile;
use reconcile::Subject;
use retold::Retold;
use unasked::Unasked;
use windows::Windows;

/// Reading tables through comes again after this many times as long as it took, at the earliest, so that it never takes more
/// than a small share of a CPU: a million entries are read every now and then, a few at every question.
const SHARE_OF_TIME: u32 = 20;

/// What a controller is started with beside its parts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file given with `run -c`: what a reload reads.
    pub file: Option<PathBuf>,
    /// Where callers over TCP come in; closed until an address is wanted.
    pub door: Door,
    /// The address given with `run --http`: beats the desired state's.
    pub http: Option<SocketAddr>,
    /// Bytes of memory the machine could still give; `None` where that cannot be known.
    pub available_memory: fn() -> Option<u64>,
    /// Where it notes what happens.
    pub journal: Journal,
    /// Where it writes down how long its work takes.
    pub timings: Timings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file: None,
            door: Door::default(),
            http: None,
            available_memory: clock::available_memory,
            journal: Journal::new(),
            timings: Timings::default(),
        }
    }
}

/// The single writer of the desired state.
pub struct Controller {
    store: Store,
    plane: Box<dyn DataPlane>,
    surroundings: Box<dyn Surroundings>,
    clock: Box<dyn Clock>,
    options: Options,
    seen: Seen,
    /// Interfaces are known, if only that there are none to know.
    met: bool,
    /// Interfaces are known, and what the data plane held when we came is adopted.
    started: bool,
    /// Asked to end: the data plane is left as it is.
    ended: bool,
    /// What the data plane held when last looked at.
    observed: Observed,
    standings: Standings,
    /// What the data plane would not do, last time round.
    failures: BTreeMap<Subject, String>,
    /// What was noted of that, and of interfaces that wait for something.
    noted: BTreeMap<Subject, String>,
    /// Services whose first table was due already.
    built: BTreeSet<ServiceKey>,
    watched: BTreeMap<IpAddr, Watched>,
    probed: Vec<(ServiceKey, BackendAddress, Check, Hop)>,
    announced: Announced,
    drains: Drains,
    occupancy: Occupancy,
    windows: Windows,
    own_file: OwnFile,
    losses: Losses,
    flood: Flood,
    unasked: Unasked,
    hooks: Hooks,
    retold: Retold,
    /// How often health changed, by backend that is there now.
    transitions: BTreeMap<(ServiceKey, BackendAddress), u64>,
    /// Who asked for what is being done.
    user: Option<u32>,
    /// When (uptime) what is on trial is rolled back.
    trial_due: Option<Duration>,
    /// Why the history lags behind.
    history_trouble: Option<String>,
}

impl Controller {
    /// A controller that waits for its first [`Event::Links`] before it touches anything.
    pub fn new(
        mut store: Store,
        plane: Box<dyn DataPlane>,
        surroundings: Box<dyn Surroundings>,
        clock: Box<dyn Clock>,
        options: Options,
    ) -> Self {
        store.measure(options.timings.clone());
        let mut controller = Self {
            store,
            plane,
            surroundings,
            clock,
            options,
            seen: Seen::default(),
            met: false,
            started: false,
            ended: false,
            observed: Observed::default(),
            standings: Standings::new(),
            failures: BTreeMap::new(),
            noted: BTreeMap::new(),
            built: BTreeSet::new(),
            watched: BTreeMap::new(),
            probed: Vec::new(),
            announced: Announced::default(),
            drains: Drains::default(),
            occupancy: Occupancy::default(),
            windows: Windows::default(),
            own_file: OwnFile::default(),
            losses: Losses::default(),
            flood: Flood::default(),
            unasked: Unasked::default(),
            hooks: Hooks::default(),
            retold: Retold::default(),
            transitions: BTreeMap::new(),
            user: None,
            trial_due: None,
            history_trouble: None,
        };
        controller.begin_trial();
        controller.record(None, Cause::Found);
        controller
    }

    /// Does what is asked if the desired state is one that it may be done to.
    pub fn ask(&mut self, asked: Asked) -> Result<Answered, ApiError> {
        let Asked { request, user, condition } = asked;
        if !condition.holds(&self.revision()) {
            return Err(ApiError::new(
                ErrorCode::Changed,
                format!("changed meanwhile: the desired state is now at revision {}", self.revision()),
                "look at what was changed, then ask again",
            ));
        }
        self.refuse_on_trial(&request)?;
        self.user = user;
        let cause = self.cause(&request);
        let reply = self.handle(request);
        self.user = None;
        // Whatever it came to: what holds now is in the history.
        self.record(user, cause);
        Ok(Answered { reply: reply?, revision: self.revision() })
    }

    /// Ends it, and gives back what moves packets, as it stands.
    pub fn into_plane(self) -> Box<dyn DataPlane> {
        self.plane
    }

    /// What moves packets.
    pub fn kind(&self) -> dataplane::Kind {
        self.plane.kind()
    }

    /// Which desired state there is.
    pub fn revision(&self) -> Revision {
        self.store.revision()
    }

    /// Does what is asked: checks it whole, makes it durable, has it carried out, answers.
    fn handle(&mut self, request: Request) -> Result<Reply, ApiError> {
        match request {
            Request::Status => Ok(Reply::Status(Box::new(self.status()))),
            Request::ServiceList => Ok(Reply::Services(ServiceList { services: self.service_documents() })),
            Request::ServiceShow { name } => self.service_reply(&name),
            Request::BackendList { service } => self.backend_list(service.as_deref()),
            Request::InterfaceList => Ok(self.interface_reply(|_| true)),
            Request::ServiceAdd(spec) => self.service_add(&spec),
            Request::ServiceSet { name, spec } => self.service_set(&name, &spec),
            Request::ServiceRemove { name } => self.service_remove(&name),
            Request::BackendAdd { service, spec } => self.backend_add(&service, &spec),
            Request::BackendSet { service, address, spec } => self.backend_set(&service, address, &spec),
            Request::BackendRemove { service, address } => self.backend_remove(&service, address),
            Request::BackendDrain { service, address, within } => {
                self.backend_drain(&service, address, within)
            }
            Request::Clients => self.clients(),
            Request::Metrics => Ok(Reply::Metrics(Box::new(self.snapshot()))),
            Request::Attach(interfaces) => self.attach(interfaces),
            Request::Detach(interfaces) => self.detach(&interfaces),
            Request::Apply { file, text, how } => self.apply_text(&file, &text, how),
            Request::Confirm => self.confirm(),
            Request::RollBack => self.roll_back(),
            Request::Export => Ok(self.export()),
            Request::History => Ok(self.history()),
            Request::HistoryShow { number } => self.history_show(number),
            Request::HistoryRestore { number, how } => self.history_restore(number, how),
            Request::Reload => self.reload(),
            Request::Stop { detach } => self.stop(detach),
        }
    }

    /// Hears what happened around; [`Controller::reconcile`] acts on it.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Links(links) => {
                self.seen.links = links;
                self.met = true;
                self.start();
            }
            Event::Neighbor { address, resolution } => {
                if self.watched.contains_key(&address) {
                    self.seen.resolutions.insert(address, resolution);
                }
            }
            Event::Health { key, address, status, detail, ground, advice } => {
                let since = self.clock.unix_seconds();
                self.hear_of_health((key, address), Sighting { status, detail, ground, since, advice });
            }
            Event::Unaskable(why) => self.seen.unaskable = why,
        }
    }

    /// Looks the data plane up afresh and repairs what someone else changed. Called every five seconds.
    pub fn tick(&mut self) {
        let _ = self.store.settle();
        if self.met {
            self.start();
        }
        self.reconcile();
        self.look_for_losses();
        self.look_for_unasked();
        self.plane.drain_log();
    }

    /// In how long [`Controller::reconcile`] has something to do by itself: a first table's time or a drain's or a trial's is up, or
    /// [`Controller::census_due`] has a count to make.
    pub fn wake_in(&self) -> Option<Duration> {
        let first_table = self.seen.first_tables.values().min();
        let first_table = first_table.map(|due| due.saturating_sub(self.clock.uptime()));
        let others = [self.deadline_in(), self.census_in(), self.trial_in(), self.share_grows_in()];
        first_table.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Interfaces are known: requests may come.
    pub fn started(&self) -> bool {
        self.started
    }

    /// It was asked to end.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// It is attached somewhere: packets flow, with or without a controller.
    pub fn forwards(&self) -> bool {
        !self.observed.interfaces.is_empty()
    }

    /// Where it notes what happens.
    pub fn journal(&self) -> &Journal {
        &self.options.journal
    }

    /// Where it writes down how long its work takes.
    pub fn timings(&self) -> &Timings {
        &self.options.timings
    }

    /// An interface of that name exists.
    pub fn knows_interface(&self, name: &str) -> bool {
        crate::target::link_named(&self.seen.links, name).is_some()
    }

    fn clients(&mut self) -> Result<Reply, ApiError> {
        let clients = self.plane.clients().map_err(|DataPlaneError { what, why, hint }| {
            ApiError::new(ErrorCode::Refused, format!("{what}: {why}"), hint)
        })?;
        let view = View::new(clients, &self.store.desired().services, self.clock.unix_seconds());
        Ok(Reply::Clients(view))
    }

    fn backend_list(&mut self, service: Option<&str>) -> Result<Reply, ApiError> {
        if let Some(name) = service {
            self.found(name)?;
        }
        let services = self.service_documents();
        let wanted = services.into_iter().filter(|one| service.is_none_or(|name| one.name == name));
        Ok(Reply::Backends(BackendList { backends: wanted.flat_map(|service| service.backends).collect() }))
    }

    /// What people call a service; its key where nobody wants it any more.
    fn service_name(&self, key: &ServiceKey) -> String {
        let service = self.store.desired().services.iter().find(|service| service.vip == *key);
        service.map_or_else(|| key.to_string(), |service| service.name.clone())
    }

    fn stop(&mut self, detach: bool) -> Result<Reply, ApiError> {
        if detach {
            self.detach_for_now()?;
        }
        self.ended = true;
        let warnings = self.unconfirmed().into_iter().collect();
        let forwards = (self.kind() == dataplane::Kind::Proxy).then_some(false);
        Ok(Reply::Changed(ChangeDocument { changed: true, warnings, forwards }))
    }
}

/// What to say of a name that is not there.
pub(crate) fn no_service(name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!("there is no service {}", name.escape_debug()),
        "`pen-ctl service list` shows those there are",
    )
}

#[cfg(test)]
mod tests;
