//! A service that was taken over, until the controller says what is to become of it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pen_common::abi::Tracked;
use socket2::Socket;

use super::letter::{BackendLetter, ClientLetter, MemoryLetter, ServiceLetter};
use crate::dataplane::proxy::choose::Policy;
use crate::dataplane::proxy::listener::{Listeners, SocketPath};
use crate::dataplane::proxy::plane::{endpoint, endpoint_of};
use crate::dataplane::proxy::pool::{BackendConfig, Member, Role};
use crate::dataplane::proxy::service::{Service, Settings};
use crate::dataplane::{
    AccessList, Affinity, BackendTarget, ObservedService, OnEmpty, Scheduler, ServiceKey, ServiceSettings,
    Tracking, VipAddress,
};

/// A service that was taken over.
#[derive(Debug)]
pub struct Inherited {
    /// Which.
    pub(in super::super) key: ServiceKey,
    letter: ServiceLetter,
    sockets: Vec<OwnedFd>,
    clients: Vec<ClientLetter>,
}

impl Inherited {
    pub(super) fn new(letter: ServiceLetter, sockets: Vec<OwnedFd>) -> Inherited {
        Inherited { key: letter.vip, letter, sockets, clients: Vec::new() }
    }

    pub(super) fn remember(&mut self, letter: MemoryLetter) {
        self.clients.extend(letter.clients);
    }

    /// Settings until the controller says which: they bring nobody anywhere.
    pub(in super::super) fn settings(&self) -> Settings {
        Settings::new(Policy {
            affinity: Affinity::Client,
            tracking: Tracking::Off,
            scheduler: Scheduler::Maglev,
            tracking_timeout: 0,
            seed: 0,
        })
    }

    /// Gives a new service all there is; returns what the controller is to see of it, the sockets on which its clients
    /// wait, and who hears of clients that come to the old holder yet.
    pub(in super::super) fn bequeath(
        self,
        service: &Arc<Service>,
        workers: usize,
    ) -> (ObservedService, Vec<Listeners>, Heir) {
        let Inherited { key, letter, sockets, clients } = self;
        let config = |one: &BackendLetter| BackendConfig {
            role: if one.usable { Role::Keeping } else { Role::Out },
            ..BackendConfig::new(endpoint(&one.address, &key))
        };
        let backends: Vec<BackendConfig> = letter.backends.iter().map(config).collect();
        service.set(service.state().settings.clone(), &backends);
        service.go_on_from([letter.accepted, letter.turned_away, letter.denied], letter.gone);
        let state = service.state();
        let members = letter.backends.iter().map(|one| {
            let endpoint = endpoint(&one.address, &key);
            let place = state.pool.places().find(|place| *place.member.endpoint() == endpoint)?;
            one.totals.put(place.member.count(0));
            Some(place.member.clone())
        });
        let heir = Heir { key, members: members.collect(), service: service.clone() };
        heir.remember(&clients);
        (observed(&letter), vec![listeners(&key, sockets, workers)], heir)
    }
}

/// A service that went on from another one's, and can still be told of clients.
#[derive(Debug)]
pub struct Heir {
    pub(super) key: ServiceKey,
    service: Arc<Service>,
    /// By place in the letter.
    members: Vec<Option<Arc<Member>>>,
}

impl Heir {
    /// Remembers clients, but for those it has seen itself since.
    pub(super) fn remember(&self, clients: &[ClientLetter]) {
        let (now, memory) = (self.service.clock().seconds(), &self.service.chooser().memory);
        for client in clients {
            let Some(Some(member)) = self.members.get(client.backend) else { continue };
            let (backend, generation, key) = (member.id().0, member.generation(), client.key());
            // Clocks begin with the process: who was seen before has a time before its beginning, and ages are differences.
            let older = |known: Tracked| now.wrapping_sub(known.seen) > client.idle;
            if memory.recall(&key).is_none_or(older) {
                memory.remember(key, Tracked { backend, generation, seen: now.wrapping_sub(client.idle) });
            }
        }
    }
}

/// As adopted: the ways and health of backends, but not who shares the table.
fn observed(letter: &ServiceLetter) -> ObservedService {
    let target = |one: &BackendLetter| BackendTarget {
        path: None,
        usable: one.usable,
        serving: one.serving,
        health: one.health,
        health_since: one.health_since,
        proxy: None,
    };
    let backends: BTreeMap<_, _> = letter.backends.iter().map(|one| (one.address, target(one))).collect();
    ObservedService {
        settings: ServiceSettings {
            affinity: Affinity::Client,
            scheduler: Scheduler::Maglev,
            tracking: Tracking::Off,
            tracking_timeout: Duration::ZERO,
            transition: Duration::ZERO,
            on_empty: OnEmpty::Drop,
            access: AccessList::default(),
            rate_limit: None,
            proxy: None,
        },
        has_table: backends.values().any(|target| target.serving),
        in_transition: 0,
        backends,
        members: None,
    }
}

/// At least one socket for each worker, so that all take part.
fn listeners(key: &ServiceKey, sockets: Vec<OwnedFd>, workers: usize) -> Listeners {
    let mut sockets: Vec<Socket> = sockets.into_iter().map(Socket::from).collect();
    let given = sockets.len();
    for number in given..workers {
        if let Some(Ok(copy)) = sockets.get(number % given.max(1)).map(Socket::try_clone) {
            sockets.push(copy);
        }
    }
    let path = match key.address {
        VipAddress::Unix(path) => Some(SocketPath::of_another(path.as_path().to_owned())),
        VipAddress::Ip(_) => None,
    };
    Listeners { sockets, endpoint: endpoint_of(key), path }
}
