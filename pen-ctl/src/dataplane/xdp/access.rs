//! Access lists: a trie for each service that has one, built aside and put in its place at once.
//!
//! A trie has an answer for everybody: under the shortest prefix stands what becomes of those who are in none of the list's.
//! So a list that lets nobody else in takes the place of one that lets everybody else in, and the other way round, by one
//! store, whatever packets are told of it a moment earlier or later.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use pen_common::abi::{AccessKeyV4, AccessKeyV6, access};

use super::made::create_list;
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
        self.0.insert(service, Placed { list: list.clone(), map });
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
                Ok(sys::inner_map(outer(maps, vip), service.into())? == Some(placed.map))
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
        for outer in [maps.access_v4.fd().as_fd(), maps.access_v6.fd().as_fd()] {
            sys::remove_inner_map(outer, service.into())?;
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

/// Keys, one behind the other, and values of a list's trie. The first, which the list itself may override, is for everybody.
fn entries(vip: IpAddr, list: &AccessList) -> (Vec<u8>, Vec<u32>) {
    let everybody = match vip {
        IpAddr::V4(_) => IpNet::V4(Default::default()),
        IpAddr::V6(_) => IpNet::V6(Default::default()),
    };
    let others = if list.allow.is_empty() { access::ALLOW } else { access::DENY };
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
