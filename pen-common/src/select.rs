//! Chooses a backend: the one that is remembered, else from the slot its hash names, or by turns.

use crate::abi::{
    Address, Backend, Directory, NO_BACKEND, ServiceEntry, Tracked, backend_flags, service_flags,
};
use crate::hash;
use crate::parse::Ports;
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

/// The backend of a flow: who is remembered, else, with round-robin, whose turn it is to get what `is_new`, else whom
/// the slot names; what is new is remembered if it may be.
#[inline(always)]
pub fn choose<'a, K: Key, T: Tables>(
    tables: &'a T,
    directory: &Directory,
    flow: Flow<'_>,
    may_remember: bool,
    is_new: impl FnOnce() -> bool,
) -> Option<Chosen<'a>> {
    let Flow { service, client, ports } = flow;
    let by_slot = || by_slot(tables, service, slot_number(directory, service, client, ports));
    if !track::remembers(service) {
        return by_slot();
    }
    let key = Aligned(K::new(service, client, ports));
    let now = track::now(directory, tables.jiffies());
    let memory = key.0.recall(tables);
    if let Some(memory) = &memory {
        let tracked = memory.read();
        if let Some(backend) = track::recall(tables, service, tracked, now) {
            if tracked.seen != now && may_remember {
                memory.touch(now);
            }
            return Some(Chosen { index: tracked.backend, backend });
        }
    }
    let takes_turn = service.flags & service_flags::ROUND_ROBIN != 0 && is_new();
    let by_turn = if takes_turn { by_turn(tables, service) } else { None };
    let chosen = by_turn.or_else(by_slot)?;
    if may_remember {
        let generation = chosen.backend.generation;
        let tracked = Aligned(Tracked { backend: chosen.index, generation, seen: now });
        match memory {
            Some(memory) => memory.replace(tracked.0),
            None => key.0.remember(tables, &tracked.0),
        }
    }
    Some(chosen)
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

/// Who gets a packet of this slot: its owner, or, when that one is gone, its previous owner.
#[inline(always)]
pub fn by_slot<'a, T: Tables>(tables: &'a T, service: &ServiceEntry, number: u32) -> Option<Chosen<'a>> {
    let slot = tables.slot(service.service, service.table_half, number)?;
    alive(tables, service, slot.owner).or_else(|| alive(tables, service, slot.previous))
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
    const ALIVE: u64 = backend_flags::SERVING | backend_flags::USABLE;
    if index == NO_BACKEND {
        return None;
    }
    let backend = tables.backend(index)?;
    let word = backend.word;
    let in_use = word & (backend_flags::RETIRED | backend_flags::IN_USE) == backend_flags::IN_USE;
    if !in_use || backend.service != service.service {
        tables.puzzled(Puzzle::RetiredIndex { index, service: service.service });
        return None;
    }
    if word & ALIVE == 0 { None } else { Some(Chosen { index, backend }) }
}
