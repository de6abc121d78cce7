//! Remembers which VIPs were announced where, and says what is still to be announced or withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Controller;
use crate::dataplane::Mac;
use crate::surroundings::Link;
use crate::target::link_named;

/// VIPs announced, by interface: its name, and what makes it another one.
#[derive(Debug, Default)]
pub(super) struct Announced(BTreeMap<String, (u32, Option<Mac>, BTreeSet<IpAddr>)>);

impl Controller {
    /// Announces what is new: VIPs, interfaces, links that came back. Withdraws what is gone.
    pub(super) fn announce(&mut self) {
        let desired = self.store.desired();
        let vips: BTreeSet<IpAddr> = desired.services.iter().filter_map(|service| service.vip.ip()).collect();
        let mut present: BTreeMap<String, Link> = BTreeMap::new();
        for (name, found) in self.observed.interfaces.iter().filter(|(_, found)| found.attached) {
            let link = link_named(&self.seen.links, name).filter(|link| link.up && found.target.announce);
            if let Some(link) = link.filter(|link| link.index == found.target.ifindex) {
                present.insert(name.clone(), link.clone());
            }
        }
        self.withdraw_from_absent(&present);
        for (name, link) in present {
            let fresh = (link.index, link.mac, BTreeSet::new());
            let entry = self.announced.0.entry(name).or_insert_with(|| fresh.clone());
            if (entry.0, entry.1) != (link.index, link.mac) {
                *entry = fresh;
            }
            let new: Vec<IpAddr> = vips.difference(&entry.2).copied().collect();
            let gone: Vec<IpAddr> = entry.2.difference(&vips).copied().collect();
            entry.2.clone_from(&vips);
            if !gone.is_empty() {
                self.surroundings.withdraw(&link, &gone);
            }
            if !new.is_empty() {
                self.surroundings.announce(&link, &new);
            }
        }
    }

    /// Interfaces that are down only have their announcement forgotten: it is made again when they come back.
    fn withdraw_from_absent(&mut self, present: &BTreeMap<String, Link>) {
        let absent: Vec<String> =
            self.announced.0.keys().filter(|name| !present.contains_key(*name)).cloned().collect();
        for name in absent {
            let Some((index, _, vips)) = self.announced.0.remove(&name) else { continue };
            let detached = !self.observed.interfaces.get(&name).is_some_and(|found| found.target.announce);
            let link = link_named(&self.seen.links, &name).filter(|link| link.index == index);
            if let Some(link) = link.filter(|_| detached) {
                self.surroundings.withdraw(link, &vips.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
