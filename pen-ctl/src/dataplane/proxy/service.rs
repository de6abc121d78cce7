//! A service of the proxy: what all workers share of it. They read its [`State`] once a connection, and nothing of it
//! while they copy.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::access::Access;
use super::choose::{Chooser, Excluded, Policy, Rules};
use super::count::{OfWorker, ServiceCounts, Totals};
use super::endpoint::{Endpoint, Peer};
use super::pool::{BackendConfig, Member, Place, Pool};
use super::preface::Version;
use crate::dataplane::{AccessList, Protocol};

/// The clock that workers of a proxy go by.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Seconds since it started, as memory has them.
    pub fn seconds(&self) -> u32 {
        u32::try_from(self.now() / 1000).unwrap_or(u32::MAX)
    }

    /// Milliseconds since it started; never 0.
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// What is asked of a service beside its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How backends are chosen.
    pub policy: Policy,
    /// How long a backend may take to accept a connection before the next one is tried.
    pub connect_timeout: Duration,
    /// How long a backend that failed is left out.
    pub out_for: Duration,
    /// How long a connection or session lasts without a byte either way; zero = for ever.
    pub idle_timeout: Duration,
    /// Connections at once; further clients wait to be accepted.
    pub max_connections: Option<u32>,
    /// Who meets a backend that fails is turned away, not brought to the next one.
    pub stubborn: bool,
    /// Backends see the client's address as the sender's.
    pub transparent: bool,
    /// Backends are told the client's address in front of what it sends.
    pub proxy_protocol: Option<Version>,
    /// Clients that tell whom they speak for in the same way, and must.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Connections to a backend that is down or gone are ended.
    pub close_on_down: bool,
    /// Who may use it.
    pub access: AccessList,
}

/// How a service stands at one moment; whatever is asked anew makes a new one.
#[derive(Debug)]
pub struct State {
    /// What is asked of it.
    pub settings: Settings,
    /// Its policy, as it is read.
    pub rules: Arc<Rules>,
    /// Its access list, as it is asked; `None` = everybody may.
    access: Option<Arc<Access>>,
    /// Its backends.
    pub pool: Pool,
}

impl State {
    /// Whether who comes from there may use it.
    pub fn admits(&self, client: Peer) -> bool {
        self.access.as_ref().is_none_or(|access| access.admits(client.address))
    }
}

/// A service as all workers see it.
#[derive(Debug)]
pub struct Service {
    /// What people call it.
    pub name: String,
    /// What clients speak.
    pub protocol: Protocol,
    chooser: Chooser,
    clock: Clock,
    state: RwLock<Arc<State>>,
    connections: AtomicU32,
    generations: AtomicU16,
    counts: Box<[OfWorker<ServiceCounts>]>,
    gone: Mutex<Gone>,
}

/// Backends that have gone.
#[derive(Debug, Default)]
struct Gone {
    /// Those that still have connections.
    leaving: Vec<Arc<Member>>,
    /// What was counted of the others.
    totals: Totals,
}

impl Service {
    /// A service without backends that remembers at most so many clients.
    pub fn new(
        name: String,
        protocol: Protocol,
        settings: Settings,
        clients: usize,
        (clock, workers): (Clock, usize),
    ) -> Service {
        let rules = Arc::new(Rules::new(settings.policy));
        let access = access(&settings.access);
        Service {
            name,
            protocol,
            chooser: Chooser::new(clients),
            clock,
            state: RwLock::new(Arc::new(State { settings, rules, access, pool: Pool::empty() })),
            connections: AtomicU32::new(0),
            generations: AtomicU16::new(1),
            counts: (0..workers).map(|_| OfWorker::default()).collect(),
            gone: Mutex::default(),
        }
    }

    /// How it stands now.
    pub fn state(&self) -> Arc<State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes it stand so: whoever comes from now on sees all of it. Only one thread may.
    pub fn set(&self, settings: Settings, backends: &[BackendConfig]) {
        let before = self.state();
        let same_policy = before.settings.policy == settings.policy;
        let rules = if same_policy { before.rules.clone() } else { Arc::new(Rules::new(settings.policy)) };
        let same_access = before.settings.access == settings.access;
        let access = if same_access { before.access.clone() } else { access(&settings.access) };
        let seed = settings.policy.seed;
        let member = |id, endpoint: &Endpoint| {
            let generation = self.generations.fetch_add(1, Relaxed);
            Member::new(id, generation, endpoint.clone(), self.counts.len())
        };
        let pool = before.pool.next(backends, seed, before.settings.policy.seed != seed, member);
        let leaving = before.pool.places().filter(|place| pool.place_of(&place.member).is_none());
        self.gone().leaving.extend(leaving.map(|place| place.member.clone()));
        let state = Arc::new(State { settings, rules, access, pool });
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The backend of a new connection or flow; `None` when nobody may have it.
    pub fn choose(&self, state: &State, peer: Peer, excluded: &Excluded) -> Option<Place> {
        let trial = match self.protocol {
            Protocol::Tcp => out_for(state),
            Protocol::Udp => 0,
        };
        let times = (self.clock.now(), trial);
        let client = (peer.address, peer.port);
        let id = self.chooser.choose((&state.rules, &state.pool), times, client, excluded)?;
        state.pool.place(id).cloned()
    }

    /// A connection to a backend failed, which leaves it out for a while. True if nothing was held against it before.
    pub fn failed(&self, state: &State, member: &Member, why: &str) -> bool {
        member.failed(self.clock.now(), out_for(state), why)
    }

    /// Whom it remembers, and how it chooses.
    pub fn chooser(&self) -> &Chooser {
        &self.chooser
    }

    /// The clock it goes by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Clients that it has now.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// Whether another client may come.
    pub fn has_room(&self, state: &State) -> bool {
        state.settings.max_connections.is_none_or(|most| self.connections() < most)
    }

    /// One more client; false, and none more, when there are as many as may be.
    pub fn enter(&self, state: &State) -> bool {
        let Some(most) = state.settings.max_connections else {
            self.connections.fetch_add(1, Relaxed);
            return true;
        };
        // In one step: other workers take from the same room.
        let one_more = |clients| (clients < most).then_some(clients + 1);
        self.connections.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// One less.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// What that worker counts of it.
    pub fn count(&self, worker: usize) -> &ServiceCounts {
        &self.counts[worker].0
    }

    /// Clients accepted so far, and clients that no backend would have.
    pub fn accepted_and_turned_away(&self) -> (u64, u64) {
        let sum = |count: fn(&ServiceCounts) -> u64| self.counts.iter().map(|OfWorker(one)| count(one)).sum();
        (sum(|counts| counts.accepted.get()), sum(|counts| counts.turned_away.get()))
    }

    /// Connections (of UDP, datagrams) that its access list refused so far.
    pub fn denied(&self) -> u64 {
        self.counts.iter().map(|OfWorker(counts)| counts.denied.get()).sum()
    }

    /// What was counted of backends that have gone.
    pub fn gone_totals(&self) -> Totals {
        let mut gone = self.gone();
        let Gone { leaving, totals } = &mut *gone;
        leaving.retain(|member| {
            let last = Arc::strong_count(member) == 1;
            if last {
                *totals = totals.plus(Totals::of(member.counts()));
            }
            !last
        });
        leaving.iter().fold(*totals, |sum, member| sum.plus(Totals::of(member.counts())))
    }

    /// Goes on from what a predecessor counted: accepted, turned away, denied, and of backends that have gone. Only before any worker has to do with it.
    pub fn go_on_from(&self, [accepted, turned_away, denied]: [u64; 3], gone: Totals) {
        let counts = self.count(0);
        counts.accepted.add(accepted);
        counts.turned_away.add(turned_away);
        counts.denied.add(denied);
        self.gone().totals = gone;
    }

    fn gone(&self) -> std::sync::MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn access(list: &AccessList) -> Option<Arc<Access>> {
    (!list.is_empty()).then(|| Arc::new(Access::from(list)))
}

fn out_for(state: &State) -> u64 {
    u64::try_from(state.settings.out_for.as_millis()).unwrap_or(u64::MAX)
}
