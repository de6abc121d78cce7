//! What XDP programs the interfaces of this network namespace carry, asked of the kernel over rtnetlink.

use std::collections::BTreeMap;
use std::io;

use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::dataplane::{AttachMode, Mac};

/// An interface and the XDP programs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct XdpState {
    /// Name of the interface.
    pub(super) name: String,
    /// Its MAC, where it has an Ethernet address.
    pub(super) mac: Option<Mac>,
    /// Id of the program in the driver, or on the card.
    pub(super) native: Option<u32>,
    /// Id of the program in the stack.
    pub(super) generic: Option<u32>,
}

impl XdpState {
    /// How this program is attached here, if it is.
    pub(super) fn mode_of(&self, program: u32) -> Option<AttachMode> {
        if self.native == Some(program) {
            Some(AttachMode::Native)
        } else if self.generic == Some(program) {
            Some(AttachMode::Generic)
        } else {
            None
        }
    }

    /// A program that is here, whoever's.
    pub(super) fn any_program(&self) -> Option<u32> {
        self.native.or(self.generic)
    }
}

/// All interfaces of this network namespace by index.
pub(super) fn xdp_states() -> io::Result<BTreeMap<u32, XdpState>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&dump_request(), 0)?;

    let mut states = BTreeMap::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(states),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    states.insert(link.header.index, state_of(link));
                }
                _ => {}
            }
            // Messages are padded to four bytes; one of length zero would never end.
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn dump_request() -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn state_of(link: LinkMessage) -> XdpState {
    let mut state = XdpState::default();
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => state.name = name,
            LinkAttribute::Address(bytes) => state.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Xdp(attributes) => {
                for attribute in attributes {
                    match attribute {
                        LinkXdp::DrvProgId(id) | LinkXdp::HwProgId(id) => state.native = Some(id),
                        LinkXdp::SkbProgId(id) => state.generic = Some(id),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    state
}
