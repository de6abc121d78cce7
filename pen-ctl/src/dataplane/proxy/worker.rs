//! A worker: one thread with its own poll, listening sockets and sessions. Nothing on the copy path is shared.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::io::Errno;
use socket2::Socket;

use super::Shared;
use super::count::Counts;
use super::limit;
use super::listener;
use super::tcp::Tcp;

/// The waker's token; those of the listeners follow.
const WAKE: Token = Token(0);
/// Connections accepted in one go before sessions have their turn.
const ACCEPTS: u32 = 64;
/// Until it is tried again what a shortage prevented; sooner when a session ends.
const RETRY: Duration = Duration::from_millis(100);

/// What the proxy has been told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Serve.
    Serve = 0,
    /// Accept nobody new, and end with the last session.
    Drain = 1,
    /// End at once.
    Stop = 2,
}

/// A worker before and while it runs.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    poll: Poll,
    listeners: Vec<Listener>,
    tcp: Tcp,
    /// Nobody is accepted before then.
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    socket: Socket,
    /// There may be somebody to accept.
    ready: bool,
}

impl Worker {
    /// A worker for these listening sockets, and what wakes it.
    ///
    /// # Errors
    /// The system has no poll for it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        counts: Arc<Counts>,
        sockets: Vec<Socket>,
    ) -> io::Result<(Worker, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        for (number, socket) in sockets.iter().enumerate() {
            let token = Token(number + 1);
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        }
        let tcp = Tcp::new(shared.clone(), counts, sockets.len() + 1);
        let listeners = sockets.into_iter().map(|socket| Listener { socket, ready: false }).collect();
        Ok((Worker { shared, poll, listeners, tcp, paused_until: None }, waker))
    }

    /// Works until it is told to end.
    ///
    /// # Errors
    /// The poll fails, which it does not while there is memory.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut deadline = None;
        loop {
            match self.poll.poll(&mut events, self.patience(deadline)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let before = self.tcp.len();
            for event in &events {
                match event.token() {
                    WAKE => {}
                    Token(number) if number <= self.listeners.len() => {
                        self.listeners[number - 1].ready = true
                    }
                    token => self.tcp.ready(self.poll.registry(), token, event),
                }
            }
            self.tcp.go_on();
            let order = self.shared.order.load(Ordering::Relaxed);
            if order >= Order::Stop as u8 {
                self.tcp.reset_all();
                return Ok(());
            }
            if self.tcp.len() < before {
                self.paused_until = None;
            }
            self.accept();
            deadline = self.tcp.expire(self.poll.registry(), Instant::now());
            if order == Order::Drain as u8 && self.drained() {
                return Ok(());
            }
        }
    }

    /// How long the poll may wait.
    fn patience(&self, deadline: Option<Instant>) -> Option<Duration> {
        if self.tcp.has_more() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let somebody_waits = self.listeners.iter().any(|listener| listener.ready);
        let retry = match (somebody_waits, self.paused_until) {
            (true, Some(until)) => Some(until.saturating_duration_since(now)),
            (true, None) if !self.tcp.is_short() => Some(Duration::ZERO),
            _ if self.tcp.is_short() => Some(RETRY),
            _ => None,
        };
        let deadline = deadline.map(|deadline| deadline.saturating_duration_since(now));
        [retry, deadline].into_iter().flatten().min()
    }

    /// Accepts who waits, as far as there is something left to serve them with.
    fn accept(&mut self) {
        if self.paused_until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        self.paused_until = None;
        for listener in &mut self.listeners {
            for _ in 0..ACCEPTS {
                if !listener.ready || self.tcp.is_short() {
                    break;
                }
                match listener::accept(&listener.socket) {
                    Ok((socket, peer)) => {
                        self.shared.shortage.not_met(self.shared.chooser.now());
                        self.tcp.admit(self.poll.registry(), socket, peer);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                    Err(error) if limit::is_shortage(&error) => {
                        self.shared.shortage.met(&error, self.shared.chooser.now());
                        self.paused_until = Some(Instant::now() + RETRY);
                        return;
                    }
                    // What befell the client before it was accepted (accept(2)) is no trouble of ours.
                    Err(error) => debug_assert!(Errno::from_io_error(&error).is_some()),
                }
            }
        }
    }

    /// Lets in who was waiting already, stops listening, and says whether all is done.
    fn drained(&mut self) -> bool {
        for listener in &mut self.listeners {
            listener.ready = true;
        }
        self.accept();
        let waits = self.listeners.iter().any(|listener| listener.ready);
        if !waits {
            self.listeners.clear();
        }
        !waits && self.tcp.len() == 0
    }
}
