//! The table of sessions: bounded, ordered by last use. It opens nothing and asks no clock; time is handed in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slab::Slab;

use super::Local;
use crate::dataplane::proxy::endpoint::canonical;
use crate::dataplane::proxy::preface::Preface;

/// What makes a session: who sends, for whom, and to which of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The lane it belongs to: one for each listening socket.
    pub(super) lane: usize,
    /// The client's address and port.
    pub(super) client: SocketAddr,
    /// Where the client sends to; the port is the lane's.
    pub(super) local: Local,
    /// For whom it speaks, and where that one sent to, as its datagrams say.
    pub(super) named: Option<Preface>,
}

impl Key {
    /// Who the client is: whom its datagrams name, or their sender. Never an IPv4-mapped address.
    pub(super) fn who(&self) -> SocketAddr {
        canonical(self.named.map_or(self.client, |named| named.source))
    }
}

/// Sessions by key and by number. A number is reused once its session is gone.
pub(super) struct Table<T> {
    numbers: HashMap<Key, usize>,
    entries: Slab<Entry<T>>,
    lanes: Slab<Lane>,
    most: usize,
}

struct Entry<T> {
    key: Key,
    used: Instant,
    /// Neighbors in the lane, by last use.
    older: Option<usize>,
    newer: Option<usize>,
    session: T,
}

/// Sessions that expire after the same time, from the least to the most recently used.
struct Lane {
    idle: Duration,
    oldest: Option<usize>,
    newest: Option<usize>,
}

impl<T> Table<T> {
    /// An empty table that never holds more than `most` sessions.
    pub(super) fn new(most: usize) -> Self {
        Self { numbers: HashMap::new(), entries: Slab::new(), lanes: Slab::new(), most }
    }

    /// Adds a lane, whose sessions expire after `idle` without use, and returns its number.
    pub(super) fn add_lane(&mut self, idle: Duration) -> usize {
        self.lanes.insert(Lane { idle, oldest: None, newest: None })
    }

    /// Sessions of that lane expire after `idle` without use from now on.
    pub(super) fn set_idle(&mut self, lane: usize, idle: Duration) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.idle = idle;
        }
    }

    /// Removes a lane with its sessions; a new one may get its number.
    pub(super) fn remove_lane(&mut self, lane: usize) {
        self.retain(|key, _| key.lane != lane);
        self.lanes.try_remove(lane);
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of that session, which counts as used now.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<usize> {
        let number = *self.numbers.get(key)?;
        self.touch(number, now);
        Some(number)
    }

    /// Adds a session that is not there yet. If the table is full, the least recently used one is handed back first.
    pub(super) fn insert(&mut self, key: Key, session: T, now: Instant) -> (usize, Option<T>) {
        let evicted = if self.len() >= self.most { self.evict(None) } else { None };
        let number = self.entries.insert(Entry { key, used: now, older: None, newer: None, session });
        self.numbers.insert(key, number);
        self.append(number);
        (number, evicted)
    }

    /// All sessions.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.session)
    }

    /// The session of that number.
    pub(super) fn get(&self, number: usize) -> Option<(&Key, &T)> {
        self.entries.get(number).map(|entry| (&entry.key, &entry.session))
    }

    /// The session of that number, to change it.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<(Key, &mut T)> {
        self.entries.get_mut(number).map(|entry| (entry.key, &mut entry.session))
    }

    /// The session counts as used now.
    pub(super) fn touch(&mut self, number: usize, now: Instant) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        entry.used = entry.used.max(now);
        if entry.newer.is_some() {
            self.unlink(number);
            self.append(number);
        }
    }

    /// Removes the least recently used session, but not `spared`.
    pub(super) fn evict(&mut self, spared: Option<usize>) -> Option<T> {
        let number = self
            .lanes
            .iter()
            .filter_map(|(_, lane)| self.oldest(lane, spared))
            .min_by_key(|&number| self.entries[number].used)?;
        self.remove(number)
    }

    /// Removes one session that has been idle for its lane's time.
    pub(super) fn expire(&mut self, now: Instant) -> Option<T> {
        let (deadline, number) = self.due()?;
        if deadline <= now { self.remove(number) } else { None }
    }

    /// When the next session expires if nothing is used until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due().map(|(deadline, _)| deadline)
    }

    /// Removes every session that is not to be kept; returns how many.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Key, &mut T) -> bool) -> usize {
        let gone: Vec<usize> = self
            .entries
            .iter_mut()
            .filter_map(|(number, entry)| (!keep(&entry.key, &mut entry.session)).then_some(number))
            .collect();
        gone.iter().filter(|&&number| self.remove(number).is_some()).count()
    }

    fn due(&self) -> Option<(Instant, usize)> {
        let oldest = |(_, lane): (usize, &Lane)| {
            let number = lane.oldest?;
            // For ever, where the sum is beyond what the clock knows.
            Some((self.entries[number].used.checked_add(lane.idle)?, number))
        };
        self.lanes.iter().filter_map(oldest).min()
    }

    fn oldest(&self, lane: &Lane, spared: Option<usize>) -> Option<usize> {
        let oldest = lane.oldest?;
        if Some(oldest) == spared { self.entries[oldest].newer } else { Some(oldest) }
    }

    /// Removes the session of that number.
    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        if !self.entries.contains(number) {
            return None;
        }
        self.unlink(number);
        let entry = self.entries.remove(number);
        self.numbers.remove(&entry.key);
        Some(entry.session)
    }

    fn append(&mut self, number: usize) {
        let lane = &mut self.lanes[self.entries[number].key.lane];
        let before = lane.newest.replace(number);
        match before {
            Some(before) => self.entries[before].newer = Some(number),
            None => lane.oldest = Some(number),
        }
        self.entries[number].older = before;
        self.entries[number].newer = None;
    }

    fn unlink(&mut self, number: usize) {
        let Entry { key, older, newer, .. } = self.entries[number];
        let lane = &mut self.lanes[key.lane];
        match older {
            Some(older) => self.entries[older].newer = newer,
            None => lane.oldest = newer,
        }
        match newer {
            Some(newer) => self.entries[newer].older = older,
            None => lane.newest = older,
        }
    }
}

#[cfg(test)]
mod tests;
