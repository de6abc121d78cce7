//! Room for a batch of datagrams, and sending one whatever goes wrong with some of it.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::Local;
use super::counters::Trouble;
use super::sys::{self, Arrived, Outgoing, Received, SLOT, Slot};

/// Received datagrams. The memory behind a slot that only small ones come into is never touched beyond them.
pub(super) struct Batch {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl Batch {
    /// Room for so many datagrams of any length.
    pub(super) fn new(slots: usize) -> Self {
        Self { bytes: vec![0; slots * SLOT], slots: (0..slots).map(|_| Slot::new()).collect() }
    }

    /// How many datagrams there is room for.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Receives into at most `most` slots from slot `first` on.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        first: usize,
        most: usize,
        connected: bool,
    ) -> Received {
        let last = self.slots.len().min(first + most);
        let bytes = &mut self.bytes[first * SLOT..last * SLOT];
        sys::receive(socket, bytes, &mut self.slots[first..last], connected)
    }

    /// What is known of the datagram in a slot.
    pub(super) fn arrived(&self, slot: usize) -> Arrived {
        self.slots[slot].arrived
    }

    /// All that came into a slot.
    pub(super) fn whole(&self, slot: usize) -> Part {
        let Arrived { length, segment, .. } = self.arrived(slot);
        Part { slot, start: 0, length: length.min(SLOT), segment }
    }

    /// The bytes of a part.
    pub(super) fn contents(&self, part: Part) -> &[u8] {
        &self.bytes[part.slot * SLOT + part.start..][..part.length]
    }

    /// The datagram in a slot, to be sent on.
    pub(super) fn outgoing(&self, slot: usize, to: Option<SocketAddr>, from: Option<Local>) -> Outgoing<'_> {
        let part = self.whole(slot);
        Outgoing { before: &[], contents: self.contents(part), segment: part.segment, to, from }
    }
}

/// What is to be passed on of what came into a slot: one datagram, or several that the kernel joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The slot.
    pub(super) slot: usize,
    /// Where it begins there.
    pub(super) start: usize,
    /// Bytes.
    pub(super) length: usize,
    /// As in [`Arrived`].
    pub(super) segment: u16,
}

impl Part {
    /// How many datagrams it is.
    pub(super) fn datagrams(self) -> u64 {
        joined(self.length, self.segment)
    }

    /// Each of them by itself.
    pub(super) fn apart(self) -> impl Iterator<Item = Part> {
        let segment = if self.segment == 0 { self.length } else { usize::from(self.segment) };
        (0..self.datagrams() as usize).map(move |number| {
            let before = number * segment;
            let length = segment.min(self.length - before);
            Part { start: self.start + before, length, segment: 0, ..self }
        })
    }

    /// Without its first bytes; it must be one datagram of at least so many.
    pub(super) fn without(self, first: usize) -> Part {
        Part { start: self.start + first, length: self.length - first, ..self }
    }
}

/// How many datagrams the kernel joined into one of that length.
pub(super) fn joined(length: usize, segment: u16) -> u64 {
    if segment == 0 { 1 } else { length.div_ceil(usize::from(segment)) as u64 }
}

/// Sends the datagrams in order. Of each that fails `failed` is told why and how many it is; it says whether to go
/// on. Returns how many were sent, counted as [`joined`], and how many were dealt with, counted as they are given.
pub(super) fn send_all<'a>(
    socket: BorrowedFd<'_>,
    mut datagrams: impl Iterator<Item = Outgoing<'a>> + Clone,
    mut failed: impl FnMut(Trouble, u64) -> bool,
) -> (u64, usize) {
    let (mut sent, mut done) = (0, 0);
    while let Some(first) = datagrams.clone().next() {
        // What every datagram is to begin with, the kernel cannot put in front of those it cuts.
        let must_cut = first.segment != 0 && !first.before.is_empty();
        let whole = |one: &Outgoing<'_>| one.segment == 0 || one.before.is_empty();
        let went = match if must_cut { Ok(0) } else { sys::send(socket, datagrams.clone().take_while(whole)) }
        {
            Ok(went) if !must_cut => went,
            Ok(_) | Err(_) if first.segment != 0 => {
                // The path takes no segments of that length, or the interface none at all: one by one.
                match send_cut(socket, &first, &mut failed) {
                    Some(cut) => sent += cut,
                    None => return (sent, done),
                }
                datagrams.next();
                done += 1;
                continue;
            }
            Ok(_) => 0,
            Err(error) => {
                if !failed(Trouble::from(&error), 1) {
                    return (sent, done);
                }
                datagrams.next();
                done += 1;
                continue;
            }
        };
        for outgoing in datagrams.by_ref().take(went) {
            sent += joined(outgoing.contents.len(), outgoing.segment);
        }
        done += went;
    }
    (sent, done)
}

/// Sends what was joined one by one; `None` if it is not to go on.
fn send_cut(
    socket: BorrowedFd<'_>,
    joined: &Outgoing<'_>,
    failed: &mut impl FnMut(Trouble, u64) -> bool,
) -> Option<u64> {
    let mut sent = 0;
    for contents in joined.contents.chunks(usize::from(joined.segment)) {
        match sys::send(socket, std::iter::once(Outgoing { contents, segment: 0, ..*joined })) {
            Ok(_) => sent += 1,
            Err(error) if failed(Trouble::from(&error), 1) => {}
            Err(_) => return None,
        }
    }
    Some(sent)
}
