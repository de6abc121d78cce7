//! `pen-ctl proxy`: the classic one-liner, a balancer in one process with everything on its command line.

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::Global;
use super::error::CliError;
use super::render;
use crate::dataplane::proxy::choose::Policy;
use crate::dataplane::proxy::{Config, Proxy, limit};
use crate::dataplane::{Affinity, Protocol, Scheduler, Tracking};
use crate::log::{self, LogFormat};

mod address;
mod statistics;

use address::{Backend, Listen};

/// Clients remembered at most.
const CLIENTS: usize = 262_144;
/// How long a backend that failed gets nobody.
const OUT_FOR: Duration = Duration::from_secs(30);

/// Where to listen, whom to bring clients to, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl proxy 80 www1:8000:10 www2:80:10 www3
  pen-ctl proxy 127.0.0.1:5432 db1 db2 --hash
  pen-ctl proxy [::1]:8080 10.0.0.11:80 [2001:db8::12]:80 --round-robin
  pen-ctl proxy 53 ns1 ns2 [2001:db8::53] --udp
  pen-ctl proxy /run/app.sock /run/app-1.sock /run/app-2.sock

A client goes back to the backend that it had before, for as long as that one takes connections. A backend that refuses,
or does not answer within --connect-timeout, gets nobody for 30 seconds; whoever met it is brought to the next one
and notices nothing.

SIGUSR1 prints statistics on stdout. SIGTERM and SIGINT end it with its last connection, a second one at once.")]
pub struct ProxyArgs {
    /// Where clients come: a port, an address with a port, or the path of a Unix socket
    #[arg(value_name = "LISTEN")]
    listen: Listen,
    /// Where they are brought; without a port to the one they came to; never more than MAX connections at once
    #[arg(value_name = "BACKEND[:PORT[:MAX]]", required = true)]
    backends: Vec<Backend>,
    /// Datagrams instead of connections: each client port has a session with a backend
    #[arg(long)]
    udp: bool,
    /// Give every connection to the next backend in turn, and remember no client
    #[arg(long, conflicts_with = "hash")]
    round_robin: bool,
    /// Choose by the client's address alone, and remember no client: the same on every host and after every start
    #[arg(long)]
    hash: bool,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    workers: Option<NonZero<usize>>,
    /// How long a backend may take to accept a connection before the next one is tried
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// With --udp: how long a session lasts without a datagram either way
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "udp", value_parser = humantime::parse_duration)]
    idle_timeout: Duration,
}

impl ProxyArgs {
    fn config(&self) -> Result<Config, CliError> {
        let port = self.listen.port();
        let backends = self.backends.iter().map(|backend| backend.resolve(port).map_err(CliError::failed));
        Ok(Config {
            protocol: if self.udp { Protocol::Udp } else { Protocol::Tcp },
            listen: self.listen.endpoints(),
            backends: backends.collect::<Result<_, _>>()?,
            policy: self.policy(),
            workers: self.workers.or(available_parallelism().ok()).map_or(1, NonZero::get),
            connect_timeout: self.connect_timeout,
            out_for: OUT_FOR,
            idle_timeout: self.idle_timeout,
        })
    }

    fn policy(&self) -> Policy {
        let remembers = !self.round_robin && !self.hash;
        Policy {
            affinity: Affinity::Client,
            tracking: if remembers { Tracking::Full } else { Tracking::Off },
            scheduler: if self.round_robin { Scheduler::RoundRobin } else { Scheduler::Maglev },
            tracking_timeout: 0,
            tracking_clients: CLIENTS,
            // The same for all, so that several hosts with the same backends agree.
            seed: 0,
        }
    }
}

/// Runs until it is told to end.
pub fn proxy(global: &Global, args: &ProxyArgs) -> Result<(), CliError> {
    log::start(LogFormat::Text, global.verbose);
    let config = args.config()?;
    let descriptors = limit::raise_descriptors();
    super::wait_for(async {
        // Before anybody can connect: a signal in between would end the process.
        let signals =
            Signals::new().map_err(|error| CliError::failed(format!("listen for signals: {error}")))?;
        let proxy = Proxy::start(config).map_err(CliError::failed)?;
        for address in proxy.addresses() {
            info!(%address, "listening");
        }
        match descriptors {
            Some(limit) => {
                info!("room for about {} connections: {limit} file descriptors", limit.saturating_sub(64) / 2)
            }
            None => info!("file descriptors without limit"),
        }
        signals.obey(proxy).await
    })
}

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    user: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Does what they say until the proxy has ended.
    async fn obey(mut self, mut proxy: Proxy) -> Result<(), CliError> {
        let threads = proxy.take_threads();
        let mut ended = tokio::task::spawn_blocking(move || {
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(worked) => {
                    worked.map_err(|error| format!("wait for connections: {error}; start it again"))
                }
                Err(_) => Err("a worker ended unexpectedly; start it again, and report it".to_owned()),
            })
        });
        let mut draining = false;
        loop {
            tokio::select! {
                ended = &mut ended => {
                    return ended.map_err(|error| error.to_string()).and_then(|ended| ended).map_err(CliError::failed);
                }
                _ = self.user.recv() => render::print(&statistics::text(&proxy.statistics(), render::Style::for_stdout())),
                _ = self.terminate.recv() => end(&proxy, &mut draining),
                _ = self.interrupt.recv() => end(&proxy, &mut draining),
            }
        }
    }
}

/// Drains; at the second time, stops.
fn end(proxy: &Proxy, draining: &mut bool) {
    if std::mem::replace(draining, true) {
        proxy.stop();
    } else {
        let open: u32 = proxy.statistics().backends.iter().map(|backend| backend.open).sum();
        info!(open, "accepting nobody new; ends with the last connection, or at once when told again");
        proxy.drain();
    }
}
