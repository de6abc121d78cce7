//! Surroundings of a proxy: health of backends, and nothing that only one system has. The system itself finds the way to
//! backends, and nobody is told of VIPs: they are addresses that this machine has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::mpsc;

use super::{Event, Link, Links, Probe, Surroundings, Watched};
use crate::health::{Health, place};
use crate::metrics::timings::Timings;

/// Checks backends for as long as it lives.
pub(crate) struct Portable {
    health: Health,
}

impl Portable {
    /// Nothing is checked yet; tells at once that there are no interfaces to wait for. Probing must happen inside a tokio
    /// runtime.
    pub(crate) fn start(events: mpsc::Sender<Event>, timings: Timings) -> Self {
        // A channel that is full or closed has somebody who needs no word from us: it is made for us, and empty.
        let _ = events.try_send(Event::Links(Links::new()));
        Self { health: Health::new(events, place::nowhere(), timings) }
    }
}

impl Surroundings for Portable {
    fn watch(&mut self, _: BTreeSet<Watched>) {}

    fn probe(&mut self, probes: Vec<Probe>) {
        self.health.probe(probes);
    }

    fn announce(&mut self, _: &Link, _: &[IpAddr]) {}

    fn withdraw(&mut self, _: &Link, _: &[IpAddr]) {}
}
