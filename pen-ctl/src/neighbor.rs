//! MACs of backends: routed, solicited and watched over rtnetlink, and probed so that a silent change is found.
//!
//! A backend that changed its MAC without telling is found within ten seconds: every two seconds each entry without
//! proof for three is probed by unicast, which the kernel gives up after three more, and then asked for by
//! broadcast, which the new MAC answers at once. Nothing of this disturbs an entry that is healthy.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::background::Background;
use crate::machine::netlink::{Asker, Listener, Notice};
use crate::surroundings::{Event, Links, Watched};
use table::{Action, Seen, Table, Way};

pub(crate) mod kernel;
pub(crate) mod table;
#[cfg(test)]
mod tests;

/// How often the whole neighbor table is looked at.
const SWEEP: Duration = Duration::from_secs(2);
/// Requests to the kernel are made in batches of [`BATCH`] so far apart: at most 12,800 a second.
const PACE: Duration = Duration::from_millis(10);
const BATCH: usize = 128;

const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Resolves and watches addresses for as long as it lives.
pub(crate) struct Neighbors {
    wanted: watch::Sender<BTreeSet<Watched>>,
    _task: Background,
}

impl Neighbors {
    /// Starts to listen; there is nothing to watch yet.
    pub(crate) fn start(links: watch::Receiver<Links>, events: mpsc::Sender<Event>) -> io::Result<Self> {
        let (sender, wanted) = watch::channel(BTreeSet::new());
        let resolver =
            Resolver { listener: Listener::open(GROUPS)?, asker: Asker::open()?, table: Table::default() };
        Ok(Self { wanted: sender, _task: Background::spawn(resolver.run(wanted, links, events)) })
    }

    /// Watch exactly these from now on.
    pub(crate) fn watch(&self, addresses: BTreeSet<Watched>) {
        self.wanted.send_replace(addresses);
    }
}

struct Resolver {
    listener: Listener,
    asker: Asker,
    table: Table,
}

impl Resolver {
    async fn run(
        mut self,
        mut wanted: watch::Receiver<BTreeSet<Watched>>,
        mut links: watch::Receiver<Links>,
        events: mpsc::Sender<Event>,
    ) {
        let mut sweep = tokio::time::interval(SWEEP);
        let mut pace = tokio::time::interval(PACE);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                permit = events.reserve(), if self.table.has_news() => match (permit, self.table.next_news()) {
                    (Ok(permit), Some((address, resolution))) => permit.send(Event::Neighbor { address, resolution }),
                    (Err(_), _) => return,
                    (Ok(_), None) => {}
                },
                Ok(()) = wanted.changed() => {
                    let wanted = wanted.borrow_and_update().clone();
                    self.table.watch(wanted);
                }
                Ok(()) = links.changed() => {
                    let links = links.borrow_and_update().clone();
                    self.table.links(links);
                }
                _ = sweep.tick(), if !self.table.is_empty() => self.sweep().await,
                _ = pace.tick(), if self.table.has_work() => self.work().await,
                notice = self.listener.next() => self.hear(notice).await,
                else => return,
            }
        }
    }

    async fn hear(&mut self, notice: Notice) {
        let message = match notice {
            Notice::Missed => {
                tracing::debug!(
                    "changes of routes and neighbors came faster than they were read; looking at all"
                );
                self.table.routes_changed(None);
                return self.sweep().await;
            }
            Notice::Message(message) => message,
        };
        let now = Instant::now();
        match message {
            RouteNetlinkMessage::NewNeighbour(message) => {
                if let Some((ifindex, address, seen)) = kernel::seen(&message, now) {
                    self.table.heard(ifindex, address, seen, now);
                }
            }
            RouteNetlinkMessage::DelNeighbour(message) => {
                if let Some((ifindex, address, _)) = kernel::seen(&message, now) {
                    self.table.heard(ifindex, address, Seen::Gone, now);
                }
            }
            RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
                self.table.routes_changed(prefix(&message));
            }
            RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_)
            | RouteNetlinkMessage::NewRule(_)
            | RouteNetlinkMessage::DelRule(_) => self.table.routes_changed(None),
            _ => {}
        }
    }

    async fn sweep(&mut self) {
        let now = Instant::now();
        match kernel::dump(&self.asker).await {
            Ok(dump) => self.table.sweep(&dump, now),
            Err(error) => {
                tracing::warn!("look at the neighbor table: {error}");
                self.asker.mend();
            }
        }
    }

    async fn work(&mut self) {
        let asker = &self.asker;
        let actions = self.table.work(BATCH).into_iter().map(|action| carry_out(asker, action));
        for done in join_all(actions).await {
            match done {
                Done::Routed(address, Ok(way)) => self.table.routed(address, way),
                Done::Routed(address, Err(error)) => {
                    self.table.routed(address, Way::Nowhere(format!("looking up the route failed: {error}")));
                }
                Done::Asked(address, result) => self.table.asked(address, result, Instant::now()),
                Done::Probed => {}
            }
        }
        self.asker.mend();
        if self.table.has_unseen() {
            self.sweep().await;
        }
    }
}

enum Done {
    Routed(IpAddr, io::Result<Way>),
    Asked(IpAddr, Result<(), String>),
    Probed,
}

async fn carry_out(asker: &Asker, action: Action) -> Done {
    match action {
        Action::Route(address) => Done::Routed(address, kernel::route(asker, address).await),
        Action::Ask { ifindex, address } => {
            let result = kernel::ask(asker, ifindex, address).await;
            Done::Asked(address, result.map_err(|error| why_not_asked(address, &error)))
        }
        Action::Probe { ifindex, address } => {
            // The entry may have gone meanwhile; the next sweep sees that.
            if let Err(error) = kernel::probe(asker, ifindex, address).await {
                tracing::debug!("probe {address}: {error}");
            }
            Done::Probed
        }
    }
}

fn why_not_asked(address: IpAddr, error: &io::Error) -> String {
    if error.raw_os_error() == Some(libc::ENOBUFS) {
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let why = format!("the kernel's neighbor table is full; raise net.{family}.neigh.default.gc_thresh3");
        tracing::warn!("resolve {address}: {why}");
        return why;
    }
    format!("soliciting failed: {error}")
}

/// Where a route leads; `None` where that is not known.
fn prefix(message: &RouteMessage) -> Option<(IpAddr, u8)> {
    let network = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    Some((network, message.header.destination_prefix_length))
}
