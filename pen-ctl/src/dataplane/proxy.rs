//! The userspace data plane: accepts from clients, connects to backends, copies. Runs on every Unix.
//!
//! A connection's way in files: [`listener`] → [`lanes`] → [`choose`] (over [`pool`], [`tier`] and [`memory`]) → [`tcp`]
//! or [`udp`]. Each [`worker`] is a thread that does all of it for its own clients; what workers share is one
//! [`service::Service`] for each service, which they read once a connection, but for a few atomic words of each backend
//! and the memory of clients. [`single`] is the one-liner, one service without a controller; [`plane`] is what the
//! controller works with.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;
use socket2::Socket;

pub mod access;
pub mod choose;
pub mod count;
pub mod endpoint;
pub mod handover;
mod lanes;
pub mod limit;
pub mod listener;
pub mod memory;
pub mod plane;
pub(crate) mod platform;
pub mod pool;
pub mod preface;
pub mod service;
pub mod single;
mod source;
mod tcp;
mod tier;
pub(crate) mod transparent;
pub mod udp;
mod worker;

use super::Protocol;
use endpoint::Endpoint;
use lanes::Command;
use limit::Shortage;
use listener::{ListenError, Listeners, SocketPath};
use service::{Clock, Service, Settings};
use worker::{Order, Worker};

/// How long workers may take to accept nobody any more.
const LET_GO: Duration = Duration::from_secs(2);

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No backend.
    #[error("no backend; name one at least")]
    NoBackend,
    /// A backend is where the proxy listens.
    #[error("backend {0} is where the proxy itself listens; use the address and port of a server")]
    Itself(Endpoint),
    /// The path of a backend's Unix socket is too long, or it should take datagrams.
    #[error("backend {0}: {1}")]
    Backend(Endpoint, io::Error),
    /// The system lacks something that every worker needs.
    #[error("start a worker: {0}; raise the limit of open files (ulimit -n), or free memory")]
    Worker(io::Error),
}

/// What all workers see.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    shortage: Shortage,
    /// An [`Order`]; it only rises.
    order: AtomicU8,
    /// Workers that have been told to drain and accept nobody any more.
    let_go: AtomicUsize,
}

/// Workers that run until they are told to end; dropping it ends them at once.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    workers: Vec<WorkerHandle>,
    threads: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    /// What they listen on. Gone once they are told to end.
    lanes: Mutex<BTreeMap<usize, OpenLane>>,
    /// What is to be opened as soon as whoever has the sockets yet lets go of them; `None` where nobody has.
    held_back: Mutex<HeldBack>,
}

/// Sockets that are not opened yet, with their services.
type HeldBack = Option<Vec<(Arc<Service>, Listeners)>>;

/// How a worker is spoken to.
#[derive(Debug)]
struct WorkerHandle {
    commands: Sender<Command>,
    waker: Waker,
}

/// A place where clients come.
#[derive(Debug)]
struct OpenLane {
    service: Arc<Service>,
    endpoint: Endpoint,
    /// One for each worker.
    sockets: Vec<Arc<Socket>>,
    path: Option<SocketPath>,
}

impl Proxy {
    /// Starts so many workers, at least one, without services.
    ///
    /// # Errors
    /// The system lacks what a worker needs.
    pub fn start(workers: usize) -> Result<Proxy, StartError> {
        let shared = Arc::new(Shared {
            clock: Clock::start(),
            shortage: Shortage::default(),
            order: AtomicU8::new(Order::Serve as u8),
            let_go: AtomicUsize::new(0),
        });
        let (lanes, held_back) = (Mutex::default(), Mutex::default());
        let mut proxy = Proxy { shared, workers: Vec::new(), threads: Mutex::default(), lanes, held_back };
        for number in 0..workers.max(1) {
            proxy.start_worker(number).map_err(StartError::Worker)?;
        }
        Ok(proxy)
    }

    fn start_worker(&mut self, number: usize) -> io::Result<()> {
        let (commands, heard) = channel();
        let (worker, waker) = Worker::new(self.shared.clone(), number, heard)?;
        let thread = thread::Builder::new().name(format!("pen-proxy-{number}"));
        let started = thread.spawn(move || worker.run())?;
        self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(started);
        self.workers.push(WorkerHandle { commands, waker });
        Ok(())
    }

    /// A service without backends and listeners, closed, that remembers at most so many clients.
    pub fn service(
        &self,
        name: String,
        protocol: Protocol,
        settings: Settings,
        clients: usize,
    ) -> Arc<Service> {
        let times = (self.shared.clock, self.workers.len());
        Arc::new(Service::new(name, protocol, settings, clients, times))
    }

    /// Sockets that listen at an endpoint, on which clients wait until they are given to [`Proxy::open`].
    ///
    /// # Errors
    /// The system refuses the address, or another process listens there.
    pub fn bind(&self, protocol: Protocol, endpoint: &Endpoint) -> Result<Listeners, ListenError> {
        match protocol {
            Protocol::Tcp => listener::listen(endpoint, self.workers.len()),
            Protocol::Udp => listener::listen_udp(endpoint, self.workers.len()),
        }
    }

    /// Takes clients of a service from sockets. Where there are more of them than workers, each has several.
    pub fn open(&self, service: &Arc<Service>, listeners: Listeners) {
        if let Some(held_back) = &mut *self.held_back() {
            return held_back.push((service.clone(), listeners));
        }
        self.open_now(service, listeners);
    }

    /// Until [`Proxy::let_in`], clients wait: somebody else serves them yet.
    pub(crate) fn hold_back(&self) {
        self.held_back().get_or_insert_default();
    }

    /// Takes clients from all sockets that it has.
    pub(crate) fn let_in(&self) {
        // Locked until all are open: whoever opens another meanwhile comes after them.
        let mut held_back = self.held_back();
        for (service, listeners) in held_back.take().into_iter().flatten() {
            self.open_now(&service, listeners);
        }
    }

    fn open_now(&self, service: &Arc<Service>, listeners: Listeners) {
        let Listeners { sockets, endpoint, mut path } = listeners;
        path.iter_mut().for_each(SocketPath::take);
        let sockets: Vec<Arc<Socket>> = sockets.into_iter().map(Arc::new).collect();
        let mut lanes = self.lanes();
        for sockets in sockets.chunks(self.workers.len()) {
            let lane = lanes.last_key_value().map_or(0, |(last, _)| last + 1);
            for (worker, socket) in self.workers.iter().zip(sockets) {
                worker.tell(Command::Open { lane, service: service.clone(), socket: socket.clone() });
            }
            let (service, endpoint, path) = (service.clone(), endpoint.clone(), path.take());
            lanes.insert(lane, OpenLane { service, endpoint, sockets: sockets.into(), path });
        }
    }

    /// Listens for clients of a service no more. Its connections go on.
    pub fn close(&self, service: &Arc<Service>) {
        if let Some(held_back) = &mut *self.held_back() {
            held_back.retain(|(other, _)| !Arc::ptr_eq(other, service));
        }
        self.lanes().retain(|lane, open| {
            let other = !Arc::ptr_eq(&open.service, service);
            if !other {
                self.workers.iter().for_each(|worker| worker.tell(Command::Close { lane: *lane }));
            }
            other
        });
    }

    /// Has workers act on what [`Service::set`] made of a service.
    pub fn look(&self) {
        self.workers.iter().for_each(|worker| worker.tell(Command::Look));
    }

    /// The sockets on which it listens for clients of a service.
    pub(crate) fn sockets(&self, service: &Arc<Service>) -> Vec<(Endpoint, Vec<Arc<Socket>>)> {
        let lanes = self.lanes();
        let own = lanes.values().filter(|open| Arc::ptr_eq(&open.service, service));
        own.map(|open| (open.endpoint.clone(), open.sockets.clone())).collect()
    }

    /// Somebody else has its sockets now: it drains, and leaves the paths of Unix sockets alone. Returns when it accepts
    /// nobody any more.
    pub(crate) fn retire(&self) {
        let paths: Vec<_> = self.lanes().values_mut().filter_map(|open| open.path.take()).collect();
        paths.into_iter().for_each(SocketPath::keep);
        self.drain();
        let give_up = Instant::now() + LET_GO;
        while self.shared.let_go.load(Ordering::Acquire) < self.workers.len() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many workers it has.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Accepts nobody new any more and ends with the last connection.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Ends at once; connections that are open are reset.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Waits until all workers have ended.
    ///
    /// # Errors
    /// One of them failed, in words.
    pub fn join(&self) -> Result<(), String> {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(worked) => worked.map_err(|error| format!("wait for connections: {error}; start it again")),
            Err(_) => Err("a worker ended unexpectedly; start it again, and report it".to_owned()),
        })
    }

    fn order(&self, order: Order) {
        self.shared.order.fetch_max(order as u8, Ordering::Relaxed);
        self.lanes().clear();
        for WorkerHandle { waker, .. } in &self.workers {
            // A worker that has ended needs no waking.
            let _ = waker.wake();
        }
    }

    fn held_back(&self) -> MutexGuard<'_, HeldBack> {
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<usize, OpenLane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerHandle {
    /// A worker that has ended hears nothing and need not.
    fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
        // Who wanted to hear of failures has waited already.
        let _ = self.join();
    }
}
