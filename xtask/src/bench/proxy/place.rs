//! Where the proxies are measured: a network namespace with nothing but loopback, two processors, the backends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

use super::super::BenchError;
use super::super::cpu::pin;
use super::rivals::Protocol;
use super::servers::Servers;
use crate::lab::{self, Lab};

/// Ports on which proxies listen; each start has one of its own.
const PORTS: std::ops::Range<u16> = 10_000..20_000;
/// Descriptors that a process needs beside those of connections.
const SPARE_DESCRIPTORS: u64 = 500;

/// All that measuring needs; dropping it removes everything it made, and whoever still runs there.
pub(super) struct Place {
    /// Counts the ports that were given out.
    next_port: AtomicU16,
    proxy_cpu: usize,
    // Before the lab, so that they end first.
    servers: Servers,
    lab: Lab,
}

impl Place {
    /// Makes the network. The thread that measures has to be in it.
    pub(super) fn network() -> Result<Lab, BenchError> {
        let lab = Lab::build(&lab::Plan { prefix: "pen-bench", balancers: 0, backends: 0, clients: 1 })?;
        let namespace = &lab.client.namespace;
        namespace.sysctl("ipv4/ip_local_port_range", &format!("{} 65535", PORTS.end))?;
        // What one proxy's connections leave behind (TIME-WAIT) is not to burden the next one.
        namespace.sysctl("ipv4/tcp_max_tw_buckets", "1024")?;
        Ok(lab)
    }

    /// Starts the backends; the calling thread is in the network's namespace. Proxies will have `proxy_cpu` for
    /// themselves; the calling thread, and what it starts otherwise, moves to another one where there is another one.
    pub(super) fn new(lab: Lab, proxy_cpu: usize, connections: usize) -> Result<Self, BenchError> {
        allow_descriptors(2 * connections as u64 + SPARE_DESCRIPTORS)?;
        let allowed = sched_getaffinity(None).map_err(BenchError::of("ask for the CPUs"))?;
        let mut others = (0..CpuSet::MAX_CPU).filter(|&cpu| cpu != proxy_cpu && allowed.is_set(cpu));
        pin(others.next().unwrap_or(proxy_cpu))?;
        let servers = Servers::start().map_err(BenchError::of("start the backends"))?;
        Ok(Self { next_port: AtomicU16::new(0), proxy_cpu, servers, lab })
    }

    /// Runs `work` on a thread of its own on the proxies' processor; processes started there stay on it.
    pub(super) fn on_proxy_cpu<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, BenchError> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| pin(self.proxy_cpu).map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// An address that nobody has listened on lately.
    pub(super) fn fresh_address(&self) -> SocketAddr {
        let number = self.next_port.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u16;
        SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + number))
    }

    /// Where the backends are.
    pub(super) fn backends(&self, protocol: Protocol) -> &[SocketAddr] {
        match protocol {
            Protocol::Tcp => &self.servers.tcp,
            Protocol::Udp => &self.servers.udp,
        }
    }

    /// Fails once the backends have ended.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        if self.servers.have_ended() {
            return Err(BenchError::of("the backends")("they ended unexpectedly"));
        }
        Ok(())
    }

    /// Its network.
    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }
}

/// Makes sure that this process, and each that it starts, may have so many descriptors.
fn allow_descriptors(wanted: u64) -> Result<(), BenchError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .map_err(BenchError::of(&format!("raise the limit of open files to {wanted} (ulimit -Hn)")))
}
