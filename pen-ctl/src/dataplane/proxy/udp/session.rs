//! One client's session: its socket to a backend, and what may have to be sent again to another one.

use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Most bytes of unanswered datagrams that a session keeps, each with two bytes of length.
const HELD: usize = 2048;

/// A client that has sent something.
pub(super) struct Session<B, L> {
    /// The backend it has now; `None` after a failure with nobody to take over.
    pub(super) link: Option<Link<B, L>>,
    /// Backends that failed since the last answer: not chosen again while another is left.
    pub(super) tried: Vec<B>,
    /// What was sent since the last answer.
    pub(super) held: Held,
    /// What every datagram to a backend begins with; nearly always nothing.
    pub(super) preface: Box<[u8]>,
}

/// A socket connected to a backend.
pub(super) struct Link<B, L> {
    pub(super) socket: UdpSocket,
    pub(super) backend: B,
    /// Since when a datagram has been waiting for an answer.
    pub(super) waiting: Option<Instant>,
    /// The backend has answered through this socket.
    pub(super) answered: bool,
    /// The backend is down or gone: it may answer what it was asked, and is asked nothing more.
    pub(super) leaving: bool,
    /// Its place with the backend.
    pub(super) _lease: L,
}

impl<B: Clone + PartialEq, L> Session<B, L> {
    /// One that has no backend yet.
    pub(super) fn new(preface: Box<[u8]>) -> Self {
        Self { link: None, tried: Vec::new(), held: Held::default(), preface }
    }

    /// Gives up the backend it has and returns it.
    pub(super) fn give_up(&mut self) -> Option<B> {
        let backend = self.link.take()?.backend;
        if !self.tried.contains(&backend) {
            self.tried.push(backend.clone());
        }
        Some(backend)
    }

    /// The backend has answered; true the first time.
    pub(super) fn answered(&mut self) -> bool {
        self.tried.clear();
        self.held.clear();
        let Some(link) = &mut self.link else { return false };
        link.waiting = None;
        !std::mem::replace(&mut link.answered, true)
    }

    /// Whether the session goes on, where its backend is kept or not. What was asked may still be answered.
    pub(super) fn stays(&mut self, kept: bool, patience: Option<Duration>, now: Instant) -> bool {
        let Some(link) = &mut self.link else { return true };
        link.leaving = !kept;
        let overdue =
            |since| patience.is_some_and(|patience| now.saturating_duration_since(since) > patience);
        kept || link.waiting.is_some_and(|since| !overdue(since))
    }

    /// The backend is to be asked nothing more.
    pub(super) fn is_leaving(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.leaving)
    }

    /// The backend has left a datagram unanswered for longer than `patience`.
    pub(super) fn is_silent(&self, patience: Duration, now: Instant) -> bool {
        let waiting = self.link.as_ref().and_then(|link| link.waiting);
        waiting.is_some_and(|since| now.saturating_duration_since(since) > patience)
    }
}

impl<B, L> Link<B, L> {
    /// The socket's descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The newest datagrams, as far as they fit.
#[derive(Default)]
pub(super) struct Held(Vec<u8>);

impl Held {
    /// Keeps a copy of the datagram; older ones give way to it, and one that is too long is not kept.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        if datagram.len() + 2 > HELD {
            return;
        }
        if self.0.len() + datagram.len() + 2 > HELD {
            self.0.clear();
        }
        self.0.extend_from_slice(&(datagram.len() as u16).to_ne_bytes());
        self.0.extend_from_slice(datagram);
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The datagrams, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let (datagram, after) = after.split_at_checked(u16::from_ne_bytes(*length) as usize)?;
            rest = after;
            Some(datagram)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_datagrams_are_held_whole() {
        let mut held = Held::default();
        held.push(b"one");
        held.push(b"");
        held.push(b"three");
        assert_eq!(held.iter().collect::<Vec<_>>(), [b"one".as_slice(), b"", b"three"]);
        held.push(&[7; HELD]);
        assert_eq!(held.iter().count(), 3, "too long to be held at all");
        held.push(&[7; HELD - 10]);
        assert_eq!(held.iter().collect::<Vec<_>>(), [[7; HELD - 10].as_slice()]);
        held.clear();
        assert_eq!(held.iter().count(), 0);
    }
}
