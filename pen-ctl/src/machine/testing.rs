//! A small network for tests: the balancer's namespace and a backends' namespace, joined by a pair of veths.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::LinkNameSpaceType;
use tokio::sync::mpsc;

use super::Machine;
use crate::metrics::timings::Timings;
use crate::needs;
use crate::surroundings::{Event, Link, Links, Resolution, Watched};

/// No event that is waited for takes this long unless it does not come at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the test can run; says why not, and fails if it must.
pub(crate) fn can_run() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        Some("root")
    } else if Command::new("ip").arg("-V").output().is_err() {
        Some("iproute2")
    } else {
        None
    };
    needs::met(missing)
}

/// Interface `pen0` (10.9.0.1/24, fd09::1/64) in the balancer's namespace, `far0` without addresses in the other.
pub(crate) struct Net {
    balancer: String,
    backends: String,
}

impl Net {
    /// Makes the namespaces.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("pen-net-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let net = Self { balancer: format!("{id}-lb"), backends: format!("{id}-be") };
        for name in [&net.balancer, &net.backends] {
            run(&format!("ip netns add {name}"));
            run(&format!("ip -n {name} link set lo up"));
        }
        let (balancer, backends) = (&net.balancer, &net.backends);
        run(&format!("ip -n {balancer} link add pen0 type veth peer name far0 netns {backends}"));
        net.far("ip link set far0 up");
        net.near("ip link set pen0 up");
        net.near("ip addr add 10.9.0.1/24 dev pen0");
        net.near("ip addr add fd09::1/64 dev pen0 nodad");
        net
    }

    /// Runs an `ip` command in the balancer's namespace.
    pub(crate) fn near(&self, command: &str) {
        run(&command.replacen("ip ", &format!("ip -n {} ", self.balancer), 1));
    }

    /// Runs an `ip` command in the balancer's namespace and gives what it printed.
    pub(crate) fn near_output(&self, command: &str) -> String {
        run(&command.replacen("ip ", &format!("ip -n {} ", self.balancer), 1))
    }

    /// The same of a `tc` command, named without its first word.
    pub(crate) fn near_tc(&self, words: &str) -> String {
        run(&format!("tc -n {} {words}", self.balancer))
    }

    /// Runs an `ip` command in the backends' namespace.
    pub(crate) fn far(&self, command: &str) {
        run(&command.replacen("ip ", &format!("ip -n {} ", self.backends), 1));
    }

    /// Runs `work` on a thread in the balancer's namespace, with a runtime whose sockets are all there.
    pub(crate) fn in_balancer<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        in_namespace(&self.balancer, || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
        })
    }

    /// Runs `work` on a thread in the backends' namespace.
    pub(crate) fn in_backends<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(&self.backends, work)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.balancer, &self.backends] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn in_namespace<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A [`Machine`] with what it said so far.
pub(crate) struct Heard {
    pub(crate) machine: Machine,
    events: mpsc::Receiver<Event>,
    /// The interfaces as last told.
    pub(crate) links: Links,
    since: Instant,
}

impl Heard {
    /// Starts a machine in the current namespace.
    pub(crate) fn start() -> Self {
        let (sender, events) = mpsc::channel(16);
        let machine = Machine::start(sender, Timings::default()).unwrap();
        Self { machine, events, links: Links::new(), since: Instant::now() }
    }

    /// The next event, printed.
    pub(crate) async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("nothing heard").unwrap();
        match &event {
            Event::Links(links) => {
                self.links.clone_from(links);
                println!("{:6} ms: {} links", self.since.elapsed().as_millis(), links.len());
            }
            other => println!("{:6} ms: {other:?}", self.since.elapsed().as_millis()),
        }
        event
    }

    /// The next event that is not about links.
    pub(crate) async fn next_other(&mut self) -> Event {
        loop {
            match self.next().await {
                Event::Links(_) => {}
                other => return other,
            }
        }
    }

    /// Waits for the interfaces to become as `wanted`.
    pub(crate) async fn links_until(&mut self, wanted: impl Fn(&Links) -> bool) {
        while !wanted(&self.links) {
            self.next().await;
        }
    }

    /// The next word on `address`.
    pub(crate) async fn neighbor(&mut self, address: &str) -> Resolution {
        let wanted: IpAddr = address.parse().unwrap();
        loop {
            match self.next().await {
                Event::Neighbor { address, resolution } if address == wanted => return resolution,
                _ => {}
            }
        }
    }

    /// Nothing is said of neighbors and health for this long.
    pub(crate) async fn silent_for(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(event) = tokio::time::timeout_at(end, self.events.recv()).await {
            assert!(matches!(event, Some(Event::Links(_))), "{event:?}");
        }
    }

    /// The interface of that name.
    pub(crate) fn link(&self, name: &str) -> Link {
        named(&self.links, name).unwrap().clone()
    }
}

/// The interface of that name.
pub(crate) fn named<'a>(links: &'a Links, name: &str) -> Option<&'a Link> {
    links.values().find(|link| link.name == name)
}

/// Addresses to watch, without fixed MACs.
pub(crate) fn watched<'a>(
    addresses: impl IntoIterator<Item = &'a str>,
) -> std::collections::BTreeSet<Watched> {
    addresses
        .into_iter()
        .map(|address| Watched { address: address.parse().unwrap(), fixed_mac: None })
        .collect()
}
