//! What is examined: the controller's own account, and the machine's interfaces, addresses and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;

use crate::api::document::{BackendDocument, ServiceDocument, StatusDocument};
use crate::dataplane::{Kind, Mac};
use crate::machine::addresses::{self, Owned};
use crate::machine::netlink::Asker;
use crate::neighbor::kernel::route;
use crate::neighbor::table::Way;
use crate::surroundings::{Link, Links};
use crate::{link, state::desired::AdminState};

/// Everything the checks go by.
pub struct Patient {
    /// Directory of the pins.
    pub(super) bpffs: PathBuf,
    /// Directory of the desired state.
    pub(super) state_dir: PathBuf,
    /// What the controller says; else why it says nothing.
    pub(super) controller: Result<StatusDocument, String>,
    /// Only this service is asked about.
    service: Option<String>,
    /// Interfaces that were named beside those the controller has.
    interfaces: Vec<String>,
    links: Links,
    owned: Vec<Owned>,
    ways: BTreeMap<IpAddr, Way>,
}

/// Where something is sent from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) interface: String,
    pub(super) ifindex: u32,
    pub(super) mac: Mac,
    /// An address of this host.
    pub(super) address: IpAddr,
}

/// What can be sent to a backend.
pub(super) enum Reach {
    /// From here, to that MAC and address.
    OnLink { from: Seat, mac: Mac, address: IpAddr },
    /// It is this host.
    Local,
    /// Nothing, with the reason.
    Not(String),
}

impl Patient {
    /// Looks at the machine; the network namespace is the caller's. First the directories of pins and state.
    ///
    /// # Errors
    /// The kernel does not say which interfaces, addresses or routes there are.
    pub async fn admit(
        (bpffs, state_dir): (PathBuf, PathBuf),
        controller: Result<StatusDocument, String>,
        service: Option<String>,
        interfaces: Vec<String>,
    ) -> io::Result<Patient> {
        let asker = Asker::open()?;
        let links = link::dump(&asker).await?;
        let owned = addresses::dump(&asker).await?;
        let mut patient = Patient {
            bpffs,
            state_dir,
            controller,
            service,
            interfaces,
            links,
            owned,
            ways: BTreeMap::new(),
        };
        let backends: BTreeSet<IpAddr> =
            patient.backends().filter_map(|(_, backend)| backend.address.ip()).collect();
        for address in backends {
            let way = route(&asker, address).await?;
            patient.ways.insert(address, way);
        }
        Ok(patient)
    }

    /// Whether the controller moves packets by the proxy.
    pub(super) fn is_proxied(&self) -> bool {
        self.controller.as_ref().is_ok_and(|status| status.controller.dataplane == Kind::Proxy.name())
    }

    /// Interfaces that pen is or should be attached to.
    pub(super) fn wanted_interfaces(&self) -> Vec<&str> {
        let attached = self.controller.iter().flat_map(|status| &status.interfaces);
        let mut names: Vec<&str> = attached.map(|interface| interface.name.as_str()).collect();
        let more: Vec<&str> =
            self.interfaces.iter().map(String::as_str).filter(|name| !names.contains(name)).collect();
        names.extend(more);
        names
    }

    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The services that are asked about.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceDocument> {
        let all = self.controller.iter().flat_map(|status| &status.services);
        all.filter(|service| self.service.as_ref().is_none_or(|only| *only == service.name))
    }

    /// Their backends, but not those that the administrator took out.
    pub(super) fn backends(&self) -> impl Iterator<Item = (&ServiceDocument, &BackendDocument)> {
        self.services()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .filter(|(_, backend)| backend.state != AdminState::Down)
    }

    /// A backend with this MAC, of whatever service; best one whose address is of this family.
    pub(super) fn backend_at(&self, mac: Mac, v4: bool) -> Option<&BackendDocument> {
        let services = self.controller.iter().flat_map(|status| &status.services);
        let at = services.flat_map(|service| &service.backends).filter(|backend| backend.mac == Some(mac));
        at.min_by_key(|backend| !is_of_family(backend, v4))
    }

    /// Whether one of this host's interfaces has this MAC.
    pub(super) fn is_our_mac(&self, mac: Mac) -> bool {
        self.links.values().any(|link| link.mac == Some(mac))
    }

    /// Whether this host has the address.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.owned.iter().any(|owned| owned.address == address)
    }

    /// The interfaces, with their addresses.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Where this host has an address, loopback interfaces left out: its prefix length, and the interface's name.
    pub(super) fn where_owned(&self, address: IpAddr) -> Option<(u8, &str)> {
        let on = |owned: &Owned| self.links.get(&owned.ifindex).filter(|link| !link.loopback);
        let mut found = self.owned.iter().filter(|owned| owned.address == address);
        found.find_map(|owned| Some((owned.prefix, on(owned)?.name.as_str())))
    }

    /// How a backend is reached.
    pub(super) fn reach(&self, backend: &BackendDocument) -> Reach {
        let Some(address) = backend.address.ip() else {
            return Reach::Not("it is a Unix socket".to_owned());
        };
        let ifindex = match self.ways.get(&address) {
            Some(Way::OnLink { ifindex }) => *ifindex,
            Some(Way::Local) => return Reach::Local,
            Some(Way::Gateway { gateway, .. }) => {
                return Reach::Not(format!("it is behind gateway {gateway}"));
            }
            Some(Way::Nowhere(why)) => return Reach::Not(why.clone()),
            None => return Reach::Not("no route".to_owned()),
        };
        let Some(mac) = backend.mac else {
            return Reach::Not(backend.reason.clone().unwrap_or_else(|| "its MAC is not known".to_owned()));
        };
        match self.seat(ifindex, source_towards(address)) {
            Some(from) => Reach::OnLink { from, mac, address },
            None => Reach::Not("this host has no address on that link".to_owned()),
        }
    }

    /// Where questions to links are asked from, for VIPs of one family: the interfaces pen is on, and those its
    /// backends are behind.
    pub(super) fn seats(&self, v4: bool) -> Vec<Seat> {
        let mut seats: Vec<Seat> = Vec::new();
        for (_, backend) in self.backends().filter(|(_, backend)| is_of_family(backend, v4)) {
            if let Reach::OnLink { from, .. } = self.reach(backend)
                && seats.iter().all(|seat| seat.ifindex != from.ifindex)
            {
                seats.push(from);
            }
        }
        for name in self.wanted_interfaces() {
            let Some(link) = self.link(name) else { continue };
            let own = self.owned.iter().find(|owned| owned.ifindex == link.index && owned.may_ask(v4));
            if seats.iter().all(|seat| seat.ifindex != link.index)
                && let Some(seat) = self.seat(link.index, own.map(|owned| owned.address))
            {
                seats.push(seat);
            }
        }
        seats
    }

    fn seat(&self, ifindex: u32, address: Option<IpAddr>) -> Option<Seat> {
        let link = self.links.get(&ifindex)?;
        Some(Seat { interface: link.name.clone(), ifindex, mac: link.mac?, address: address? })
    }
}

/// Whether a backend has an address of the family, IPv4 or else IPv6.
fn is_of_family(backend: &BackendDocument, v4: bool) -> bool {
    backend.address.ip().is_some_and(|address| address.is_ipv4() == v4)
}

/// The address that the kernel would send from. Connecting a UDP socket sends nothing.
fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
