//! Which of many sockets is ready: epoll(7), level-triggered, for servers and load generators alike.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
pub(super) use rustix::event::epoll::EventFlags;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};

/// Sockets that are told of in one go.
const EVENTS: usize = 256;

/// Watches sockets.
pub(super) struct Poller(OwnedFd);

/// What [`Poller::wait`] found.
pub(super) struct Ready(Vec<Event>);

impl Poller {
    /// One that watches nobody yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches a socket until it is closed; `key` names it.
    pub(super) fn watch(&self, socket: impl AsFd, key: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, EventData::new_u64(key as u64), interest)?)
    }

    /// Watches it for something else from now on.
    pub(super) fn change(&self, socket: impl AsFd, key: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, socket, EventData::new_u64(key as u64), interest)?)
    }

    /// Waits until somebody is ready, or so long (rounded up to milliseconds).
    pub(super) fn wait(&self, ready: &mut Ready, patience: Duration) -> io::Result<()> {
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        ready.0.clear();
        match epoll::wait(&self.0, spare_capacity(&mut ready.0), Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Ready {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS))
    }

    /// The keys of those who are ready, and for what.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, EventFlags)> {
        self.0.iter().map(|event| (event.data.u64() as usize, event.flags))
    }
}
