//! Routes and neighbors of probe addresses over rtnetlink, asked on a thread that waits for each answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pen_common::probe::is_alias;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Marks our routes: `ip route show proto 112`.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(112);
/// The gateway of IPv4 probe addresses; nobody's either.
const V4_GATEWAY: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 0);
/// That of the IPv6 ones.
const V6_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x7065, 0x6e00, 0, 0x7062);
/// The MAC that the gateways have until a classifier puts the backend's there: nobody's (locally administered).
const GATEWAY_MAC: [u8; 6] = *b"\x02pen\0\0";

/// A route to a probe address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) alias: IpAddr,
    pub(super) ifindex: u32,
    /// The address to ask from.
    pub(super) source: IpAddr,
}

/// A socket to ask the kernel on.
pub(super) struct Netlink(Socket);

impl Netlink {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Has a dump of routes skip those of others; where the kernel does not know it, we do.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self(socket))
    }

    /// Adds a route, unless there is one already.
    pub(super) fn add_route(&self, route: &Route) -> io::Result<()> {
        self.add(route.message())
    }

    /// Removes a route, unless it has gone already.
    pub(super) fn remove_route(&self, route: &Route) -> io::Result<()> {
        forgiving(self.change(RouteNetlinkMessage::DelRoute(route.message()), 0))
    }

    /// Has nothing go to a probe address by the routes of others where its own is gone, with its interface or by
    /// somebody's hand.
    pub(super) fn add_dead_end(&self, alias: IpAddr) -> io::Result<()> {
        self.add(dead_end(alias))
    }

    /// Takes that back.
    pub(super) fn remove_dead_end(&self, alias: IpAddr) -> io::Result<()> {
        forgiving(self.change(RouteNetlinkMessage::DelRoute(dead_end(alias)), 0))
    }

    fn add(&self, message: RouteMessage) -> io::Result<()> {
        match self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            done => done,
        }
    }

    /// Puts the entry of a family's gateway into the neighbor table.
    pub(super) fn put_gateway(&self, ifindex: u32, v4: bool) -> io::Result<()> {
        let mut message = gateway(ifindex, v4);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(GATEWAY_MAC.to_vec()));
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Takes it out again.
    pub(super) fn remove_gateway(&self, ifindex: u32, v4: bool) -> io::Result<()> {
        forgiving(self.change(RouteNetlinkMessage::DelNeighbour(gateway(ifindex, v4)), 0))
    }

    /// Removes all routes to probe addresses.
    pub(super) fn sweep_routes(&self) -> io::Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut wanted = RouteMessage::default();
            wanted.header.address_family = family;
            wanted.header.protocol = PROTOCOL;
            for message in self.ask(RouteNetlinkMessage::GetRoute(wanted), NLM_F_DUMP)? {
                match message {
                    RouteNetlinkMessage::NewRoute(route) if is_ours(&route) => {
                        forgiving(self.change(RouteNetlinkMessage::DelRoute(route), 0))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Names and numbers of the interfaces that carry Ethernet frames.
    pub(super) fn interfaces(&self) -> io::Result<Vec<(String, u32)>> {
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let found: Vec<RouteNetlinkMessage> = self.ask(all, NLM_F_DUMP)?;
        Ok(found.iter().filter_map(named).collect())
    }

    /// The address that this host asks `to` from through an interface.
    pub(super) fn source(&self, to: IpAddr, ifindex: u32) -> io::Result<Option<IpAddr>> {
        let mut message = to_host(to);
        message.attributes.push(RouteAttribute::Oif(ifindex));
        let answers: Vec<RouteNetlinkMessage> = self.ask(RouteNetlinkMessage::GetRoute(message), 0)?;
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => {
                route.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::PrefSource(address) => ip(address),
                    _ => None,
                })
            }
            _ => None,
        }))
    }

    fn change(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask::<RouteNetlinkMessage>(message, NLM_F_ACK | flags).map(drop)
    }

    /// Sends a request and waits for the whole answer, which the kernel makes while it takes the request.
    pub(super) fn ask<T: NetlinkDeserializable>(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<T>> {
        let several = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<T>::deserialize(rest).map_err(io::Error::other)?;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
                // Messages are padded to four bytes; one of length zero would never end.
                let length = (message.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(length..).unwrap_or_default();
            }
            if !several && flags & NLM_F_ACK == 0 {
                return Ok(answers);
            }
        }
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = ours(self.alias, RouteType::Unicast);
        message.header.flags = RouteFlags::Onlink;
        message.attributes.extend([
            RouteAttribute::Gateway(gateway_address(self.alias.is_ipv4()).into()),
            RouteAttribute::Oif(self.ifindex),
            RouteAttribute::PrefSource(self.source.into()),
        ]);
        message
    }
}

/// A route that leads nowhere, which counts where there is no other to that address.
fn dead_end(alias: IpAddr) -> RouteMessage {
    let mut message = ours(alias, RouteType::BlackHole);
    message.attributes.push(RouteAttribute::Priority(u32::MAX));
    message
}

/// The beginning of a message about a route of ours.
fn ours(alias: IpAddr, kind: RouteType) -> RouteMessage {
    let mut message = to_host(alias);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = kind;
    message
}

/// The beginning of a message about the way to one address.
fn to_host(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(address.into()));
    message
}

fn named(message: &RouteNetlinkMessage) -> Option<(String, u32)> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    (link.header.link_layer_type == LinkLayerType::Ether).then_some((name?, link.header.index))
}

fn is_ours(route: &RouteMessage) -> bool {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    route.header.protocol == PROTOCOL && destination.is_some_and(|address| is_alias(&address.into()))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn gateway_address(v4: bool) -> IpAddr {
    if v4 { V4_GATEWAY.into() } else { V6_GATEWAY.into() }
}

fn gateway(ifindex: u32, v4: bool) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let (family, address) = match v4 {
        true => (AddressFamily::Inet, NeighbourAddress::Inet(V4_GATEWAY)),
        false => (AddressFamily::Inet6, NeighbourAddress::Inet6(V6_GATEWAY)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

/// What is to go may have gone.
fn forgiving(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT | libc::ENODEV)) => {
            Ok(())
        }
        done => done,
    }
}
