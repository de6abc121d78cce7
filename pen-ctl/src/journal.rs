//! What happened, kept for whoever asks: the newest events, in memory. A note here is a line of the log, too.
//!
//! Readers come to the journal; it never waits for them. Who reads too slowly is told how much was missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::Level;
use tracing::field::display;

use crate::api::event::{EventDocument, EventList, Filter, Kind, Position};
use crate::dataplane::BackendAddress;

#[cfg(test)]
mod tests;

/// Events that are kept.
pub const KEPT: usize = 4096;
/// Bytes of a message that are kept: with [`KEPT`] this bounds the journal's memory. The log has the whole line.
const LONGEST_MESSAGE: usize = 1024;

/// Something to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What kind of thing.
    pub kind: Kind,
    /// The service it is about.
    pub service: Option<String>,
    /// The backend it is about.
    pub backend: Option<BackendAddress>,
    /// The interface it is about.
    pub interface: Option<String>,
    /// Id of the user who asked for it.
    pub user: Option<u32>,
    /// Of `serving` and `not_serving`: whether that is new, or only the reason is.
    pub changed: Option<bool>,
    /// What, in words, on one line. Of `serving`, `not_serving` and `health` only why: the kind says what.
    pub message: String,
}

impl Note {
    /// About nothing in particular.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let (service, backend, interface, user, changed) = (None, None, None, None, None);
        Self { kind, service, backend, interface, user, changed, message: message.into() }
    }

    /// As a line of the log.
    fn log(&self, level: Level) {
        let Note { kind, service, backend, interface, user, message, .. } = self;
        let (service, interface) = (service.as_deref(), interface.as_deref());
        let backend = backend.map(display);
        let line = match kind {
            Kind::Serving => format!("serving: {message}"),
            Kind::NotServing => format!("not serving: {message}"),
            Kind::Health => format!("health {message}"),
            _ => message.clone(),
        };
        // The macros want to know the level when they are compiled.
        match level {
            Level::WARN => tracing::warn!(service, backend, interface, user, "{line}"),
            Level::INFO => tracing::info!(service, backend, interface, user, "{line}"),
            _ => tracing::debug!(service, backend, interface, user, "{line}"),
        }
    }
}

/// The newest events; clones share them.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Names this run of the controller.
    start: String,
    ring: Mutex<Ring>,
    /// Changes with every note.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Oldest first; ids without gaps.
    events: VecDeque<Arc<EventDocument>>,
    /// The id of the newest event there ever was.
    newest: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// An empty one, under a name that no other has.
    pub fn new() -> Self {
        // Without randomness the time will do: it only has to differ from the predecessor's.
        let start = getrandom::u64()
            .unwrap_or_else(|_| SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64));
        let (news, _) = watch::channel(());
        Self { shared: Arc::new(Shared { start: format!("{start:016x}"), ring: Mutex::default(), news }) }
    }

    /// Keeps an event and logs it: troubles as warnings, changes of health for those who debug (what follows from
    /// them is said anyway), all else as information.
    pub fn note(&self, note: Note) {
        let level = match note.kind {
            Kind::Trouble => Level::WARN,
            Kind::Health => Level::DEBUG,
            _ => Level::INFO,
        };
        self.keep(note, level);
    }

    /// The same for something that somebody should look at, whatever its kind.
    pub fn warn(&self, note: Note) {
        self.keep(note, Level::WARN);
    }

    fn keep(&self, note: Note, level: Level) {
        note.log(level);
        let mut ring = self.ring();
        ring.newest += 1;
        let Note { kind, service, backend, interface, user, changed, mut message } = note;
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            message.push('…');
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let id = ring.newest;
        let event = EventDocument { id, time, kind, changed, message, service, backend, interface, user };
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::new(event));
        drop(ring);
        self.shared.news.send_replace(());
    }

    /// The newest events after `since` that `filter` lets through, at most `limit` of them.
    pub fn list(&self, filter: &Filter, since: Option<&Position>, limit: usize) -> EventList {
        let after = since.map_or(0, |since| self.heard(since));
        let kept: Vec<Arc<EventDocument>> = {
            let ring = self.ring();
            let newest_first = ring.events.iter().rev().take_while(|event| event.id > after);
            newest_first.filter(|event| filter.wants(event)).take(limit).cloned().collect()
        };
        let events = kept.iter().rev().map(|event| EventDocument::clone(event)).collect();
        EventList { start: self.start().to_owned(), events }
    }

    /// Whoever wants to hear of all that `filter` lets through: after `since`, or from the newest `backlog` on.
    pub fn follow(&self, filter: Filter, since: Option<&Position>, backlog: usize) -> Follower {
        let news = self.shared.news.subscribe();
        let heard = match since {
            Some(since) => self.heard(since),
            None => {
                let ring = self.ring();
                let wanted = ring.events.iter().rev().filter(|event| filter.wants(event));
                wanted.take(backlog).last().map_or(ring.newest, |event| event.id - 1)
            }
        };
        Follower { journal: self.clone(), news, filter, heard }
    }

    /// The name of this run of the controller.
    pub fn start(&self) -> &str {
        &self.shared.start
    }

    /// Up to which of our ids somebody has heard; none of them if they mean another run's.
    fn heard(&self, position: &Position) -> u64 {
        match &position.start {
            Some(start) if *start != self.shared.start => 0,
            // An id that is still to come would keep its reader from hearing anything.
            _ => position.id.min(self.ring().newest),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a follower hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An event.
    Event(Arc<EventDocument>),
    /// So many events of whatever kind came and went unheard.
    Missed(u64),
}

/// One who hears of every event, as fast as they can take it.
#[derive(Debug)]
pub struct Follower {
    journal: Journal,
    news: watch::Receiver<()>,
    filter: Filter,
    /// The last id that was heard, or passed over.
    heard: u64,
}

impl Follower {
    /// What comes next. May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> News {
        loop {
            // Before the look, so that what comes after it is noticed.
            self.news.borrow_and_update();
            if let Some(news) = self.look() {
                return news;
            }
            // Never an error: our own journal keeps the sender alive.
            let _ = self.news.changed().await;
        }
    }

    /// How far this follower has come: what it hears next is after that.
    pub fn position(&self) -> Position {
        Position { start: Some(self.journal.start().to_owned()), id: self.heard }
    }

    fn look(&mut self) -> Option<News> {
        let ring = self.journal.ring();
        let oldest = ring.events.front().map_or(ring.newest + 1, |event| event.id);
        if self.heard + 1 < oldest {
            let missed = oldest - 1 - self.heard;
            self.heard = oldest - 1;
            return Some(News::Missed(missed));
        }
        let heard_of_kept = usize::try_from(self.heard + 1 - oldest).unwrap_or(usize::MAX);
        let next = ring.events.iter().skip(heard_of_kept).find(|event| self.filter.wants(event));
        self.heard = next.map_or(ring.newest, |event| event.id);
        next.map(|event| News::Event(event.clone()))
    }
}
