//! Rate limits: a table of token buckets for each that a service has.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use pen_common::abi::{ServiceEntry, limit_table, service_flags};

use super::made::create_buckets;
use super::maps::Maps;
use super::sys;

/// The tables that packets find, by their place in map `limits`: the id of each.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<u32, u32>);

impl Buckets {
    /// Takes over the tables that there are, with what is in them, of a service that has limits; others are taken away.
    pub(super) fn adopt(&mut self, maps: &Maps, entry: &ServiceEntry) -> io::Result<()> {
        for table in wanted(entry) {
            if let Some(map) = sys::inner_map(maps.limits.fd().as_fd(), table)? {
                self.0.insert(table, map);
            }
        }
        self.drop_unwanted(maps, entry)
    }

    /// Makes those that a service needs and that are not there, before packets are told of them.
    pub(super) fn place(&mut self, maps: &Maps, entry: &ServiceEntry) -> io::Result<()> {
        for table in wanted(entry) {
            if self.is_placed(maps, table)? {
                continue;
            }
            let buckets = create_buckets(&format!("limits_{table}"))?;
            let map = sys::map_id(buckets.as_fd())?;
            sys::set_element(maps.limits.fd().as_fd(), table, buckets.as_raw_fd() as u32)?;
            self.0.insert(table, map);
        }
        Ok(())
    }

    /// Whether packets of a service find all tables that it needs, and none that somebody else put there.
    pub(super) fn are_placed(&self, maps: &Maps, entry: &ServiceEntry) -> io::Result<bool> {
        for table in wanted(entry) {
            if !self.is_placed(maps, table)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there are tables that a service needs no more.
    pub(super) fn has_unwanted(&self, entry: &ServiceEntry) -> bool {
        unwanted(entry).any(|table| self.0.contains_key(&table))
    }

    /// Takes those away that a service does not need; no packet may be told of them any more.
    pub(super) fn drop_unwanted(&mut self, maps: &Maps, entry: &ServiceEntry) -> io::Result<()> {
        for table in unwanted(entry) {
            self.take_away(maps, table)?;
        }
        Ok(())
    }

    fn is_placed(&self, maps: &Maps, table: u32) -> io::Result<bool> {
        let Some(map) = self.0.get(&table) else { return Ok(false) };
        Ok(sys::inner_map(maps.limits.fd().as_fd(), table)? == Some(*map))
    }

    fn take_away(&mut self, maps: &Maps, table: u32) -> io::Result<()> {
        sys::remove_inner_map(maps.limits.fd().as_fd(), table)?;
        self.0.remove(&table);
        Ok(())
    }
}

/// Places of the tables of a service, and whether it needs them.
fn tables(entry: &ServiceEntry) -> impl Iterator<Item = (u32, bool)> {
    let first = limit_table(entry.service);
    let needs = |flag: u16| entry.flags & flag != 0;
    let needed = [needs(service_flags::LIMITS_PACKETS), needs(service_flags::LIMITS_FLOWS)];
    (first..).zip(needed)
}

fn wanted(entry: &ServiceEntry) -> impl Iterator<Item = u32> {
    tables(entry).filter_map(|(table, needed)| needed.then_some(table))
}

fn unwanted(entry: &ServiceEntry) -> impl Iterator<Item = u32> {
    tables(entry).filter_map(|(table, needed)| (!needed).then_some(table))
}
