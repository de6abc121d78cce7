//! Datagrams that say whom they speak for: a balancer in front of this one puts a header of the PROXY protocol into each.

use std::time::Instant;

use super::batch::Part;
use super::table::Key;
use super::{BATCH, Backends, Udp};
use crate::dataplane::proxy::endpoint::canonical;
use crate::dataplane::proxy::preface;

impl<B: Backends> Udp<B> {
    /// Whether datagrams of that sender say whom they speak for.
    pub(super) fn speaks_for_others(&self, key: &Key) -> bool {
        let sender = canonical(key.client).ip();
        let listener = self.listeners.get(key.lane);
        listener.is_some_and(|listener| listener.speakers.iter().any(|net| net.contains(&sender)))
    }

    /// Finds or opens the session of each datagram that such a sender sent, which is that of the sender and of whom the
    /// datagram names. One without a whole header is dropped.
    pub(super) fn sort_named(&mut self, sender: Key, part: Part, backends: &mut B, now: Instant) {
        for datagram in part.apart() {
            let contents = self.inbox.contents(datagram);
            match preface::read_datagram(contents) {
                Ok((named, payload)) => {
                    let header = contents.len() - payload.len();
                    self.sort_one(Key { named, ..sender }, datagram.without(header), backends, now);
                }
                Err(error) => {
                    tracing::debug!(sender = %sender.client, "datagram dropped: {error}");
                    self.counters.dropped.no_preface += 1;
                    backends.turned_away(sender.lane, 1);
                }
            }
            // A batch of joined datagrams may name more clients than the table holds: none is to lose its place to
            // another one before its datagrams are on their way.
            if self.sorted.len() >= BATCH {
                self.deliver_sorted(backends, now);
            }
        }
    }
}
