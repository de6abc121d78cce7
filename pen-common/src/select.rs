//! Chooses a backend for who is not remembered: from the slot its hash names, or by turns.

use crate::abi::{Address, Backend, Directory, NO_BACKEND, ServiceEntry, backend_flags, service_flags};
use crate::hash;
use crate::parse::Ports;
use crate::tables::{Puzzle, Tables};

/// A backend with its index.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// Its index.
    pub index: u16,
    /// Its record.
    pub backend: &'a Backend,
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
