//! Access lists: a trie for each service that has one, built aside and put in its place at once, and lines that spare most
//! packets a look at it: with IPv4 what it says of blocks, with IPv6 what packets were told of late.
//!
//! A trie has an answer for everybody: under the shortest prefix stands what becomes of those who are in none of the list's.
//! So a list that lets nobody else in takes the place of one that lets everybody else in, and the other way round, by one
//! store, whatever packets are told of it a moment earlier or later.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use ipnet::IpNet;
use pen_common::abi::{AccessKeyV4, AccessKeyV6, access};
use pen_common::blocks;

use super::made::{create_blocks, create_list};
use super::mapped::Mapped;
use super::maps::Maps;
use super::sys;
use crate::dataplane::AccessList;

/// The lists that we put in place, by service id.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<u16, Placed>);

#[derive(Debug)]
struct Placed {
    list: AccessList,
    /// Id of the trie.
    map: u32,
    /// Id of the lines before it.
    lines: u32,
}

impl Lists {
    /// Makes packets of a service find this list, and no part of another, once they are told that there is one. Packets come
    /// to a service from addresses of its VIP's own family.
    pub(super) fn place(
        &mut self,
        maps: &Maps,
        vip: IpAddr,
        service: u16,
        list: &AccessList,
    ) -> io::Result<()> {
        if self.is_placed(maps, vip, service, list)? {
            return Ok(());
        }
        let trie = build(vip, service, list)?;
        let map = sys::map_id(trie.as_fd())?;
        sys::set_element(outer(maps, vip), service.into(), trie.as_raw_fd() as u32)?;
        // After the trie, which they refer to: once it is in place, all packets that found the one before are done (the kernel
        // waits for them). In between a packet finds what the list before says, or what this one does.
        let lines = match vip {
            IpAddr::V4(_) => build_blocks(service, list)?,
            IpAddr::V6(_) => create_blocks(&format!("recent_{service}"))?,
        };
        sys::set_element(maps.access_blocks.fd().as_fd(), service.into(), lines.as_raw_fd() as u32)?;
        let lines = sys::map_id(lines.as_fd())?;
        self.0.insert(service, Placed { list: list.clone(), map, lines });
        Ok(())
    }

    /// Whether this is the list that packets of a service find.
    pub(super) fn is_placed(
        &self,
        maps: &Maps,
        vip: IpAddr,
        service: u16,
        list: &AccessList,
    ) -> io::Result<bool> {
        match self.0.get(&service) {
            Some(placed) if placed.list == *list => {
                let lines = sys::inner_map(maps.access_blocks.fd().as_fd(), service.into())?;
                let trie = sys::inner_map(outer(maps, vip), service.into())?;
                Ok(trie == Some(placed.map) && lines == Some(placed.lines))
            }
            _ => Ok(false),
        }
    }

    /// Whether we put a list in place for a service.
    pub(super) fn has(&self, service: u16) -> bool {
        self.0.contains_key(&service)
    }

    /// Takes a service's list away, whoever put it there; no packet may be told that there is one any more.
    pub(super) fn take_away(&mut self, maps: &Maps, service: u16) -> io::Result<()> {
        for outer in [&maps.access_blocks, &maps.access_v4, &maps.access_v6] {
            sys::remove_inner_map(outer.fd().as_fd(), service.into())?;
        }
        self.0.remove(&service);
        Ok(())
    }
}

/// The tries that packets to this VIP are looked up in.
fn outer(maps: &Maps, vip: IpAddr) -> BorrowedFd<'_> {
    match vip {
        IpAddr::V4(_) => maps.access_v4.fd().as_fd(),
        IpAddr::V6(_) => maps.access_v6.fd().as_fd(),
    }
}

/// The trie of a list, for clients of the VIP's family.
fn build(vip: IpAddr, service: u16, list: &AccessList) -> io::Result<OwnedFd> {
    let key_size = match vip {
        IpAddr::V4(_) => size_of::<AccessKeyV4>(),
        IpAddr::V6(_) => size_of::<AccessKeyV6>(),
    };
    let (keys, values) = entries(vip, list);
    let trie = create_list(&format!("access_{service}"), key_size, values.len() as u32)?;
    sys::update_all(trie.as_fd(), key_size, &keys, &values)?;
    Ok(trie)
}

/// What a list says of blocks of IPv4 addresses.
fn build_blocks(service: u16, list: &AccessList) -> io::Result<OwnedFd> {
    let with = |value: u32| {
        move |prefix: &IpNet| match prefix {
            IpNet::V4(prefix) => Some((prefix.network().into(), prefix.prefix_len(), value)),
            IpNet::V6(_) => None,
        }
    };
    let allowed = list.allow.iter().filter_map(with(access::ALLOW));
    let denied = list.deny.iter().filter_map(with(access::DENY));
    let mut prefixes: Vec<(u32, u8, u32)> = allowed.chain(denied).collect();
    prefixes.sort_unstable_by_key(|(_, length, _)| *length);
    let mut words: Box<[u64; blocks::WORDS]> =
        vec![0; blocks::WORDS].try_into().map_err(|_| io::ErrorKind::OutOfMemory)?;
    blocks::write(&mut words, prefixes.into_iter(), others(list));
    let map = create_blocks(&format!("blocks_{service}"))?;
    let mapped = Mapped::<u64>::new(map.as_fd(), blocks::WORDS)?;
    for (cell, word) in mapped.words().iter().zip(words.iter()) {
        cell.store(*word, Ordering::Release);
    }
    Ok(map)
}

/// What becomes of those who are in none of a list's prefixes.
fn others(list: &AccessList) -> u32 {
    if list.allow.is_empty() { access::ALLOW } else { access::REST }
}

/// Keys, one behind the other, and values of a list's trie. The first, which the list itself may override, is for everybody.
fn entries(vip: IpAddr, list: &AccessList) -> (Vec<u8>, Vec<u32>) {
    let everybody = match vip {
        IpAddr::V4(_) => IpNet::V4(Default::default()),
        IpAddr::V6(_) => IpNet::V6(Default::default()),
    };
    let others = others(list);
    let with = |value: u32| move |prefix: &IpNet| (*prefix, value);
    let listed = list.allow.iter().map(with(access::ALLOW)).chain(list.deny.iter().map(with(access::DENY)));
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (prefix, value) in std::iter::once((everybody, others)).chain(listed) {
        match (vip, prefix) {
            (IpAddr::V4(_), IpNet::V4(prefix)) => {
                keys.extend(u32::from(prefix.prefix_len()).to_ne_bytes());
                keys.extend(prefix.network().octets());
            }
            (IpAddr::V6(_), IpNet::V6(prefix)) => {
                keys.extend(u32::from(prefix.prefix_len()).to_ne_bytes());
                keys.extend(prefix.network().octets());
            }
            _ => continue,
        }
        values.push(value);
    }
    (keys, values)
}

// As `entries` writes them.
const _: () = {
    assert!(std::mem::offset_of!(AccessKeyV4, bits) == 0 && std::mem::offset_of!(AccessKeyV4, address) == 4);
    assert!(std::mem::offset_of!(AccessKeyV6, bits) == 0 && std::mem::offset_of!(AccessKeyV6, address) == 4);
};
