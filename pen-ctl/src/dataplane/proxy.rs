//! The userspace data plane: accepts from clients, connects to backends, copies. Runs on every Unix.
//!
//! A connection's way in files: [`listener`] → [`choose`] (over [`pool`] and [`memory`]) → [`tcp`]. Each [`worker`] is a
//! thread that does all of it for its own connections; what workers share is one [`Shared`], which they only read, but
//! for a few atomic words of each backend and the memory of clients, touched once a connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Waker;
use pen_common::abi::RING_TURNS;

pub mod choose;
pub mod count;
pub mod endpoint;
pub mod limit;
pub mod listener;
pub mod memory;
pub mod pool;
mod tcp;
pub mod udp;
mod worker;

use super::Protocol;
use choose::{Chooser, Policy};
use count::{Counts, Statistics};
use endpoint::Endpoint;
use limit::Shortage;
use listener::{ListenError, SocketPath};
use pool::{BackendConfig, Pool};
use worker::{Order, Worker};

/// What a proxy does.
#[derive(Clone, Debug)]
pub struct Config {
    /// What clients speak.
    pub protocol: Protocol,
    /// Where clients come.
    pub listen: Vec<Endpoint>,
    /// Where they are brought: 1 to [`RING_TURNS`].
    pub backends: Vec<BackendConfig>,
    /// How one is chosen.
    pub policy: Policy,
    /// Threads; at least one.
    pub workers: usize,
    /// How long a backend may take to accept a connection before the next one is tried.
    pub connect_timeout: Duration,
    /// How long a backend that failed is left out.
    pub out_for: Duration,
    /// UDP: how long a client's session lasts without a datagram either way.
    pub idle_timeout: Duration,
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Too few or too many backends.
    #[error("{0} backends: there must be 1 to {RING_TURNS}")]
    Backends(usize),
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
    chooser: Chooser,
    connect_timeout: Duration,
    out_for: Duration,
    idle_timeout: Duration,
    shortage: Shortage,
    /// An [`Order`]; it only rises.
    order: AtomicU8,
}

/// A proxy that runs until it is told to end; dropping it ends it at once.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    addresses: Vec<Endpoint>,
    counts: Vec<Arc<Counts>>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    _paths: Vec<SocketPath>,
}

impl Proxy {
    /// Starts one.
    ///
    /// # Errors
    /// It cannot listen where it should, or lacks what a worker needs.
    pub fn start(config: Config) -> Result<Proxy, StartError> {
        let count = config.backends.len();
        if count == 0 || count > RING_TURNS {
            return Err(StartError::Backends(count));
        }
        for BackendConfig { endpoint, .. } in &config.backends {
            endpoint.to_socket_address().map_err(|error| StartError::Backend(endpoint.clone(), error))?;
            if config.protocol == Protocol::Udp && !endpoint.is_inet() {
                let error = io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "UDP has no Unix sockets here; use an address with a port",
                );
                return Err(StartError::Backend(endpoint.clone(), error));
            }
        }
        let workers = config.workers.max(1);
        let listeners = config.listen.iter().map(|endpoint| match config.protocol {
            Protocol::Tcp => listener::listen(endpoint, workers),
            Protocol::Udp => listener::listen_udp(endpoint, workers),
        });
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let pool = Arc::new(Pool::new(config.backends, config.out_for));
        let mut proxy = Proxy {
            shared: Arc::new(Shared {
                chooser: Chooser::new(pool, config.policy),
                connect_timeout: config.connect_timeout,
                out_for: config.out_for,
                idle_timeout: config.idle_timeout,
                shortage: Shortage::default(),
                order: AtomicU8::new(Order::Serve as u8),
            }),
            addresses: listeners.iter().map(|listener| listener.endpoint.clone()).collect(),
            counts: Vec::new(),
            wakers: Vec::new(),
            threads: Vec::new(),
            _paths: Vec::new(),
        };
        let mut sockets: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                proxy._paths.extend(listener.path);
                listener.sockets.into_iter()
            })
            .collect();
        for number in 0..workers {
            let own: Vec<_> = sockets.iter_mut().filter_map(Iterator::next).collect();
            if own.is_empty() {
                break;
            }
            proxy.start_worker(number, config.protocol, count, own).map_err(StartError::Worker)?;
        }
        Ok(proxy)
    }

    fn start_worker(
        &mut self,
        number: usize,
        protocol: Protocol,
        backends: usize,
        sockets: Vec<socket2::Socket>,
    ) -> io::Result<()> {
        let counts = Arc::new(Counts::new(backends));
        let thread = thread::Builder::new().name(format!("pen-proxy-{number}"));
        let (thread, waker) = match protocol {
            Protocol::Tcp => {
                let (worker, waker) = Worker::new(self.shared.clone(), counts.clone(), sockets)?;
                (thread.spawn(move || worker.run())?, waker)
            }
            Protocol::Udp => {
                let (worker, waker) = udp::Worker::new(self.shared.clone(), counts.clone(), sockets)?;
                (thread.spawn(move || worker.run())?, waker)
            }
        };
        self.threads.push(thread);
        self.counts.push(counts);
        self.wakers.push(waker);
        Ok(())
    }

    /// Where it listens, with the ports that the system gave.
    pub fn addresses(&self) -> &[Endpoint] {
        &self.addresses
    }

    /// What was counted so far.
    pub fn statistics(&self) -> Statistics {
        Statistics::sum(&self.shared.chooser, self.counts.iter().map(AsRef::as_ref))
    }

    /// Accepts nobody new any more and ends with the last connection.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Ends at once; connections that are open are reset.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// The threads, to be waited for by somebody else than who has the proxy.
    pub fn take_threads(&mut self) -> Vec<JoinHandle<io::Result<()>>> {
        std::mem::take(&mut self.threads)
    }

    fn order(&self, order: Order) {
        self.shared.order.fetch_max(order as u8, Ordering::Relaxed);
        for waker in &self.wakers {
            // A worker that has ended needs no waking.
            let _ = waker.wake();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
        for thread in self.take_threads() {
            // What it failed with was its last word, and who wanted to hear it has taken the threads.
            let _ = thread.join();
        }
    }
}
