//! What a service asks of its clients: access lists and limits. They are in place before packets are told of them, and taken
//! away once no packet is any more.

use pen_common::abi::{ServiceEntry, service_flags};

use super::XdpPlane;
use crate::dataplane::{ServiceKey, ServiceSettings};

impl XdpPlane {
    /// Puts in place what packets of this entry will find.
    pub(super) fn prepare_admission(
        &mut self,
        key: &ServiceKey,
        entry: &ServiceEntry,
        settings: &ServiceSettings,
    ) -> Result<(), String> {
        if let Some(vip) = key.ip().filter(|_| is_listed(entry)) {
            self.lists
                .place(&self.maps, vip, entry.service, &settings.access)
                .map_err(|error| format!("put its access list in place: {error}"))?;
        }
        self.buckets
            .place(&self.maps, entry)
            .map_err(|error| format!("put what counts for its limits in place: {error}"))
    }

    /// Takes away what packets of this entry, which is in use, are told of no more.
    pub(super) fn tidy_admission(&mut self, entry: &ServiceEntry) -> Result<(), String> {
        let unlisted = !is_listed(entry) && self.lists.has(entry.service);
        if !unlisted && !self.buckets.has_unwanted(entry) {
            return Ok(());
        }
        self.settle()?;
        self.remove_unwanted(entry)
            .map_err(|error| format!("take its old access list and limits away: {error}"))
    }

    /// Makes an id begin without lists, limits and refused packets. No packet may be told of the id.
    pub(super) fn clear_admission(&mut self, service: u16) -> Result<(), String> {
        let nothing = ServiceEntry { service, ..ServiceEntry::EMPTY };
        self.remove_unwanted(&nothing)
            .and_then(|()| self.maps.forget_refused(service))
            .map_err(|error| format!("take the last access list and limits away: {error}"))
    }

    /// Whether packets of this entry find what was put in place for these settings.
    pub(super) fn is_admission_in_place(
        &self,
        key: &ServiceKey,
        entry: &ServiceEntry,
        settings: &ServiceSettings,
    ) -> bool {
        let listed = key.ip().filter(|_| is_listed(entry)).is_none_or(|vip| {
            self.lists.is_placed(&self.maps, vip, entry.service, &settings.access).unwrap_or(false)
        });
        listed && self.are_limits_in_place(entry)
    }

    /// Whether packets of this entry find what counts for its limits.
    pub(super) fn are_limits_in_place(&self, entry: &ServiceEntry) -> bool {
        self.buckets.are_placed(&self.maps, entry).unwrap_or(false)
    }

    /// Takes over what there is for services, and takes away what an earlier controller left. Whose the lists are that are
    /// found nobody knows: they are put in place anew when they are asked for.
    pub(super) fn adopt_admission(&mut self) -> Result<(), String> {
        for service in 0..pen_common::abi::MAX_SERVICES as u16 {
            let nothing = ServiceEntry { service, ..ServiceEntry::EMPTY };
            let entry = self.services.values().find(|entry| entry.service == service).copied();
            let entry = entry.unwrap_or(nothing);
            self.buckets
                .adopt(&self.maps, &entry)
                .and_then(|()| self.remove_unwanted(&entry))
                .map_err(|error| format!("look at service {service}: {error}"))?;
        }
        Ok(())
    }

    fn remove_unwanted(&mut self, entry: &ServiceEntry) -> std::io::Result<()> {
        if !is_listed(entry) {
            self.lists.take_away(&self.maps, entry.service)?;
        }
        self.buckets.drop_unwanted(&self.maps, entry)
    }
}

fn is_listed(entry: &ServiceEntry) -> bool {
    entry.flags & service_flags::LISTED != 0
}
