//! A whole set-up: a lab whose backends serve and whose balancer runs pen with four services on two VIPs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::address::{Family, client, vip};
use super::controller::Controller;
use super::server::ServerProcess;
use super::{Error, Lab, Plan, Result, dns, http, needs};

/// How backends are checked in labs: a dead server shows within half a second, a silent one within a second or two.
pub const HEALTH: &str = "tcp,interval=200ms,timeout=500ms,rise=2,fall=2";
/// How long a client waits for anything.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// HTTP over TCP.
    Web,
    /// DNS over UDP.
    Dns,
}

impl Kind {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Web, Self::Dns];
}

/// The programs a cluster runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This crate's binary: the servers.
    pub xtask: PathBuf,
    /// pen itself.
    pub pen_ctl: PathBuf,
}

impl Programs {
    /// `pen-ctl` beside an xtask binary.
    pub fn beside(xtask: &Path) -> Self {
        Self { xtask: xtask.to_owned(), pen_ctl: xtask.with_file_name("pen-ctl") }
    }
}

/// A lab with its servers and controllers; dropping it ends and removes everything.
pub struct Cluster {
    /// pen on each balancer.
    pub controllers: Vec<Controller>,
    /// The servers that run, by backend.
    pub servers: BTreeMap<String, ServerProcess>,
    /// The network.
    pub lab: Lab,
    /// What runs in it.
    pub programs: Programs,
}

impl Cluster {
    /// Builds the network, with servers on every backend and pen prepared, not started, on every balancer.
    pub fn build(plan: &Plan, programs: Programs) -> Result<Self> {
        let mut cluster = Self::build_without_servers(plan, programs)?;
        let names: Vec<String> = cluster.lab.backends.iter().map(|host| host.name.clone()).collect();
        names.iter().try_for_each(|name| cluster.start_server(name))?;
        Ok(cluster)
    }

    /// The same, but nothing runs on the backends yet; they own the VIPs.
    pub fn build_without_servers(plan: &Plan, programs: Programs) -> Result<Self> {
        let lab = Lab::build(plan)?;
        lab.bound_transfers()?;
        let controllers = (0..lab.balancers.len())
            .map(|index| Controller::prepare(&lab, index, &programs.pen_ctl))
            .collect::<Result<_>>()?;
        for host in &lab.backends {
            host.own_vips(&programs.pen_ctl, lab.directory(), &vips())
                .map_err(|e| Error::Failed { what: host.name.clone(), why: e.to_string() })?;
        }
        Ok(Self { controllers, servers: BTreeMap::new(), lab, programs })
    }

    /// For a test: a cluster of this size with pen running; `None` (and said so) where the machine lacks what
    /// it takes. `xtask` is `env!("CARGO_BIN_EXE_xtask")`.
    ///
    /// # Panics
    /// Where it cannot be built.
    pub fn for_test(xtask: &str, balancers: u8, backends: u8) -> Option<Self> {
        let mut cluster = Self::unstarted_for_test(xtask, balancers, backends)?;
        let started = cluster.controllers.iter_mut().try_for_each(|controller| controller.start(""));
        if let Err(error) = started {
            panic!("{error}");
        }
        Some(cluster)
    }

    /// The same without any controller running.
    ///
    /// # Panics
    /// Where it cannot be built.
    pub fn unstarted_for_test(xtask: &str, balancers: u8, backends: u8) -> Option<Self> {
        if !needs::met() {
            return None;
        }
        let plan = Plan { prefix: "pen-test", balancers, backends, clients: 120 };
        match Self::build(&plan, programs_for_test(xtask)) {
            Ok(cluster) => Some(cluster),
            Err(error) => panic!("{error}"),
        }
    }

    /// For a test: one balancer with pen running, and so many backends on which nothing runs yet; `None` (and said
    /// so) where the machine lacks what it takes, these programs (each with its package) among it.
    ///
    /// # Panics
    /// Where it cannot be built.
    pub fn without_servers_for_test(xtask: &str, backends: u8, needed: &[(&str, &str)]) -> Option<Self> {
        Self::prepared_for_test(xtask, backends, needed, |cluster| cluster.start_seeded(""))
    }

    /// The same, but what runs is the proxy, and the balancer itself has the VIPs.
    ///
    /// # Panics
    /// Where it cannot be built.
    pub fn proxied_for_test(xtask: &str, backends: u8, needed: &[(&str, &str)]) -> Option<Self> {
        Self::prepared_for_test(xtask, backends, needed, |cluster| {
            for vip in vips() {
                let length = if vip.is_ipv4() { 32 } else { 128 };
                // Deprecated: connections to backends, which own it too, do not come from it.
                let words = format!("addr add {vip}/{length} dev eth0 preferred_lft 0");
                cluster.lab.balancers[0].namespace.ip(&words)?;
            }
            cluster.start_seeded("--dataplane proxy")
        })
    }

    /// Starts the first balancer's pen with a seed that is the same each time: who gets which backend is no matter of
    /// luck then, and a handful of newcomers suffices to find every one.
    fn start_seeded(&mut self, words: &str) -> Result<()> {
        let file = self.lab.directory().join("seed.toml");
        fs::write(&file, "seed = \"5eed000000000001\"\n")
            .map_err(|e| Error::io("write a file with a seed", e))?;
        self.pen_mut().start(&format!("{words} -c {}", file.display()))
    }

    fn prepared_for_test(
        xtask: &str,
        backends: u8,
        needed: &[(&str, &str)],
        start: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Option<Self> {
        if !needs::met_with(needed) {
            return None;
        }
        let plan = Plan { prefix: "pen-test", balancers: 1, backends, clients: 120 };
        let built = Self::build_without_servers(&plan, programs_for_test(xtask)).and_then(|mut cluster| {
            start(&mut cluster)?;
            Ok(cluster)
        });
        match built {
            Ok(cluster) => Some(cluster),
            Err(error) => panic!("{error}"),
        }
    }

    /// The first balancer's pen.
    pub fn pen(&self) -> &Controller {
        &self.controllers[0]
    }

    /// The first balancer's pen, to start and kill.
    pub fn pen_mut(&mut self) -> &mut Controller {
        &mut self.controllers[0]
    }

    /// Starts (again) the servers of a backend.
    pub fn start_server(&mut self, name: &str) -> Result<()> {
        let host = self
            .lab
            .backend(name)
            .ok_or_else(|| Error::Failed { what: name.to_owned(), why: "no such backend".to_owned() })?;
        let server = ServerProcess::start(&self.programs.xtask, host, &vips())?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// Kills the servers of a backend.
    pub fn kill_server(&mut self, name: &str) {
        drop(self.servers.remove(name));
    }

    /// Attaches pen and adds services `web`, `web6`, `dns`, `dns6` with these backends; returns once all serve.
    pub fn configure(&self, controller: usize, backends: &[&str]) -> Result<()> {
        self.controllers[controller].ok("attach eth0")?;
        self.configure_services(controller, backends)
    }

    /// The same without attaching.
    pub fn configure_services(&self, controller: usize, backends: &[&str]) -> Result<()> {
        let pen = &self.controllers[controller];
        for (kind, family) in services() {
            let name = service_name(kind, family);
            let (port, protocol) = match kind {
                Kind::Web => (http::PORT, "tcp"),
                Kind::Dns => (dns::PORT, "udp"),
            };
            let at = SocketAddr::new(vip(family, 1), port);
            pen.ok(&format!("service add {name} {at}/{protocol} --health {HEALTH},port={port}"))?;
            for backend in backends {
                self.add_backend(pen, kind, family, backend)?;
            }
        }
        services().try_for_each(|(kind, family)| {
            pen.await_serving(service_name(kind, family), &self.addresses(family, backends))
        })
    }

    /// Adds a backend to a service.
    pub fn add_backend(&self, pen: &Controller, kind: Kind, family: Family, backend: &str) -> Result<()> {
        let address = self.address(family, backend);
        pen.ok(&format!("backend add {} {address}", service_name(kind, family))).map(drop)
    }

    /// Has a line of the form `backend WHAT SERVICE ADDRESS WORDS` done for a backend in all four services.
    pub fn for_all_services(&self, what: &str, backend: &str, words: &str) -> Result<()> {
        services().try_for_each(|(kind, family)| {
            let (service, address) = (service_name(kind, family), self.address(family, backend));
            self.pen().ok(&format!("backend {what} {service} {address} {words}")).map(drop)
        })
    }

    /// Waits until exactly these backends get newcomers, in all four services.
    pub fn await_serving(&self, backends: &[&str]) -> Result<()> {
        services().try_for_each(|(kind, family)| {
            self.pen().await_serving(service_name(kind, family), &self.addresses(family, backends))
        })
    }

    /// Own addresses of backends.
    pub fn addresses(&self, family: Family, backends: &[&str]) -> Vec<IpAddr> {
        backends.iter().map(|name| self.address(family, name)).collect()
    }

    /// Own address of a backend.
    ///
    /// # Panics
    /// Where there is no such backend.
    pub fn address(&self, family: Family, backend: &str) -> IpAddr {
        match self.lab.backend(backend) {
            Some(host) => host.address(family),
            None => panic!("no backend {backend}"),
        }
    }

    /// Asks once, from the `n`-th client, who answers.
    pub fn who(&self, kind: Kind, family: Family, n: u8) -> io::Result<String> {
        let (source, to) = (client(family, n), target(kind, family));
        self.lab.client.namespace.run(|| ask(kind, source, to, CLIENT_PATIENCE))
    }

    /// Asks once for each of the first `clients` clients, in all four services, who answers.
    pub fn assignments(&self, clients: u8) -> io::Result<BTreeMap<(Kind, &'static str, u8), String>> {
        let each = services().flat_map(|service| (1..=clients).map(move |n| (service, n)));
        each.map(|((kind, family), n)| {
            Ok(((kind, service_name(kind, family), n), self.who(kind, family, n)?))
        })
        .collect()
    }

    /// A connection of the `n`-th client to the web service, kept by the caller.
    pub fn connect(&self, family: Family, n: u8) -> io::Result<http::Connection> {
        let (source, to) = (client(family, n), target(Kind::Web, family));
        self.lab.client.namespace.run(|| http::Connection::open(source, to, CLIENT_PATIENCE))
    }
}

/// The programs of this build, pen-ctl built for the occasion.
///
/// # Panics
/// Where it does not build.
pub fn programs_for_test(xtask: &str) -> Programs {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--quiet", "--package", "pen-ctl"]).status();
    assert!(built.is_ok_and(|status| status.success()), "pen-ctl does not build");
    Programs::beside(Path::new(xtask))
}

/// Asks once from the calling thread's network namespace who answers.
pub fn ask(kind: Kind, source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    match kind {
        Kind::Web => http::who(source, to, patience),
        Kind::Dns => dns::who(source, to, patience),
    }
}

/// The four services.
pub fn services() -> impl Iterator<Item = (Kind, Family)> + Clone {
    Kind::BOTH.into_iter().flat_map(|kind| Family::BOTH.map(|family| (kind, family)))
}

/// What a service is called.
pub fn service_name(kind: Kind, family: Family) -> &'static str {
    match (kind, family) {
        (Kind::Web, Family::V4) => "web",
        (Kind::Web, Family::V6) => "web6",
        (Kind::Dns, Family::V4) => "dns",
        (Kind::Dns, Family::V6) => "dns6",
    }
}

/// Where a service is.
pub fn target(kind: Kind, family: Family) -> SocketAddr {
    let port = match kind {
        Kind::Web => http::PORT,
        Kind::Dns => dns::PORT,
    };
    SocketAddr::new(vip(family, 1), port)
}

/// The VIPs that backends of a cluster own.
pub fn vips() -> [IpAddr; 2] {
    Family::BOTH.map(|family| vip(family, 1))
}
