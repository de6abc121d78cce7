//! What is known of every watched address, and what to ask the kernel next: decides, and does no I/O.
//!
//! An address is routed first, then looked for in the kernel's neighbor table, then solicited if it is not there.
//! A MAC, once known, stands until the kernel has given up a *broadcast* solicitation (NUD_FAILED): an entry that
//! fails after unicast probes, is flushed or collected is asked for again first, because a backend that merely
//! changed its MAC answers then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::dataplane::Mac;
use crate::surroundings::{Link, Links, Resolution, Watched};

/// An entry not confirmed for this long is probed.
const CONFIRMED_FOR: Duration = Duration::from_secs(3);
/// A failure reported sooner than this after a solicitation is older news: the kernel takes seconds to give up.
const OLD_NEWS: Duration = Duration::from_millis(100);
/// A lost neighbor is asked for again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Solicitations under way at most: each occupies an entry of the kernel's table, which holds 1024 by default
/// (`gc_thresh3`) and is shared by the whole machine.
const ASKED_AT_MOST: usize = 256;
/// Of which for neighbors that are lost already, so that news never waits for the dead.
const LOST_ASKED_AT_MOST: usize = 128;

/// Where an address is routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To a link.
    OnLink { ifindex: u32 },
    /// Through a gateway.
    Gateway { gateway: String, ifindex: u32 },
    /// To this host.
    Local,
    /// Nowhere, with the reason.
    Nowhere(String),
}

/// What the kernel's neighbor table says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A MAC.
    Valid {
        mac: Mac,
        /// When the kernel last had proof of it.
        confirmed: Instant,
        /// It may be probed: neither kept by an administrator or a routing daemon, nor being probed already.
        may_probe: bool,
    },
    /// The kernel is soliciting it.
    Incomplete,
    /// The kernel gave up.
    Failed,
    /// No entry.
    Gone,
}

/// What to ask of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Look up the route to an address.
    Route(IpAddr),
    /// Have it solicited by broadcast (multicast).
    Ask { ifindex: u32, address: IpAddr },
    /// Have its MAC probed by unicast.
    Probe { ifindex: u32, address: IpAddr },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The neighbor table has not been looked at yet.
    Unseen,
    /// Waits for its turn to be solicited.
    ToAsk,
    /// Being solicited.
    Asked { at: Instant },
    /// In the neighbor table.
    Answered,
    /// Given up.
    Lost { at: Instant },
}

#[derive(Debug)]
struct Entry {
    fixed_mac: Option<Mac>,
    way: Option<Way>,
    /// The last MAC, kept until the neighbor is lost.
    mac: Option<Mac>,
    /// Why it was given up; forgotten when it answers.
    lost: Option<String>,
    standing: Standing,
    told: Option<Resolution>,
}

/// All watched addresses.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<IpAddr, Entry>,
    links: Links,
    to_route: BTreeSet<IpAddr>,
    to_probe: VecDeque<IpAddr>,
    to_ask: VecDeque<IpAddr>,
    to_ask_lost: VecDeque<IpAddr>,
    news: BTreeMap<IpAddr, Resolution>,
}

impl Table {
    /// Watch exactly these from now on.
    pub(super) fn watch(&mut self, wanted: BTreeSet<Watched>) {
        let wanted: BTreeMap<IpAddr, Option<Mac>> =
            wanted.into_iter().map(|w| (w.address, w.fixed_mac)).collect();
        self.entries.retain(|address, _| wanted.contains_key(address));
        self.news.retain(|address, _| wanted.contains_key(address));
        for (address, fixed_mac) in wanted {
            if self.entries.get(&address).is_some_and(|entry| entry.fixed_mac == fixed_mac) {
                continue;
            }
            self.entries.insert(address, Entry::new(fixed_mac));
            self.to_route.insert(address);
        }
    }

    /// Nothing is watched.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The interfaces changed: routes may have, and one that came up is worth asking on.
    pub(super) fn links(&mut self, links: Links) {
        let essence = |links: &Links| -> Vec<_> {
            links.values().map(|link| (link.index, link.name.clone(), link.ethernet, link.up)).collect()
        };
        if essence(&self.links) == essence(&links) {
            return;
        }
        self.links = links;
        let addresses: Vec<IpAddr> = self.entries.keys().copied().collect();
        for address in addresses {
            self.to_route.insert(address);
            self.link_of_lost_changed(address);
            self.tell(address);
        }
    }

    /// A lost neighbor is worth asking for again when its link comes up; when that goes down, it is why.
    fn link_of_lost_changed(&mut self, address: IpAddr) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        let Some(link) = entry.asks_on().and_then(|ifindex| self.links.get(&ifindex)) else { return };
        if !matches!(entry.standing, Standing::Lost { .. }) {
            return;
        }
        if link.up {
            entry.standing = Standing::ToAsk;
            self.to_ask.push_back(address);
        } else {
            entry.lost = Some(is_down(link));
        }
    }

    /// Routes changed; those to `prefix` only, where it is known.
    pub(super) fn routes_changed(&mut self, prefix: Option<(IpAddr, u8)>) {
        let affected =
            |address: &IpAddr| prefix.is_none_or(|(network, bits)| contains(network, bits, *address));
        self.to_route.extend(self.entries.keys().copied().filter(affected));
    }

    /// The kernel said where an address is routed.
    pub(super) fn routed(&mut self, address: IpAddr, way: Way) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if entry.way.as_ref() != Some(&way) {
            entry.way = Some(way);
            entry.mac = None;
            entry.lost = None;
            entry.standing = Standing::Unseen;
        }
        self.tell(address);
    }

    /// Some addresses are routed, but the neighbor table has not been looked at for them.
    pub(super) fn has_unseen(&self) -> bool {
        self.entries.values().any(|entry| entry.standing == Standing::Unseen && entry.asks_on().is_some())
    }

    /// The kernel's neighbor table changed at one entry.
    pub(super) fn heard(&mut self, ifindex: u32, address: IpAddr, seen: Seen, now: Instant) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        if entry.asks_on() != Some(ifindex) {
            return;
        }
        match (seen, entry.standing) {
            (Seen::Valid { mac, .. }, _) => {
                entry.mac = Some(mac);
                entry.lost = None;
                entry.standing = Standing::Answered;
            }
            (Seen::Incomplete, Standing::Unseen | Standing::Answered) => {
                entry.standing = Standing::Asked { at: now }
            }
            (Seen::Failed, Standing::Asked { at }) => {
                if now.saturating_duration_since(at) >= OLD_NEWS {
                    self.lose(address, None, now);
                }
            }
            (Seen::Failed | Seen::Gone, Standing::Unseen | Standing::Answered)
            | (Seen::Gone, Standing::Asked { .. }) => {
                entry.standing = Standing::ToAsk;
                self.to_ask.push_back(address);
            }
            (Seen::Incomplete | Seen::Failed | Seen::Gone, _) => {}
        }
        self.tell(address);
    }

    /// The kernel's whole neighbor table, as of `now`: catches what was missed, has what is unproven probed, and
    /// asks again for the lost, who waited longest first.
    pub(super) fn sweep(&mut self, dump: &BTreeMap<(u32, IpAddr), Seen>, now: Instant) {
        let on_link: Vec<(u32, IpAddr)> = self
            .entries
            .iter()
            .filter_map(|(address, entry)| entry.asks_on().map(|ifindex| (ifindex, *address)))
            .collect();
        let mut lost = Vec::new();
        self.to_probe.clear();
        for (ifindex, address) in on_link {
            let seen = dump.get(&(ifindex, address)).copied().unwrap_or(Seen::Gone);
            self.heard(ifindex, address, seen, now);
            if let Seen::Valid { confirmed, may_probe: true, .. } = seen
                && now.saturating_duration_since(confirmed) >= CONFIRMED_FOR
            {
                self.to_probe.push_back(address);
            }
            if let Some(Entry { standing: Standing::Lost { at }, .. }) = self.entries.get(&address)
                && now.saturating_duration_since(*at) >= ASK_AGAIN
            {
                lost.push((*at, address));
            }
        }
        lost.sort_unstable();
        for (_, address) in lost {
            if let Some(entry) = self.entries.get_mut(&address) {
                entry.standing = Standing::ToAsk;
                self.to_ask_lost.push_back(address);
            }
        }
    }

    /// Something is to be asked of the kernel.
    pub(super) fn has_work(&self) -> bool {
        !(self.to_route.is_empty()
            && self.to_probe.is_empty()
            && self.to_ask.is_empty()
            && self.to_ask_lost.is_empty())
    }

    /// What to ask of the kernel now, `at_most` so many things.
    pub(super) fn work(&mut self, at_most: usize) -> Vec<Action> {
        let mut work = Vec::new();
        while work.len() < at_most
            && let Some(address) = self.to_route.pop_first()
        {
            work.push(Action::Route(address));
        }
        while work.len() < at_most
            && let Some(address) = self.to_probe.pop_front()
        {
            if let Some(entry) = self.entries.get(&address)
                && entry.standing == Standing::Answered
                && let Some(ifindex) = entry.asks_on()
            {
                work.push(Action::Probe { ifindex, address });
            }
        }
        let mut asked =
            self.entries.values().filter(|entry| matches!(entry.standing, Standing::Asked { .. })).count();
        while work.len() < at_most
            && let Some(address) = self.next_to_ask(asked)
        {
            if let Some(entry) = self.entries.get(&address)
                && entry.standing == Standing::ToAsk
                && let Some(ifindex) = entry.asks_on()
            {
                work.push(Action::Ask { ifindex, address });
                asked += 1;
            }
        }
        work
    }

    fn next_to_ask(&mut self, asked: usize) -> Option<IpAddr> {
        if asked >= ASKED_AT_MOST {
            return None;
        }
        let urgent = self.to_ask.pop_front();
        if urgent.is_none() && asked < LOST_ASKED_AT_MOST { self.to_ask_lost.pop_front() } else { urgent }
    }

    /// The kernel is soliciting an address since `now`, or says why not.
    pub(super) fn asked(&mut self, address: IpAddr, result: Result<(), String>, now: Instant) {
        match result {
            Ok(()) => {
                if let Some(entry) = self.entries.get_mut(&address)
                    && entry.standing == Standing::ToAsk
                {
                    entry.standing = Standing::Asked { at: now };
                }
            }
            Err(why) => self.lose(address, Some(why), now),
        }
        self.tell(address);
    }

    fn lose(&mut self, address: IpAddr, why: Option<String>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        let Some(ifindex) = entry.asks_on() else { return };
        entry.mac = None;
        entry.standing = Standing::Lost { at: now };
        entry.lost = Some(match self.links.get(&ifindex) {
            Some(link) if !link.up => is_down(link),
            _ => why.unwrap_or_else(|| no_answer(&self.links, ifindex, address)),
        });
    }

    /// Takes note of what the controller has to hear, if it is new.
    fn tell(&mut self, address: IpAddr) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        let Some(resolution) = entry.resolution(&self.links) else { return };
        if entry.told.as_ref() != Some(&resolution) {
            entry.told = Some(resolution.clone());
            self.news.insert(address, resolution);
        }
    }

    /// There is something to tell the controller.
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The next thing to tell the controller.
    pub(super) fn next_news(&mut self) -> Option<(IpAddr, Resolution)> {
        self.news.pop_first()
    }
}

impl Entry {
    fn new(fixed_mac: Option<Mac>) -> Self {
        Self { fixed_mac, way: None, mac: None, lost: None, standing: Standing::Unseen, told: None }
    }

    /// The interface to solicit on, where a MAC is to be found out.
    fn asks_on(&self) -> Option<u32> {
        match (&self.way, self.fixed_mac) {
            (Some(Way::OnLink { ifindex }), None) => Some(*ifindex),
            _ => None,
        }
    }

    /// What is known now; `None` while that is nothing.
    fn resolution(&self, links: &Links) -> Option<Resolution> {
        let ifindex = match self.way.as_ref()? {
            Way::Local => return Some(Resolution::Local),
            Way::Nowhere(why) => return Some(Resolution::Unreachable(why.clone())),
            Way::Gateway { gateway, .. } if self.fixed_mac.is_none() => {
                let why = format!("behind gateway {gateway}: a DSR backend must be on the same link");
                return Some(Resolution::Unreachable(why));
            }
            Way::Gateway { ifindex, .. } | Way::OnLink { ifindex } => *ifindex,
        };
        if links.get(&ifindex).is_some_and(|link| !link.ethernet) {
            let why = format!("behind {}, which carries no Ethernet frames", name_of(links, ifindex));
            return Some(Resolution::Unreachable(why));
        }
        if let Some(mac) = self.fixed_mac.or(self.mac) {
            return Some(Resolution::OnLink { mac, ifindex });
        }
        self.lost.clone().map(Resolution::Unreachable)
    }
}

fn name_of(links: &Links, ifindex: u32) -> String {
    links.get(&ifindex).map_or_else(|| format!("interface {ifindex}"), |link| link.name.clone())
}

fn is_down(link: &Link) -> String {
    format!("{} is down", link.name)
}

fn no_answer(links: &Links, ifindex: u32, address: IpAddr) -> String {
    let question = if address.is_ipv4() { "ARP" } else { "neighbor solicitation" };
    format!("no answer to {question} on {}", name_of(links, ifindex))
}

/// `address` is in `network/bits`.
fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(v4) => (32, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    };
    let ((width, network), (other_width, address)) = (wide(network), wide(address));
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    width == other_width && (network ^ address) & mask == 0
}

#[cfg(test)]
mod tests;
