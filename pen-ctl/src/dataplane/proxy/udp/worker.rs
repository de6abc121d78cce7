//! A worker of UDP alone: one thread with its own poll, listening sockets and sessions, over the pool that all share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use socket2::Socket;
use tracing::{info, warn};

use super::super::Shared;
use super::super::choose::Excluded;
use super::super::count::Counts;
use super::super::endpoint::Endpoint;
use super::super::pool::BackendId;
use super::super::worker::Order;
use super::{Backends, Config, Counters, Udp};

/// The waker's token; those of sockets follow.
const WAKE: Token = Token(0);

/// How long answers are waited for after the order to drain.
const DRAIN: Duration = Duration::from_secs(2);

/// A worker before and while it runs.
pub(in super::super) struct Worker {
    poll: Poll,
    udp: Udp<Pooled>,
    pooled: Pooled,
    /// What has been added to the shared counts.
    counted: Counters,
}

impl Worker {
    /// A worker for these sockets, and what wakes it.
    ///
    /// # Errors
    /// The system has no poll for it.
    pub(in super::super) fn new(
        shared: Arc<Shared>,
        counts: Arc<Counts>,
        sockets: Vec<Socket>,
    ) -> io::Result<(Worker, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let mut udp = Udp::new(Config::default(), poll.registry(), Token(WAKE.0 + 1))?;
        for socket in sockets {
            udp.add_listener(socket.into(), shared.idle_timeout)?;
        }
        let pooled = Pooled { shared, counts };
        Ok((Worker { poll, udp, pooled, counted: Counters::default() }, waker))
    }

    /// Works until it is told to end. Told to drain, it goes on until no client waits for an answer.
    ///
    /// # Errors
    /// The poll fails, which it does not while there is memory.
    pub(in super::super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut drained_at = None;
        // Sockets may be readable already.
        let mut due = Some(Instant::now());
        loop {
            let patience = due.map(|due| due.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = Instant::now();
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.udp.ready(event.token(), &mut self.pooled, now);
            }
            due = self.udp.finish(&mut self.pooled, now);
            self.count();
            let order = self.pooled.shared.order.load(Ordering::Relaxed);
            if order >= Order::Stop as u8 {
                return Ok(());
            }
            if order == Order::Drain as u8 {
                let end = *drained_at.get_or_insert(now + DRAIN);
                if now >= end || !self.udp.is_awaiting() {
                    return Ok(());
                }
                due = Some(due.map_or(end, |due| due.min(end)));
            }
        }
    }

    /// Adds what happened since to what all can read; says once if sessions end early.
    fn count(&mut self) {
        let (before, now) = (self.counted, self.udp.counters());
        if now.opened != before.opened {
            self.pooled.counts.accepted.add(now.opened - before.opened);
        }
        if now.dropped.no_backend != before.dropped.no_backend {
            self.pooled.counts.turned_away.add(now.dropped.no_backend - before.dropped.no_backend);
        }
        if now.evicted != 0 && before.evicted == 0 {
            let sessions = self.udp.sessions();
            warn!(
                sessions,
                "more UDP clients than there is room for: the session that was idle longest ends for each new \
                 one; raise the limit of file descriptors or shorten the idle timeout"
            );
        }
        self.counted = now;
    }
}

/// The backends of the pool that all workers share.
struct Pooled {
    shared: Arc<Shared>,
    counts: Arc<Counts>,
}

/// A session's place with a backend.
pub(in super::super) struct Place {
    shared: Arc<Shared>,
    backend: BackendId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.chooser.pool().leave(self.backend);
    }
}

impl Backends for Pooled {
    type Id = BackendId;
    type Lease = Place;

    fn choose(
        &mut self,
        _: usize,
        client: SocketAddr,
        excluded: &[BackendId],
    ) -> Option<(BackendId, SocketAddr)> {
        let mut tried = Excluded::nobody();
        excluded.iter().for_each(|backend| tried.add(*backend));
        let chooser = &self.shared.chooser;
        let backend = chooser.choose(client.ip(), client.port(), &tried)?;
        match chooser.pool().config(backend).endpoint {
            Endpoint::Inet(address) => Some((backend, address)),
            Endpoint::Unix(_) => None,
        }
    }

    fn enter(&mut self, _: usize, backend: BackendId) -> Option<Place> {
        if !self.shared.chooser.pool().enter(backend) {
            return None;
        }
        if let Some(counts) = self.counts.backends.get(usize::from(backend.0)) {
            counts.connections.add(1);
        }
        Some(Place { shared: self.shared.clone(), backend })
    }

    fn carried(&mut self, _: usize, backend: BackendId, sent: u64, received: u64) {
        if let Some(counts) = self.counts.backends.get(usize::from(backend.0)) {
            // As the statistics see it: received from clients, sent to clients.
            counts.received.add(sent);
            counts.sent.add(received);
        }
    }

    fn failed(&mut self, _: usize, backend: BackendId) {
        if let Some(counts) = self.counts.backends.get(usize::from(backend.0)) {
            counts.failures.add(1);
        }
        let chooser = &self.shared.chooser;
        if chooser.pool().failed(backend, chooser.now()) {
            let address = &chooser.pool().config(backend).endpoint;
            warn!(backend = %address, "backend left out for {:?}: unreachable", self.shared.out_for);
        }
    }

    fn answered(&mut self, _: usize, backend: BackendId) {
        let pool = self.shared.chooser.pool();
        if pool.succeeded(backend) {
            info!(backend = %pool.config(backend).endpoint, "backend answers again");
        }
    }
}
