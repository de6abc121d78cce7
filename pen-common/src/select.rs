//! Chooses a backend: the one that is remembered, else from the slot its hash names, or by turns.

use crate::abi::{
    Address, Backend, Directory, NO_BACKEND, ServiceEntry, Slot, Tracked, backend_flags, service_flags,
};
use crate::flood::{self, Limits};
use crate::guard;
use crate::hash;
use crate::parse::Ports;
use crate::service::{TCP, UDP};
use crate::slot::Phase;
use crate::tables::{Memory, Puzzle, Tables};
use crate::track::{self, Aligned, Key};

/// A backend with its index.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// Its index.
    pub index: u16,
    /// Its record.
    pub backend: &'a Backend,
}

/// What came of a choice. All of it means something whatever came of it, where fields of an enum's other variants do not: the
/// kernel's verifier wants to know all that is moved.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    index: u16,
    backend: Option<&'a Backend>,
    limited: bool,
}

impl<'a> Choice<'a> {
    /// Nobody is serving.
    pub const NOBODY: Self = Self { index: 0, backend: None, limited: false };
    /// It would be one new flow too many.
    pub const LIMITED: Self = Self { index: 0, backend: None, limited: true };

    /// A backend.
    #[inline(always)]
    pub const fn of(Chosen { index, backend }: Chosen<'a>) -> Self {
        Self { index, backend: Some(backend), limited: false }
    }

    /// The backend, if there is one.
    #[inline(always)]
    pub fn backend(self) -> Option<Chosen<'a>> {
        self.backend.map(|backend| Chosen { index: self.index, backend })
    }

    /// Whether it would be one new flow too many.
    #[inline(always)]
    pub const fn is_limited(self) -> bool {
        self.limited
    }
}

impl<'a> From<Option<Chosen<'a>>> for Choice<'a> {
    #[inline(always)]
    fn from(chosen: Option<Chosen<'a>>) -> Self {
        chosen.map_or(Self::NOBODY, Self::of)
    }
}

/// What a choice is made for.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// The service it belongs to.
    pub service: &'a ServiceEntry,
    /// Where it comes from.
    pub client: &'a Address,
    /// Its ports.
    pub ports: Ports,
}

/// The backend of a flow: who is remembered, where anybody may be; else, with round-robin, whose turn it is to get what
/// is new, else whom the slot names. What may be remembered is.
///
/// With tracking `full` memory is asked first, and the slot only of whom nobody remembers; else the slot first, which
/// tells whether anybody is remembered at all.
#[inline(always)]
pub fn choose<'a, K: Key, T: Tables>(
    tables: &'a T,
    directory: &Directory,
    flow: Flow<'_>,
    may_remember: bool,
    is_new: impl FnOnce() -> bool,
) -> Choice<'a> {
    let Flow { service, client, ports } = flow;
    let slot = || {
        let number = slot_number(directory, service, client, ports);
        tables.slot(service.service, service.table_half, number)
    };
    if track::remembers_all(service) {
        return recalled::<K, _>(tables, directory, flow, may_remember, slot, is_new);
    }
    let Some(slot) = slot() else { return Choice::NOBODY };
    if track::remembers(service) && slot.phase() != Phase::Unmarked {
        // A datagram that nobody remembers may be of a flow that was there before.
        let begins = || service.protocol == TCP && is_new();
        return recalled::<K, _>(tables, directory, flow, may_remember, || Some(slot), begins);
    }
    by_slot(tables, service, slot, true).into()
}

/// The backend of a flow about which nothing is to be decided, and what is to be noted of it. As in [`Choice`], all of it means
/// something whatever it is.
pub struct Settled<'a, M> {
    /// The backend.
    pub chosen: Chosen<'a>,
    /// The memory that names it, where it was not used in this second yet.
    memory: Option<M>,
    /// Whether it is a newcomer's, whom nobody remembers.
    is_newcomer: bool,
    /// This second, where anything is to be noted.
    now: u32,
}

impl<M: Memory> Settled<'_, M> {
    /// Notes that the memory was used, or counts the newcomer.
    #[inline(always)]
    pub fn note<T: Tables>(&self, tables: &T, directory: &Directory) {
        if let Some(memory) = &self.memory {
            memory.touch(self.now);
        }
        if self.is_newcomer {
            // That it is not to be remembered is known already.
            _ = count_newcomer(tables, directory, self.now);
        }
    }
}

/// The backend of a flow about which nothing is to be decided: the one that is remembered and counts; of a newcomer once there
/// were too many, the one that its slot names; or, where nobody has to be remembered, the owner of a slot that is not changing
/// owner. `None`: [`choose`] has to look closer.
#[inline(always)]
pub fn settled<'a, K: Key, T: Tables>(
    tables: &'a T,
    directory: &Directory,
    flow: Flow<'_>,
) -> Option<Settled<'a, T::Memory<'a>>> {
    let Flow { service, client, ports } = flow;
    let slot = || {
        let number = slot_number(directory, service, client, ports);
        tables.slot(service.service, service.table_half, number)
    };
    if !track::remembers_all(service) {
        let slot = slot()?;
        if slot.phase() != Phase::Unmarked {
            return None;
        }
        let chosen = sound(tables, service, slot.owner)?;
        return Some(Settled { chosen, memory: None, is_newcomer: false, now: 0 });
    }
    let now = track::now(directory, tables.jiffies());
    let key = Aligned(K::new(service, client, ports));
    let Some(memory) = key.0.recall(tables) else {
        if !is_only_counted(tables, directory, service, now) {
            return None;
        }
        // Whatever it begins: who cannot be remembered could not be told from who was there before.
        let [first, _] = slot()?.candidates(false);
        let chosen = sound(tables, service, first)?;
        return Some(Settled { chosen, memory: None, is_newcomer: true, now });
    };
    let tracked = memory.read();
    let chosen = Chosen { index: tracked.backend, backend: track::recall(tables, service, tracked, now)? };
    let memory = if tracked.seen == now { None } else { Some(memory) };
    Some(Settled { chosen, memory, is_newcomer: false, now })
}

/// Whether a newcomer of a service with tracking `full` is only counted: neither remembered, nor noted, nor charged.
#[inline(always)]
fn is_only_counted<T: Tables>(tables: &T, directory: &Directory, service: &ServiceEntry, now: u32) -> bool {
    let is_charged = service.flags & service_flags::LIMITS_FLOWS != 0;
    !is_charged && directory.flood_per_cpu != 0 && flood::had_too_many(tables, now)
}

/// The backend of a flow that may be remembered.
#[inline(always)]
fn recalled<'a, K: Key, T: Tables>(
    tables: &'a T,
    directory: &Directory,
    flow: Flow<'_>,
    may_remember: bool,
    slot: impl FnOnce() -> Option<Slot>,
    is_new: impl FnOnce() -> bool,
) -> Choice<'a> {
    let Flow { service, client, ports } = flow;
    let key = Aligned(K::new(service, client, ports));
    let now = track::now(directory, tables.jiffies());
    let memory = key.0.recall(tables);
    if let Some(memory) = &memory {
        let tracked = memory.read();
        if let Some(backend) = track::recall(tables, service, tracked, now) {
            if tracked.seen != now && may_remember {
                memory.touch(now);
            }
            return Choice::of(Chosen { index: tracked.backend, backend });
        }
    }
    // Who is charged for new flows must not be for each datagram of one.
    let who = flood::who(key.0.hash(directory.seed), service.flags & service_flags::LIMITS_FLOWS != 0);
    let may_insert = may_remember && memory.is_none();
    let came_before = may_insert && directory.flood_per_cpu != 0 && tables.came_before(who, now);
    // A datagram of UDP that nobody remembers is a new flow; of TCP that was told before.
    let is_datagram = may_remember && service.protocol == UDP && !came_before;
    if is_datagram && guard::flows(tables, directory, service, client).is_err() {
        return Choice::LIMITED;
    }
    let Some(slot) = slot() else { return Choice::NOBODY };
    // Where nobody serves, nobody is remembered, however many come.
    let has_backend = slot.candidates(true) != [NO_BACKEND; 2];
    let inserts = may_insert && has_backend && remembers_newcomers(service, slot);
    let suppressed = inserts && (came_before || count_newcomer(tables, directory, now));
    if suppressed && !came_before {
        tables.note_newcomer(who, now);
    }
    let takes_turns = service.flags & service_flags::ROUND_ROBIN != 0;
    // Who cannot be remembered cannot be told from who was there before, when he comes again.
    let opens = !suppressed && (takes_turns || slot.phase() == Phase::Open) && is_new();
    let by_turn = if takes_turns && opens { by_turn(tables, service) } else { None };
    let Some(chosen) = by_turn.or_else(|| by_slot(tables, service, slot, opens)) else {
        return Choice::NOBODY;
    };
    if may_remember {
        let generation = chosen.backend.generation;
        let tracked = Aligned(Tracked { backend: chosen.index, generation, seen: now });
        match memory {
            Some(memory) => memory.replace(tracked.0),
            None if inserts && !suppressed => key.0.remember(tables, &tracked.0),
            None => {}
        }
    }
    Choice::of(chosen)
}

/// Counts a newcomer to be remembered; whether it comes in a flood, and is not to be.
#[inline(always)]
fn count_newcomer<T: Tables>(tables: &T, directory: &Directory, now: u32) -> bool {
    let limits = Limits { per_cpu: directory.flood_per_cpu, in_all: directory.flood_in_all };
    limits.per_cpu != 0 && tables.suppresses(limits, now)
}

/// Whether what nobody remembers is: with tracking `transitions` only while it may be told apart later.
#[inline(always)]
fn remembers_newcomers(service: &ServiceEntry, slot: Slot) -> bool {
    track::remembers_all(service) || slot.phase() == Phase::Open
}

/// The slot of a packet: by its client, or by its flow.
#[inline(always)]
pub fn slot_number(directory: &Directory, service: &ServiceEntry, client: &Address, ports: Ports) -> u32 {
    let hash = if service.flags & service_flags::AFFINITY_FLOW == 0 {
        hash::client(directory.seed, client)
    } else {
        let vip = &service.address;
        hash::flow(directory.seed, client, vip, ports.source, ports.destination, service.protocol)
    };
    hash::slot(hash)
}

/// Who gets a packet of this slot that nobody remembers; `opens`: it begins a flow.
#[inline(always)]
pub fn by_slot<'a, T: Tables>(
    tables: &'a T,
    service: &ServiceEntry,
    slot: Slot,
    opens: bool,
) -> Option<Chosen<'a>> {
    let [first, second] = slot.candidates(opens);
    alive(tables, service, first).or_else(|| alive(tables, service, second))
}

/// Who gets a newcomer of a service with round-robin: whose turn it is, if that one is serving.
#[inline(always)]
pub fn by_turn<'a, T: Tables>(tables: &'a T, service: &ServiceEntry) -> Option<Chosen<'a>> {
    let index = tables.take_turn(service.service, service.table_half)?;
    let chosen = alive(tables, service, index)?;
    if chosen.backend.has(backend_flags::SERVING) { Some(chosen) } else { None }
}

/// The backend of an index named by a slot or a turn, if packets may go there.
#[inline(always)]
fn alive<'a, T: Tables>(tables: &'a T, service: &ServiceEntry, index: u16) -> Option<Chosen<'a>> {
    if index == NO_BACKEND {
        return None;
    }
    let backend = tables.backend(index)?;
    if !is_of(backend, service) {
        tables.puzzled(Puzzle::RetiredIndex { index, service: service.service });
        return None;
    }
    if is_alive(backend) { Some(Chosen { index, backend }) } else { None }
}

/// The same, if nothing about it puzzles; [`NO_BACKEND`] is beyond all records.
#[inline(always)]
fn sound<'a, T: Tables>(tables: &'a T, service: &ServiceEntry, index: u16) -> Option<Chosen<'a>> {
    let backend = tables.backend(index)?;
    if is_of(backend, service) && is_alive(backend) { Some(Chosen { index, backend }) } else { None }
}

/// Whether a record is that of a backend of this service.
#[inline(always)]
const fn is_of(backend: &Backend, service: &ServiceEntry) -> bool {
    let in_use = backend.word & (backend_flags::RETIRED | backend_flags::IN_USE) == backend_flags::IN_USE;
    in_use && backend.service == service.service
}

/// Whether packets may go to a backend: some, at least.
#[inline(always)]
const fn is_alive(backend: &Backend) -> bool {
    backend.word & (backend_flags::SERVING | backend_flags::USABLE) != 0
}
