//! Who may use a service, and how much of it: access lists and limits, of services that have them.

use crate::abi::{Address, Directory, ServiceEntry, access, limit_table, refused_record, service_flags};
use crate::limit;
use crate::service::TCP;
use crate::tables::Tables;
use crate::track;
use crate::verdict::Drop;

/// Whether more is to be asked about a service's packets than where they go.
#[inline(always)]
pub const fn is_guarded(service: &ServiceEntry) -> bool {
    service.flags & service_flags::GUARDED != 0
}

/// Whether packets that ask for a connection count: they are new flows even of clients who are remembered.
#[inline(always)]
pub const fn counts_connections(service: &ServiceEntry) -> bool {
    service.flags & service_flags::LIMITS_FLOWS != 0 && service.protocol == TCP
}

/// Refuses a client whom the service's list does not let in.
#[inline(always)]
pub fn listed<T: Tables>(
    tables: &T,
    directory: &Directory,
    service: &ServiceEntry,
    client: &Address,
) -> Result<(), Drop> {
    if service.flags & service_flags::LISTED == 0 || lets_in(tables, service, client) {
        return Ok(());
    }
    denied(tables, directory, service, client)
}

/// Refuses an error from a router that the list keeps out by name, or about a client whom it does not let in. Routers need
/// not be let in: nobody knows them all, and without them path-MTU discovery hangs.
#[inline(always)]
pub fn listed_error<T: Tables>(
    tables: &T,
    directory: &Directory,
    service: &ServiceEntry,
    router: &Address,
    client: &Address,
) -> Result<(), Drop> {
    if service.flags & service_flags::LISTED == 0 {
        return Ok(());
    }
    if tables.listed(service, router) != Some(access::DENY) && lets_in(tables, service, client) {
        return Ok(());
    }
    denied(tables, directory, service, router)
}

#[inline(always)]
fn lets_in<T: Tables>(tables: &T, service: &ServiceEntry, client: &Address) -> bool {
    match tables.listed(service, client) {
        Some(word) => word == access::ALLOW,
        None => service.flags & service_flags::LISTED_ONLY == 0,
    }
}

/// Counts a packet that the list refuses, by its sender.
#[inline(always)]
fn denied<T: Tables>(
    tables: &T,
    directory: &Directory,
    service: &ServiceEntry,
    sender: &Address,
) -> Result<(), Drop> {
    tables.refused(refused_record(service.service), sender, now(tables, directory));
    Err(Drop::Denied)
}

/// Refuses a packet from a prefix that sends too many. What is asked for twice counts twice.
#[inline(always)]
pub fn packets<T: Tables>(
    tables: &T,
    directory: &Directory,
    service: &ServiceEntry,
    source: &Address,
) -> Result<(), Drop> {
    if service.flags & service_flags::LIMITS_PACKETS == 0 {
        return Ok(());
    }
    let table = limit_table(service.service);
    let admits = limit::admits(tables, table, service.packets, directory.seed, service, source);
    limited(admits, tables, directory, service, source)
}

/// Refuses a new flow from a prefix that begins too many; as [`packets`].
#[inline(always)]
pub fn flows<T: Tables>(
    tables: &T,
    directory: &Directory,
    service: &ServiceEntry,
    source: &Address,
) -> Result<(), Drop> {
    if service.flags & service_flags::LIMITS_FLOWS == 0 {
        return Ok(());
    }
    let table = limit_table(service.service) + 1;
    let admits = limit::admits(tables, table, service.flows, directory.seed, service, source);
    limited(admits, tables, directory, service, source)
}

#[inline(always)]
fn limited<T: Tables>(
    admits: bool,
    tables: &T,
    directory: &Directory,
    service: &ServiceEntry,
    source: &Address,
) -> Result<(), Drop> {
    if admits {
        return Ok(());
    }
    tables.refused(refused_record(service.service) + 1, source, now(tables, directory));
    Err(Drop::RateLimited)
}

#[inline(always)]
fn now<T: Tables>(tables: &T, directory: &Directory) -> u32 {
    track::now(directory, tables.jiffies())
}
