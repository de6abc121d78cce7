//! The machine's interfaces and their addresses as the kernel tells of them over rtnetlink, looked at again whenever it says so.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage, LinkXdp,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::background::Background;
use crate::dataplane::Mac;
use crate::machine::addresses::{self, Owned};
use crate::machine::netlink::{Asker, Listener, Notice};
use crate::surroundings::{Event, Link, Links};

/// Changes come in crowds (a bridge that comes up, a container that starts): they are looked at together.
const CROWD: Duration = Duration::from_millis(50);
/// Attaching XDP through a BPF link sends no RTM_NEWLINK, so now and then we look without having been told to.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Watches the interfaces for as long as it lives.
pub(crate) struct LinkWatch {
    links: watch::Receiver<Links>,
    _task: Background,
}

impl LinkWatch {
    /// Starts to watch: the first [`Event::Links`] follows at once.
    pub(crate) fn start(events: mpsc::Sender<Event>) -> io::Result<Self> {
        let listener =
            Listener::open(&[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])?;
        let asker = Asker::open()?;
        let (sender, links) = watch::channel(Links::new());
        Ok(Self { links, _task: Background::spawn(run(listener, asker, sender, events)) })
    }

    /// The interfaces as they were last seen, and a sign whenever they change.
    pub(crate) fn links(&self) -> watch::Receiver<Links> {
        self.links.clone()
    }
}

async fn run(
    mut listener: Listener,
    mut asker: Asker,
    links: watch::Sender<Links>,
    events: mpsc::Sender<Event>,
) {
    let mut told = None;
    let mut again = tokio::time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        match dump(&asker).await {
            Ok(now) if told.as_ref() != Some(&now) => {
                links.send_replace(now.clone());
                if events.send(Event::Links(now.clone())).await.is_err() {
                    return;
                }
                told = Some(now);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("look at the interfaces: {error}");
                asker.mend();
            }
        }
        wait_for_change(&mut listener, &mut again).await;
    }
}

/// Returns when it is time to look again: after a crowd of changes, or when nothing was said for a while.
async fn wait_for_change(listener: &mut Listener, again: &mut tokio::time::Interval) {
    loop {
        tokio::select! {
            _ = again.tick() => return,
            notice = listener.next() => if is_about_links(&notice) {
                break;
            }
        }
    }
    let end = Instant::now() + CROWD;
    while tokio::time::timeout_at(end, listener.next()).await.is_ok() {}
}

fn is_about_links(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::Missed
            | Notice::Message(
                RouteNetlinkMessage::NewLink(_)
                    | RouteNetlinkMessage::DelLink(_)
                    | RouteNetlinkMessage::NewAddress(_)
                    | RouteNetlinkMessage::DelAddress(_)
            )
    )
}

/// All interfaces as they are now, with their addresses.
pub(crate) async fn dump(asker: &Asker) -> io::Result<Links> {
    let request = asker
        .handle()
        .link()
        .get()
        .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
        .execute();
    let messages: Vec<LinkMessage> = asker.answer(request.into_stream().boxed().try_collect()).await?;
    let mut links: Links = messages.iter().map(link).map(|link| (link.index, link)).collect();
    for Owned { address, ifindex, .. } in addresses::dump(asker).await? {
        if let Some(link) = links.get_mut(&ifindex) {
            link.addresses.insert(address);
        }
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let header = &message.header;
    let loopback = header.flags.contains(LinkFlags::Loopback);
    let ethernet = header.link_layer_type == LinkLayerType::Ether && !loopback;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        ethernet,
        loopback,
        addresses: BTreeSet::new(),
        up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        master: None,
        vlan: None,
        bond: false,
        xdp_program: None,
    };
    let (mut vlan_id, mut parent, mut parent_elsewhere) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) if ethernet => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkNetNsId(_) => parent_elsewhere = true,
            LinkAttribute::LinkInfo(info) => {
                vlan_id = vlan(info);
                link.bond = info.contains(&LinkInfo::Kind(InfoKind::Bond));
            }
            LinkAttribute::Xdp(xdp) => link.xdp_program = xdp_program(xdp),
            _ => {}
        }
    }
    if !parent_elsewhere {
        link.vlan = parent.zip(vlan_id);
    }
    link
}

/// The VLAN ID, where this describes a VLAN interface.
fn vlan(info: &[LinkInfo]) -> Option<u16> {
    if !info.contains(&LinkInfo::Kind(InfoKind::Vlan)) {
        return None;
    }
    info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => data.iter().find_map(|data| match data {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        }),
        _ => None,
    })
}

/// The kernel names one program as such unless several modes are in use; then the one that sees packets first.
fn xdp_program(xdp: &[LinkXdp]) -> Option<u32> {
    let rank = |xdp: &LinkXdp| match xdp {
        LinkXdp::ProgId(id) => Some((0, *id)),
        LinkXdp::HwProgId(id) => Some((1, *id)),
        LinkXdp::DrvProgId(id) => Some((2, *id)),
        LinkXdp::SkbProgId(id) => Some((3, *id)),
        _ => None,
    };
    xdp.iter().filter_map(rank).min().map(|(_, id)| id).filter(|id| *id != 0)
}

#[cfg(test)]
mod tests;
