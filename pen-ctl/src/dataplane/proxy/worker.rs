//! A worker: one thread with its own poll, listening sockets and sessions. Nothing on the copy path is shared.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Waker};
use tracing::warn;

use super::Shared;
use super::lanes::{Command, Lanes};
use super::source::Source;
use super::tcp::Tcp;
use super::udp::{self, Pooled, Udp};

/// Until it is tried again what a shortage prevented, or a limit that other workers have a part in; sooner when a
/// session ends.
const RETRY: Duration = Duration::from_millis(50);
/// How long answers of UDP are waited for after the order to drain.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

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
pub(crate) struct Worker {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    poll: Poll,
    lanes: Lanes,
    tcp: Tcp,
    udp: Udp<Pooled>,
    pooled: Pooled,
    /// Nobody is accepted before then.
    paused_until: Option<Instant>,
    /// When it was told to drain.
    drained_at: Option<Instant>,
    /// It accepts nobody any more: said already.
    let_go: bool,
    /// Sessions of UDP that ended early: said already.
    said_evicted: bool,
}

impl Worker {
    /// A worker without listeners, and what wakes it.
    ///
    /// # Errors
    /// The system has no poll for it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        number: usize,
        commands: Receiver<Command>,
    ) -> io::Result<(Worker, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Source::Waker.token())?;
        let worker = Worker {
            tcp: Tcp::new(shared.clone(), number),
            udp: Udp::new(udp::Config::default(), poll.registry())?,
            pooled: Pooled::of(number),
            lanes: Lanes::default(),
            shared,
            commands,
            poll,
            paused_until: None,
            drained_at: None,
            let_go: false,
            said_evicted: false,
        };
        Ok((worker, waker))
    }

    /// Works until it is told to end.
    ///
    /// # Errors
    /// The poll fails, which it does not while there is memory.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut due = None;
        loop {
            match self.poll.poll(&mut events, self.patience(due)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = Instant::now();
            let before = self.tcp.len();
            self.tcp.begin(now);
            // First: what came after a change must not be served as before it.
            self.obey();
            for event in &events {
                match Source::of(event.token()) {
                    Source::Waker => {}
                    Source::Listener(number) => self.lanes.ready(number),
                    source @ (Source::Client(_) | Source::Backend(_)) => {
                        self.tcp.ready(self.poll.registry(), source, event)
                    }
                    source @ (Source::UdpListener(_) | Source::UdpSession(_)) => {
                        self.udp.ready(source, &mut self.pooled, now)
                    }
                }
            }
            self.tcp.go_on();
            if self.tcp.len() < before {
                self.paused_until = None;
            }
            self.accept(now);
            due = self.tcp.expire(self.poll.registry());
            due = due.into_iter().chain(self.udp.finish(&mut self.pooled, now)).min();
            self.say_evicted();
            match self.shared.order.load(Ordering::Relaxed) {
                order if order >= Order::Stop as u8 => {
                    self.tcp.reset_all();
                    return Ok(());
                }
                order if order == Order::Drain as u8 && self.drained(now, &mut due) => return Ok(()),
                _ => {}
            }
        }
    }

    /// How long the poll may wait.
    fn patience(&self, due: Option<Instant>) -> Option<Duration> {
        if self.tcp.has_more() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let retry = match self.paused_until {
            Some(until) => Some(until.saturating_duration_since(now)),
            None if self.tcp.is_short() || self.lanes.any_full() => Some(RETRY),
            None if self.lanes.any_ready() => Some(Duration::ZERO),
            None if self.tcp.is_queued() => Some(RETRY),
            None => None,
        };
        let due = due.map(|due| due.saturating_duration_since(now));
        [retry, due].into_iter().flatten().min()
    }

    /// Does what it was told since.
    fn obey(&mut self) {
        let mut look = false;
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open { lane, service, socket } => {
                    let registry = self.poll.registry();
                    if let Err(error) =
                        self.lanes.open(registry, (lane, &service, socket), &mut self.udp, &mut self.pooled)
                    {
                        warn!(service = %service.name, "listen: {error}; raise the limit of open files");
                    }
                }
                Command::Close { lane } => {
                    self.lanes.close(self.poll.registry(), lane, &mut self.udp, &mut self.pooled)
                }
                Command::Look => look = true,
            }
        }
        // Once for all: a change of many backends tells as often.
        if look {
            self.look();
        }
    }

    /// A service stands otherwise now.
    fn look(&mut self) {
        self.paused_until = None;
        self.lanes.look(&mut self.udp);
        self.tcp.look(self.poll.registry());
        let pooled = &self.pooled;
        self.udp.retain(|listener, backend| pooled.keeps(listener, backend), Instant::now());
    }

    /// Accepts who waits, as far as there is something left to serve them with.
    fn accept(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.paused_until = None;
        let registry = self.poll.registry();
        if let Err(error) = self.lanes.accept(registry, &mut self.tcp, &self.shared) {
            self.shared.shortage.met(&error, self.shared.clock.now());
            self.paused_until = Some(now + RETRY);
        }
    }

    /// Says once that sessions of UDP end early.
    fn say_evicted(&mut self) {
        if self.udp.counters().evicted != 0 && !std::mem::replace(&mut self.said_evicted, true) {
            let sessions = self.udp.sessions();
            warn!(
                sessions,
                "more UDP clients than there is room for: the session that was idle longest ends for each new \
                 one; raise the limit of file descriptors or shorten the idle timeout"
            );
        }
    }

    /// Told to drain: lets in who was waiting already, stops listening, and says whether all is done.
    fn drained(&mut self, now: Instant, due: &mut Option<Instant>) -> bool {
        if self.drained_at.is_none() {
            self.drained_at = Some(now);
            self.udp.stop_listening();
        }
        if !self.let_go {
            self.lanes.all_ready();
            self.accept(now);
        }
        // Whoever waits for a limit or for what is short must not keep the sockets open for others to come.
        let stuck = self.tcp.is_short() || self.paused_until.is_some() || self.lanes.any_full();
        if !self.lanes.any_ready() || stuck {
            self.lanes.clear(self.poll.registry());
            if !std::mem::replace(&mut self.let_go, true) {
                self.shared.let_go.fetch_add(1, Ordering::Release);
            }
        }
        let end = self.drained_at.unwrap_or(now) + LAST_ANSWERS;
        let answered = now >= end || !self.udp.is_awaiting();
        if answered {
            // Connections may last: what came to a socket that nobody reads would be lost for whoever listens next.
            self.udp.close();
        } else {
            *due = Some(due.map_or(end, |due| due.min(end)));
        }
        answered && self.lanes.is_empty() && self.tcp.len() == 0
    }
}
