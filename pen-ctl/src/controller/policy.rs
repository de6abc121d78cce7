//! What follows from how many serve and for how long: panic, and shares that grow after a recovery.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Controller;
use crate::api::event::Kind;
use crate::dataplane::{ServiceKey, Target};
use crate::journal::Note;
use crate::state::desired::{AdminState, Backend, Service};
use crate::target::{self, Standings};

impl Controller {
    /// What should be. Whoever comes back while its service has a slow start begins with a part of its share.
    pub(super) fn build(&mut self) -> (Target, Standings) {
        let now = self.clock.uptime();
        let (target, standings) = target::build(self.store.desired(), self.kind(), &self.seen, now);
        let mut recovered = false;
        for service in &self.store.desired().services {
            if service.slow_start.is_zero() && self.seen.recovering.is_empty() {
                continue;
            }
            for id in service.backends.iter().map(|backend| (service.vip, backend.address)) {
                let usable = standings.get(&id).is_some_and(|standing| standing.usable && !standing.panic);
                // Who was in panic had its whole share: cutting it now would hurt those that are well.
                let was_out = self.standings.get(&id).is_some_and(|before| !before.usable);
                let grown = |since| target::grows_in(service, since, now).is_none();
                if !usable || self.seen.recovering.get(&id).copied().is_some_and(grown) {
                    self.seen.recovering.remove(&id);
                } else if was_out && !service.slow_start.is_zero() && self.built.contains(&service.vip) {
                    self.seen.recovering.insert(id, now);
                    recovered = true;
                }
            }
        }
        match recovered {
            true => target::build(self.store.desired(), self.kind(), &self.seen, now),
            false => (target, standings),
        }
    }

    /// In how long the share of a backend that came back grows.
    pub(super) fn share_grows_in(&self) -> Option<Duration> {
        let now = self.clock.uptime();
        let of = |service: &Service| {
            let key = service.vip;
            let backends = service.backends.iter();
            let since = backends.filter_map(|backend| self.seen.recovering.get(&(key, backend.address)));
            since.filter_map(|since| target::grows_in(service, *since, now)).min()
        };
        self.store.desired().services.iter().filter_map(of).min()
    }

    /// Which part of its share a backend has that came back a while ago, in percent; `None` = all of it.
    pub(super) fn grown(&self, service: &Service, backend: &Backend) -> Option<u32> {
        let since = self.seen.recovering.get(&(service.vip, backend.address))?;
        target::grown(service, *since, self.clock.uptime())
    }

    /// Notes which services are in panic from now on, and which no more.
    pub(super) fn note_panics(&self, standings: &Standings) {
        let (before, now) = (self.panics(&self.standings), self.panics(standings));
        let about = |key: &ServiceKey, message: String| {
            let service = Some(self.service_name(key));
            Note { service, ..Note::new(Kind::Trouble, message) }
        };
        for (key, why) in now.iter().filter(|(key, _)| !before.contains_key(key)) {
            self.journal().note(about(key, why.clone()));
        }
        for key in before.keys().filter(|key| !now.contains_key(key)) {
            let over = "panic is over: enough of its backends are well, or it has none".to_owned();
            self.journal().note(about(key, over));
        }
    }

    /// Services in panic by these standings, and why, in words.
    pub(super) fn panics(&self, standings: &Standings) -> BTreeMap<ServiceKey, String> {
        let services = self.store.desired().services.iter();
        services.filter_map(|service| Some((service.vip, panic(service, standings)?))).collect()
    }
}

fn panic(service: &Service, standings: &Standings) -> Option<String> {
    let standing = |backend| standings.get(&(service.vip, backend));
    let backends = service.backends.iter().filter(|backend| backend.state == AdminState::Up);
    let used: Vec<_> =
        backends.filter_map(|backend| standing(backend.address)).filter(|one| one.serving).collect();
    let sick = used.iter().filter(|standing| standing.panic).count();
    (sick > 0).then(|| {
        format!(
            "panic: fewer than {} % of its backends are well, so that {sick} get clients though their health checks fail",
            service.panic
        )
    })
}
