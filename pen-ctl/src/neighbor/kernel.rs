//! What neighbor resolution asks the kernel over rtnetlink, and how it reads the answers.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle};

use super::table::{Seen, Way};
use crate::dataplane::Mac;
use crate::machine::netlink::Asker;

/// The kernel's whole neighbor table, both families.
pub(super) async fn dump(asker: &Asker) -> io::Result<BTreeMap<(u32, IpAddr), Seen>> {
    let request = asker.handle().neighbours().get().execute();
    let messages: Vec<NeighbourMessage> = asker.answer(request.boxed().try_collect()).await?;
    let now = Instant::now();
    Ok(messages
        .iter()
        .filter_map(|message| seen(message, now))
        .map(|(ifindex, address, seen)| ((ifindex, address), seen))
        .collect())
}

/// What a message from the neighbor table says; `None` for tables other than IP's.
pub(super) fn seen(message: &NeighbourMessage, now: Instant) -> Option<(u32, IpAddr, Seen)> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut mac, mut unconfirmed, mut managed_elsewhere) = (None, None, Duration::ZERO, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            // In hundredths of a second (USER_HZ).
            NeighbourAttribute::CacheInfo(info) => unconfirmed = Duration::from_millis(10) * info.confirmed,
            NeighbourAttribute::ExtFlags(flags) => managed_elsewhere |= !flags.is_empty(),
            _ => {}
        }
    }
    managed_elsewhere |= header.flags.contains(NeighbourFlags::ExtLearned);
    let valid = |may_probe| {
        let confirmed = now.checked_sub(unconfirmed).unwrap_or(now);
        mac.map_or(Seen::Gone, |mac| Seen::Valid { mac, confirmed, may_probe })
    };
    let seen = match header.state {
        NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay => {
            valid(!managed_elsewhere)
        }
        NeighbourState::Probe | NeighbourState::Permanent | NeighbourState::Noarp => valid(false),
        NeighbourState::Incomplete => Seen::Incomplete,
        NeighbourState::Failed => Seen::Failed,
        _ => Seen::Gone,
    };
    Some((header.ifindex, address?, seen))
}

/// Where an address is routed.
pub(crate) async fn route(asker: &Asker, address: IpAddr) -> io::Result<Way> {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(address.into()));
    let request = asker.handle().route().get(message).execute();
    let answer: io::Result<Vec<RouteMessage>> = asker.answer(request.boxed().try_collect()).await;
    match answer {
        Ok(messages) => Ok(messages.first().map_or_else(nowhere, way)),
        Err(error) if error.raw_os_error().is_some_and(|errno| NO_ROUTE.contains(&errno)) => Ok(nowhere()),
        Err(error) => Err(error),
    }
}

/// How the kernel says that there is no route, or one of kind `blackhole`, `unreachable`, `prohibit` or `throw`.
const NO_ROUTE: [i32; 5] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES, libc::EAGAIN];

fn nowhere() -> Way {
    Way::Nowhere("no route".into())
}

fn way(message: &RouteMessage) -> Way {
    match message.header.kind {
        RouteType::Local => return Way::Local,
        RouteType::Unicast => {}
        RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => {
            return Way::Nowhere("not the address of one host".into());
        }
        _ => return nowhere(),
    }
    let (mut oif, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => oif = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                gateway = Some(v4.to_string());
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                gateway = Some(v6.to_string());
            }
            _ => {}
        }
    }
    match (oif, gateway) {
        (Some(ifindex), Some(gateway)) => Way::Gateway { gateway, ifindex },
        (Some(ifindex), None) => Way::OnLink { ifindex },
        (None, _) => nowhere(),
    }
}

/// Has the kernel solicit a neighbor it has no MAC for: by broadcast, three times, a second apart, then NUD_FAILED.
pub(super) async fn ask(asker: &Asker, ifindex: u32, address: IpAddr) -> io::Result<()> {
    let mut message = entry(ifindex, address);
    message.header.flags = NeighbourFlags::Use;
    asker.answer(change(asker.handle(), message, NLM_F_CREATE)).await
}

/// Has the kernel prove a MAC it knows, which stays in use meanwhile: by unicast, three times, a second apart, then
/// NUD_FAILED. This is what the kernel does by itself with an entry in use, only half a minute later.
pub(super) async fn probe(asker: &Asker, ifindex: u32, address: IpAddr) -> io::Result<()> {
    let mut message = entry(ifindex, address);
    message.header.state = NeighbourState::Probe;
    asker.answer(change(asker.handle(), message, 0)).await
}

fn entry(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let (family, destination) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

/// Sends a change of an entry. Never with NLM_F_REPLACE, which would clear the mark of an IPv6 router.
async fn change(mut handle: Handle, message: NeighbourMessage, flags: u16) -> Result<(), Error> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answer = handle.request(request)?;
    while let Some(message) = answer.next().await {
        if let NetlinkPayload::Error(error) = message.payload {
            return Err(Error::NetlinkError(error));
        }
    }
    Ok(())
}
