//! `pen-ctl proxy`: the classic one-liner, a balancer in one process with everything on its command line.

use std::io;
use std::num::NonZero;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::Global;
use super::error::CliError;
use crate::dataplane::kind::UDP_IDLE_TIMEOUT;
use crate::dataplane::proxy::choose::Policy;
use crate::dataplane::proxy::limit;
use crate::dataplane::proxy::pool::{BackendConfig, Role};
use crate::dataplane::proxy::preface::Version;
use crate::dataplane::proxy::service::Settings;
use crate::dataplane::proxy::single::{Config, Single};
use crate::dataplane::proxy::transparent;
use crate::dataplane::{Affinity, Protocol, Scheduler, Tracking};
use crate::log::{self, LogFormat};
use crate::state::text;

mod address;
mod flags;
mod rules;
mod statistics;

use address::{Backend, Listen};

/// Clients remembered at most.
const CLIENTS: usize = 262_144;

/// Where to listen, whom to bring clients to, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl proxy 80 www1:8000:10 www2:80:10 www3
  pen-ctl proxy 127.0.0.1:5432 db1 db2 --hash
  pen-ctl proxy [::1]:8080 10.0.0.11:80 [2001:db8::12]:80 --round-robin
  pen-ctl proxy 53 ns1 ns2 [2001:db8::53] --udp
  pen-ctl proxy 25 mx1 mx2 --emergency mx3.example.net:25 --proxy-protocol v2
  pen-ctl proxy /run/app.sock /run/app-1.sock /run/app-2.sock

A client goes back to the backend that it had before, for as long as that one takes connections. A backend that refuses,
or does not answer within --connect-timeout, gets nobody for 30 seconds; whoever met it is brought to the next one
and notices nothing.

SIGUSR1 prints statistics on stdout, with --json as a document in one line, and so does its end. SIGTERM and SIGINT end it
with its last connection, a second one at once.")]
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
    #[arg(long, group = "choice")]
    round_robin: bool,
    /// Give every connection to the backend that has fewest, and remember no client
    #[arg(long, group = "choice")]
    least_connections: bool,
    /// Choose by the client's address alone, and remember no client: the same on every host and after every start
    #[arg(long, group = "choice")]
    hash: bool,
    /// Where clients are brought while connections to all backends fail
    #[arg(long, value_name = "BACKEND[:PORT[:MAX]]")]
    emergency: Vec<Backend>,
    /// Turn a client away when its backend fails, rather than bring it to the next one
    #[arg(long)]
    stubborn: bool,
    /// Clients at once; further ones wait to be accepted
    #[arg(long, value_name = "N", value_parser = flags::clients_at_once)]
    max_connections: Option<NonZero<u32>>,
    /// Let backends see the client's address as the sender's: takes CAP_NET_ADMIN and routing (docs/proxy.md)
    #[arg(long)]
    transparent: bool,
    /// Tell backends the client's address in front of what it sends
    #[arg(long, value_name = "VERSION", value_enum)]
    proxy_protocol: Option<ProxyProtocol>,
    /// Clients that tell whom they speak for in the same way, and must
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = text::network)]
    proxy_protocol_from: Vec<IpNet>,
    /// Threads, at most four for each processor [default: one for each]
    #[arg(long, value_name = "N", value_parser = flags::workers)]
    workers: Option<usize>,
    /// How long a backend may take to accept a connection before the next one is tried
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = flags::connect_timeout)]
    connect_timeout: Duration,
    /// How long a connection or session lasts without a byte either way [default: for ever; with --udp 60s]
    #[arg(long, value_name = "TIME", value_parser = flags::idle_timeout)]
    idle_timeout: Option<Duration>,
}

/// How backends are told who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProxyProtocol {
    /// A line of text
    V1,
    /// Binary; for UDP, too
    V2,
}

impl ProxyArgs {
    fn config(&self) -> Result<Config, CliError> {
        let port = self.listen.port();
        let resolve = |backend: &Backend, role| {
            let found = backend.resolve(port).map_err(CliError::failed)?;
            Ok::<_, CliError>(BackendConfig { role, ..found })
        };
        let serving = self.backends.iter().map(|backend| resolve(backend, Role::Serving));
        let emergency = self.emergency.iter().map(|backend| resolve(backend, Role::Standby(1)));
        Ok(Config {
            protocol: if self.udp { Protocol::Udp } else { Protocol::Tcp },
            listen: self.listen.endpoints(),
            backends: serving.chain(emergency).collect::<Result<_, _>>()?,
            settings: self.settings()?,
            tracking_clients: CLIENTS,
            workers: self.workers.unwrap_or_else(flags::processors),
        })
    }

    fn settings(&self) -> Result<Settings, CliError> {
        if self.udp && self.proxy_protocol == Some(ProxyProtocol::V1) {
            return Err(CliError::failed("--proxy-protocol v1 is for TCP only; use v2"));
        }
        if self.transparent
            && let Err(error) = transparent::check()
        {
            return Err(CliError::failed(format!(
                "--transparent: {error}; it takes Linux, FreeBSD or OpenBSD, and root or CAP_NET_ADMIN"
            )));
        }
        let version = |version| match version {
            ProxyProtocol::V1 => Version::V1,
            ProxyProtocol::V2 => Version::V2,
        };
        Ok(Settings {
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout.unwrap_or(if self.udp {
                UDP_IDLE_TIMEOUT
            } else {
                Duration::ZERO
            }),
            max_connections: self.max_connections.map(NonZero::get),
            stubborn: self.stubborn,
            transparent: self.transparent,
            proxy_protocol: self.proxy_protocol.map(version),
            proxy_protocol_from: self.proxy_protocol_from.clone(),
            ..Settings::new(self.policy())
        })
    }

    fn policy(&self) -> Policy {
        let remembers = !self.round_robin && !self.least_connections && !self.hash;
        Policy {
            affinity: Affinity::Client,
            tracking: if remembers { Tracking::Full } else { Tracking::Off },
            scheduler: match (self.round_robin, self.least_connections) {
                (true, _) => Scheduler::RoundRobin,
                (_, true) => Scheduler::LeastConnections,
                _ => Scheduler::Maglev,
            },
            tracking_timeout: 0,
            // The same for all, so that several hosts with the same backends agree.
            seed: 0,
        }
    }
}

/// Runs until it is told to end.
pub fn proxy(global: &Global, args: &ProxyArgs) -> Result<(), CliError> {
    log::start(LogFormat::Text, global.verbose);
    let config = args.config()?;
    rules::check(&config).map_err(CliError::failed)?;
    let descriptors = limit::raise_descriptors();
    super::wait_for(async {
        // Before anybody can connect: a signal in between would end the process.
        let signals =
            Signals::new().map_err(|error| CliError::failed(format!("listen for signals: {error}")))?;
        let proxy = Single::start(config).map_err(CliError::failed)?;
        for address in proxy.addresses() {
            info!(%address, "listening");
        }
        match descriptors {
            Some(limit) => {
                info!("room for about {} connections: {limit} file descriptors", limit.saturating_sub(64) / 2)
            }
            None => info!("file descriptors without limit"),
        }
        signals.obey(proxy, global.json).await
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

    /// Does what they say until the proxy has ended, and prints what it came to.
    async fn obey(mut self, proxy: Single, json: bool) -> Result<(), CliError> {
        let workers = proxy.workers();
        let mut ended = tokio::task::spawn_blocking(move || workers.join());
        let mut draining = false;
        loop {
            tokio::select! {
                ended = &mut ended => {
                    let ended = ended.map_err(|error| error.to_string()).and_then(|ended| ended);
                    ended.map_err(CliError::failed)?;
                    return statistics::print(&proxy.statistics(), json);
                }
                _ = self.user.recv() => statistics::print(&proxy.statistics(), json)?,
                _ = self.terminate.recv() => end(&proxy, &mut draining),
                _ = self.interrupt.recv() => end(&proxy, &mut draining),
            }
        }
    }
}

/// Drains; at the second time, stops.
fn end(proxy: &Single, draining: &mut bool) {
    if std::mem::replace(draining, true) {
        proxy.stop();
    } else {
        let open: u32 = proxy.statistics().backends.iter().map(|backend| backend.open).sum();
        info!(open, "accepting nobody new; ends with the last connection, or at once when told again");
        proxy.drain();
    }
}
