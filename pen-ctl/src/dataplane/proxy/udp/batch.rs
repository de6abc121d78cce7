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

    /// The datagram in a slot, to be sent on.
    pub(super) fn outgoing(&self, slot: usize, to: Option<SocketAddr>, from: Option<Local>) -> Outgoing<'_> {
        let Arrived { length, segment, .. } = self.arrived(slot);
        Outgoing { contents: &self.bytes[slot * SLOT..][..length.min(SLOT)], segment, to, from }
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
        let went = match sys::send(socket, datagrams.clone()) {
            Ok(went) => went,
            Err(_) if first.segment != 0 => {
                // The path takes no segments of that length, or the interface none at all: one by one.
                match send_cut(socket, &first, &mut failed) {
                    Some(cut) => sent += cut,
                    None => return (sent, done),
                }
                datagrams.next();
                done += 1;
                continue;
            }
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
