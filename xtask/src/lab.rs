//! Networks of namespaces on this machine, for the demo and the tests: clients, balancers and backends around a
//! bridge that stands in a namespace of its own, so that nothing of the machine's own network is touched.
//!
//! ```text
//!   client ──┐              ┌── b1
//!            ├── switch ────┼── b2
//!   pen1 ────┘   (bridge)   └── b3
//! ```

pub mod address;
pub mod capture;
pub mod cluster;
pub mod controller;
pub mod daemon;
pub mod dns;
pub mod dnsperf;
pub mod exim;
pub mod frame;
pub mod http;
pub mod namespace;
pub mod needs;
pub mod nginx;
pub mod nsd;
pub mod other_build;
pub mod ping;
pub mod second;
pub mod server;
pub mod smtp;
pub mod steady;
pub mod sys;
pub mod tcp;
pub mod traffic;
mod workplace;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use address::{Family, Role};
use namespace::Namespace;
use sys::{Offload, PassProgram};
use workplace::Workplace;

/// What can go wrong in a lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why it did not work.
        source: io::Error,
    },
    /// A command or a claim failed.
    #[error("{what}: {why}")]
    Failed {
        /// What was tried, on what.
        what: String,
        /// Why it did not work.
        why: String,
    },
    /// Something awaited did not happen.
    #[error("waited {} s in vain for {what}{}{last}", .bound.as_secs(), if .last.is_empty() { "" } else { "; last seen: " })]
    Timeout {
        /// What was awaited.
        what: String,
        /// For how long.
        bound: Duration,
        /// What was seen last; may be empty.
        last: String,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The system refused something.
    pub fn io(what: &str, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.to_owned(), source: source.into() }
    }
}

/// What a lab's functions give.
pub type Result<T> = std::result::Result<T, Error>;

/// What a lab consists of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// First word of all names: `pen-demo`, `pen-test`.
    pub prefix: &'static str,
    /// How many balancers.
    pub balancers: u8,
    /// How many backends.
    pub backends: u8,
    /// How many addresses of each family the client has.
    pub clients: u8,
}

/// A network of namespaces; dropping it removes everything, whoever still runs there.
pub struct Lab {
    name: String,
    /// Where the clients are.
    pub client: Host,
    /// Where pen runs.
    pub balancers: Vec<Host>,
    /// Where the servers are.
    pub backends: Vec<Host>,
    /// Where the bridge is; its ports are named like the hosts.
    pub switch: Namespace,
    // Last, so that it goes last: controllers keep pins and logs there.
    workplace: Workplace,
}

/// A host of the lab: a namespace with `eth0` on the switch.
pub struct Host {
    /// `client`, `pen1`, `b2`: also the name of its port on the switch.
    pub name: String,
    /// Where it lives.
    pub namespace: Arc<Namespace>,
    /// MAC of its `eth0`.
    pub mac: [u8; 6],
    /// What it is, and which one.
    pub role: Role,
    _pass: Option<PassProgram>,
}

impl Lab {
    /// Builds it; sweeps away first what earlier, killed runs left behind.
    pub fn build(plan: &Plan) -> Result<Self> {
        workplace::sweep(plan.prefix);
        static RUN: AtomicU32 = AtomicU32::new(1);
        let name = format!("{}-{}-{}", plan.prefix, std::process::id(), RUN.fetch_add(1, Ordering::Relaxed));
        let workplace = Workplace::create(&name)?;
        let switch = build_switch(&name)?;
        let host = |role| Host::build(&name, &switch, role, plan.clients);
        let lab = Self {
            client: host(Role::Client)?,
            balancers: (1..=plan.balancers).map(|n| host(Role::Balancer(n))).collect::<Result<_>>()?,
            backends: (1..=plan.backends).map(|n| host(Role::Backend(n))).collect::<Result<_>>()?,
            name,
            switch,
            workplace,
        };
        lab.hosts().try_for_each(|host| lab.await_port(host))?;
        Ok(lab)
    }

    /// All its hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        [&self.client].into_iter().chain(&self.balancers).chain(&self.backends)
    }

    /// First part of the names of all its namespaces.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory of its own, gone with it.
    pub fn directory(&self) -> &Path {
        &self.workplace.directory
    }

    /// Mounts a bpffs in its directory.
    pub fn mount_bpffs(&self, name: &str) -> Result<PathBuf> {
        self.workplace.mount("bpf", name)
    }

    /// Mounts a file system that is all in memory in its directory.
    pub fn mount_tmpfs(&self, name: &str) -> Result<PathBuf> {
        self.workplace.mount("tmpfs", name)
    }

    /// The backend called so.
    pub fn backend(&self, name: &str) -> Option<&Host> {
        self.backends.iter().find(|host| host.name == name)
    }

    /// Sets the MTU of every interface: of the switch's ports, the bridge (which follows them) and all hosts.
    pub fn set_mtu(&self, mtu: u16) -> Result<()> {
        self.hosts().try_for_each(|host| {
            self.switch.ip(&format!("link set {} mtu {mtu}", host.name))?;
            host.namespace.ip(&format!("link set eth0 mtu {mtu}")).map(drop)
        })
    }

    /// Bounds what a TCP connection has under way to some 40 packets, so that long transfers do not overflow the queues
    /// of this machine's processors (`net.core.netdev_max_backlog`: 1,000 packets each, of all namespaces together), which
    /// would lose packets of others, and of other labs.
    pub fn bound_transfers(&self) -> Result<()> {
        self.hosts().try_for_each(|host| host.namespace.sysctl("ipv4/tcp_wmem", "4096 16384 65536"))
    }

    /// Which hosts lost UDP datagrams for want of room, and how many: no fault of whoever is tested.
    pub fn udp_overflows(&self) -> Result<Vec<(String, u64)>> {
        let each = self.hosts().map(|host| Ok((host.name.clone(), host.namespace.udp_overflows()?)));
        each.filter(|lost| !matches!(lost, Ok((_, 0)))).collect()
    }

    /// Takes a host's cable out of the switch: frames vanish silently, its own link stays up.
    pub fn unplug(&self, host: &Host) -> Result<()> {
        self.switch.ip(&format!("link set {} nomaster", host.name)).map(drop)
    }

    /// Puts it back.
    pub fn plug(&self, host: &Host) -> Result<()> {
        self.switch.ip(&format!("link set {} master bridge", host.name))?;
        self.await_port(host)
    }

    /// Waits until the bridge forwards for a host.
    fn await_port(&self, host: &Host) -> Result<()> {
        await_port(&self.switch, &host.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whoever else still holds a namespace: what runs there ends now.
        for host in self.hosts() {
            namespace::remove(host.namespace.name());
        }
    }
}

/// Waits until the bridge that a port belongs to forwards for it.
fn await_port(switch: &Namespace, port: &str) -> Result<()> {
    await_that(&format!("port {port} of the bridge to forward"), Duration::from_secs(10), || {
        let state = switch.ip(&format!("-d link show dev {port}"))?;
        Ok(if state.contains("state forwarding") { Ok(()) } else { Err(state) })
    })
}

/// A bridge that learns and floods at once, and says nothing by itself.
fn build_switch(lab: &str) -> Result<Namespace> {
    let switch = Namespace::create(&format!("{lab}-switch"))?;
    switch.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    switch.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    switch.ip("link add bridge type bridge forward_delay 0 stp_state 0 mcast_snooping 0")?;
    switch.ip("link set bridge up")?;
    Ok(switch)
}

impl Host {
    fn build(lab: &str, switch: &Namespace, role: Role, clients: u8) -> Result<Self> {
        let name = role.name();
        let namespace = Namespace::create(&format!("{lab}-{name}"))?;
        let mac = role.mac();
        let [a, b, c, d, e, f] = mac;
        switch.ip(&format!(
            "link add {name} type veth peer name eth0 address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} netns {}",
            namespace.name()
        ))?;
        for (place, interface) in [(&namespace, "eth0"), (switch, name.as_str())] {
            place
                .run(|| {
                    sys::disable_offload(interface, Offload::TransmitChecksum)?;
                    sys::disable_offload(interface, Offload::TransmitVlan)
                })
                .map_err(|e| Error::io(&format!("turn offloads of {name} off"), e))?;
        }
        let mut lines = "link set eth0 up\n".to_owned();
        for address in role.addresses(clients) {
            let (length, nodad) = if address.is_ipv4() { (16, "") } else { (64, "nodad") };
            lines.push_str(&format!("addr add {address}/{length} dev eth0 {nodad}\n"));
        }
        namespace.ip_batch(&lines)?;
        switch.ip(&format!("link set {name} master bridge up"))?;
        let pass = match role {
            Role::Balancer(_) => Some(
                switch
                    .run(|| PassProgram::attach(&name))
                    .map_err(|e| Error::io(&format!("attach a passing XDP program to {name}"), e))?,
            ),
            _ => None,
        };
        Ok(Self { name, namespace: Arc::new(namespace), mac, role, _pass: pass })
    }

    /// Its own address.
    pub fn address(&self, family: Family) -> std::net::IpAddr {
        self.role.address(family)
    }

    /// Has it own the VIPs as an administrator would: by `pen-ctl backend-setup --apply`.
    pub fn own_vips(&self, pen_ctl: &Path, directory: &Path, vips: &[std::net::IpAddr]) -> Result<()> {
        let vips: Vec<String> = vips.iter().map(ToString::to_string).collect();
        self.backend_setup(pen_ctl, directory, &format!("{} --apply", vips.join(" "))).map(drop)
    }

    /// `pen-ctl backend-setup` with these words, inside, with a record of its own in `directory`; gives what it
    /// printed.
    pub fn backend_setup(&self, pen_ctl: &Path, directory: &Path, words: &str) -> Result<String> {
        let mut command = Command::new(pen_ctl);
        command.arg("--state-dir").arg(directory.join(format!("{}.state", self.name))).arg("backend-setup");
        command.args(words.split_whitespace()).stdin(Stdio::null());
        let what = format!("pen-ctl backend-setup {words} on {}", self.name);
        let output = self.namespace.run(|| command.output()).map_err(|e| Error::io(&what, e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Failed { what, why: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }
}

/// Looks again and again until `look` gives `Ok(Ok(_))`; what it gives as `Ok(Err(_))` is shown when the bound
/// has passed. Ends early when interrupted.
pub fn await_that<T, E: ToString>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Result<std::result::Result<T, E>>,
) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        if sys::interrupted() {
            return Err(Error::Interrupted);
        }
        match look()? {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() > end => {
                return Err(Error::Timeout { what: what.to_owned(), bound, last: last.to_string() });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
