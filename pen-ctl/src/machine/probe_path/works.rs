//! Keeps what is in the kernel for probe addresses equal to what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::netlink::{Netlink, Route};
use super::numbers::{self, Numbers};
use super::programs::{Attached, Hook, Programs};
use super::turn::Turn;
use crate::health::place::Places;
use crate::surroundings::{Lane, Link, Links};

/// What is in the kernel.
pub(super) struct Works {
    hook: Hook,
    programs: Option<Programs>,
    attached: BTreeMap<u32, Attached>,
    numbers: Numbers,
    routes: BTreeMap<IpAddr, Route>,
    /// Probe addresses that lead nowhere by themselves. They stay until nothing was asked that way for a whole look, for
    /// checks that were under way may still have sockets that talk to one whose route is gone.
    dead_ends: BTreeSet<IpAddr>,
    /// Nothing was asked at the last look.
    idle: bool,
    /// Families of interfaces whose gateway is in the neighbor table.
    gateways: BTreeSet<(u32, bool)>,
    /// The addresses to ask backends from, found anew at each look: routes come and go.
    sources: BTreeMap<(IpAddr, u32), IpAddr>,
    links: Links,
    /// Held while there is anything, so that no other controller here takes it for what one that was killed left.
    turn: Option<Turn>,
    /// What a predecessor left was removed.
    swept: bool,
    ended: bool,
}

impl Works {
    /// Nothing is there yet.
    pub(super) fn new(hook: Hook) -> Self {
        Self {
            hook,
            programs: None,
            attached: BTreeMap::new(),
            numbers: Numbers::default(),
            routes: BTreeMap::new(),
            dead_ends: BTreeSet::new(),
            idle: false,
            gateways: BTreeSet::new(),
            sources: BTreeMap::new(),
            links: Links::new(),
            turn: None,
            swept: false,
            ended: false,
        }
    }

    /// Makes what is wanted, mends what others undid, removes the rest; returns the probe addresses, or why one cannot be
    /// had.
    pub(super) fn follow(&mut self, wanted: &BTreeSet<Lane>, links: &Links) -> Places {
        // The first look at the interfaces is still to come, or we are on our way out.
        if self.ended || links.is_empty() {
            return Places::new();
        }
        self.sources.clear();
        self.links.clone_from(links);
        let netlink = match Netlink::open() {
            Ok(netlink) => netlink,
            Err(error) => return refuse_all(wanted, &format!("open an rtnetlink socket: {error}")),
        };
        if let Err(why) = self.take_turn(!wanted.is_empty(), &netlink) {
            return refuse_all(wanted, &why);
        }
        self.forget_all_but(wanted, &netlink);
        if wanted.is_empty() {
            self.programs = None;
            self.turn.take_if(|_| self.dead_ends.is_empty());
            return Places::new();
        }
        if let Err(why) = self.load() {
            return refuse_all(wanted, &format!("load the programs that carry checks: {why}"));
        }
        let interfaces: BTreeSet<u32> = wanted.iter().map(|lane| lane.ifindex).collect();
        let attached: BTreeMap<u32, Result<(), String>> =
            interfaces.into_iter().map(|ifindex| (ifindex, self.attach(ifindex, &netlink))).collect();
        let vips: BTreeSet<IpAddr> = wanted.iter().map(|lane| lane.vip).collect();
        let mut place = |lane: &Lane| {
            attached.get(&lane.ifindex).cloned().unwrap_or(Ok(()))?;
            self.lead(lane, &vips, &netlink)
        };
        wanted.iter().map(|lane| (lane.clone(), place(lane))).collect()
    }

    /// Removes everything, for good.
    pub(super) fn end(&mut self) {
        self.ended = true;
        match Netlink::open() {
            Ok(netlink) => self.forget_all_but(&BTreeSet::new(), &netlink),
            Err(error) => tracing::warn!("remove the routes of health checks: {error}"),
        }
        self.attached.clear();
        self.programs = None;
        self.turn = None;
    }

    /// Has this controller be the one that asks VIPs here, if it is to, and removes what one that was killed left before
    /// anything else is made. Who asks none looks for that once.
    fn take_turn(&mut self, asks: bool, netlink: &Netlink) -> Result<(), String> {
        if let Some(turn) = &self.turn {
            turn.keep();
        } else if asks || !self.swept {
            self.turn = Some(Turn::take()?);
            self.swept = true;
            if let Err(error) = sweep(self.hook, netlink) {
                tracing::debug!("look for what health checks left behind: {error}");
            }
        }
        Ok(())
    }

    fn forget_all_but(&mut self, wanted: &BTreeSet<Lane>, netlink: &Netlink) {
        let failed = |done: std::io::Result<()>| {
            if let Err(error) = done {
                tracing::debug!("remove what health checks took: {error}");
            }
        };
        for alias in self.numbers.keep_only(&wanted.iter().map(numbers::key).collect()) {
            if let Some(route) = self.routes.remove(&alias) {
                failed(netlink.remove_route(&route));
            }
            if let Some(programs) = &mut self.programs {
                programs.forget(alias);
            }
        }
        let families: BTreeSet<_> = wanted.iter().map(|lane| (lane.ifindex, lane.vip.is_ipv4())).collect();
        for (ifindex, v4) in self.gateways.extract_if(.., |one| !families.contains(one)) {
            failed(netlink.remove_gateway(ifindex, v4));
        }
        let links = &self.links;
        self.attached.retain(|ifindex, _| {
            links.contains_key(ifindex) && families.iter().any(|(used, _)| used == ifindex)
        });
        let was_idle = std::mem::replace(&mut self.idle, wanted.is_empty());
        if self.ended || was_idle && self.idle {
            for alias in std::mem::take(&mut self.dead_ends) {
                failed(netlink.remove_dead_end(alias));
            }
        }
    }

    fn load(&mut self) -> Result<(), String> {
        if self.programs.is_none() {
            self.programs = Some(Programs::load()?);
        }
        Ok(())
    }

    /// Attaches to an interface, unless that is done and stands.
    fn attach(&mut self, ifindex: u32, netlink: &Netlink) -> Result<(), String> {
        let Some(Link { name, ethernet: true, .. }) = self.links.get(&ifindex) else {
            return Err(format!("interface number {ifindex} has no Ethernet"));
        };
        let interface = (name.as_str(), ifindex);
        let Some(programs) = &mut self.programs else { return Ok(()) };
        if self.attached.contains_key(&ifindex) && programs.are_first(interface, self.hook, netlink) {
            return Ok(());
        }
        // Until the programs are there, nothing may go out to probe addresses.
        for (_, route) in self.routes.extract_if(.., |_, route| route.ifindex == ifindex) {
            let cut = netlink.remove_route(&route);
            cut.map_err(|error| format!("cut the route to the probe address {}: {error}", route.alias))?;
        }
        self.attached.remove(&ifindex);
        let attached = programs.attach(interface, self.hook, netlink);
        let attached = attached.map_err(|why| format!("attach to {}: {why}", interface.0))?;
        self.attached.insert(ifindex, attached);
        Ok(())
    }

    /// Has a probe address lead to a VIP at a backend.
    fn lead(&mut self, lane: &Lane, vips: &BTreeSet<IpAddr>, netlink: &Netlink) -> Result<IpAddr, String> {
        let before = self.numbers.allot(numbers::key(lane));
        let alias = before.ok_or_else(|| format!("all probe addresses of {} are taken", lane.vip))?;
        let source = self.source(lane, vips, netlink)?;
        let route = Route { alias, ifindex: lane.ifindex, source };
        let failed = |error: std::io::Error| format!("make a route to the probe address {alias}: {error}");
        match self.routes.get(&alias) {
            Some(old) if *old == route => {}
            old => {
                if let Some(old) = old {
                    netlink.remove_route(old).map_err(failed)?;
                }
                let Some(programs) = &mut self.programs else { return Ok(alias) };
                programs.lead(alias, lane.vip, lane.mac)?;
            }
        }
        if let Err(error) = self.put_way(&route, netlink) {
            self.routes.remove(&alias);
            return Err(failed(error));
        }
        self.routes.insert(alias, route);
        Ok(alias)
    }

    /// Routes and neighbor; they may be there already. That which leads nowhere is the first to come.
    fn put_way(&mut self, route: &Route, netlink: &Netlink) -> std::io::Result<()> {
        netlink.add_dead_end(route.alias)?;
        self.dead_ends.insert(route.alias);
        let v4 = route.alias.is_ipv4();
        netlink.put_gateway(route.ifindex, v4)?;
        self.gateways.insert((route.ifindex, v4));
        netlink.add_route(route)
    }

    /// The address to ask from: the one that a backend is asked from otherwise, unless that is a VIP, which its owner
    /// would answer itself.
    fn source(&mut self, lane: &Lane, vips: &BTreeSet<IpAddr>, netlink: &Netlink) -> Result<IpAddr, String> {
        if let Some(source) = self.sources.get(&(lane.backend, lane.ifindex)) {
            return Ok(*source);
        }
        let usual = netlink.source(lane.backend, lane.ifindex).unwrap_or_default();
        let link = self.links.get(&lane.ifindex);
        let others = link.into_iter().flat_map(|link| link.addresses.iter().copied());
        let fits = |address: &IpAddr| address.is_ipv4() == lane.vip.is_ipv4() && !vips.contains(address);
        let source = usual.into_iter().chain(others.filter(|address| !is_link_local(address))).find(fits);
        let name = link.map_or("the interface", |link| &link.name);
        let source = source.ok_or_else(|| format!("{name} has no address to ask from that is no VIP"))?;
        self.sources.insert((lane.backend, lane.ifindex), source);
        Ok(source)
    }
}

/// Removes what a process that was killed left in this network namespace. The caller has the turn.
pub(super) fn sweep(hook: Hook, netlink: &Netlink) -> std::io::Result<()> {
    netlink.sweep_routes()?;
    for (name, ifindex) in netlink.interfaces()? {
        hook.sweep(&name);
        for v4 in [true, false] {
            // Usually there is nothing.
            let _ = netlink.remove_gateway(ifindex, v4);
        }
    }
    Ok(())
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn refuse_all(wanted: &BTreeSet<Lane>, why: &str) -> Places {
    wanted.iter().map(|lane| (lane.clone(), Err(why.to_owned()))).collect()
}

#[cfg(test)]
impl Works {
    /// Leaves everything as a process that is killed does.
    pub(super) fn kill(&mut self) {
        self.ended = true;
        self.turn = None;
    }
}
