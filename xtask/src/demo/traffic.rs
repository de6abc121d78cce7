//! The demo's clients: each asks the web and the DNS service over one address family, 25 times a second.

use std::time::Duration;

pub(super) use crate::lab::address::Family;
use crate::lab::address::client;
pub(super) use crate::lab::cluster::Kind;
use crate::lab::cluster::{ask, target};
use crate::lab::traffic::{self, Question};

/// From one question of a client to the next.
const PAUSE: Duration = Duration::from_millis(40);
/// How long a client waits for an answer: long enough for TCP to send a lost segment again on a busy machine.
const PATIENCE: Duration = Duration::from_secs(4);

/// A client of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) family: Family,
    pub(super) kind: Kind,
    pub(super) client: u8,
}

/// What every client saw.
pub(super) type Ledger = traffic::Ledger<Key>;
/// The demo's clients at work.
pub(super) type Traffic = traffic::Traffic<Key>;

/// Lets these clients begin, with both families.
pub(super) fn begin(traffic: &mut Traffic, clients: std::ops::RangeInclusive<u8>) {
    for (number, family) in clients.flat_map(|n| Family::BOTH.map(|family| (n, family))) {
        let question = |kind| -> (Key, Question) {
            let ask_once = move || ask(kind, client(family, number), target(kind, family), PATIENCE);
            (Key { family, kind, client: number }, Box::new(ask_once))
        };
        traffic.begin(PAUSE, Kind::BOTH.map(question).into());
    }
}
