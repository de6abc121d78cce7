//! Asks a family of generic netlink (linux/genetlink.h) one question at a time: attributes go, attributes come.

use std::convert::Infallible;
use std::io;

use rtnetlink::packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlaBuffer,
    NlasIterator,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

// Of the family that knows the others (linux/genetlink.h).
const CONTROL_FAMILY: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
/// Version of the families' headers; none that we ask has another.
const VERSION: u8 = 1;
/// Bytes of `struct genlmsghdr`: command, version, two reserved.
const HEADER: usize = 4;

/// An attribute of a request.
pub(super) type Attribute = DefaultNla;

/// A family of generic netlink, asked in the network namespace that it was opened in.
pub(super) struct Family {
    socket: Socket,
    id: u16,
}

impl Family {
    /// Opens the family of that name; `NotFound` where this kernel has none.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let control = Self { socket, id: CONTROL_FAMILY };
        let answer = control.ask(CONTROL_GET_FAMILY, &[text(CONTROL_FAMILY_NAME, name)])?;
        let id = find(&answer, CONTROL_FAMILY_ID).and_then(|value| value.first_chunk());
        let id = id.ok_or_else(|| io::Error::other(format!("netlink family {name} has no number")))?;
        Ok(Self { id: u16::from_ne_bytes(*id), ..control })
    }

    /// Asks, and gives the attributes of the answer: nothing where the kernel only said that it is done.
    pub(super) fn ask(&self, command: u8, attributes: &[Attribute]) -> io::Result<Vec<u8>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut body = vec![command, VERSION, 0, 0];
        body.extend(emitted(attributes));
        let mut message =
            NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Message { family: self.id, body }));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.answer()
    }

    /// Reads up to the acknowledgement.
    fn answer(&self) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<Message>::deserialize(rest).map_err(io::Error::other)?;
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answer),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => {
                        answer = message.body.get(HEADER..).unwrap_or_default().to_vec();
                    }
                    _ => {}
                }
                // Messages are padded to four bytes; one of length zero would never end.
                let length = (message.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

/// An attribute that holds others.
pub(super) fn nest(kind: u16, inner: &[Attribute]) -> Attribute {
    Attribute::new(kind | NLA_F_NESTED, emitted(inner))
}

/// An attribute that holds a number.
pub(super) fn number(kind: u16, value: u32) -> Attribute {
    Attribute::new(kind, value.to_ne_bytes().to_vec())
}

/// An attribute that holds text.
pub(super) fn text(kind: u16, value: &str) -> Attribute {
    Attribute::new(kind, [value.as_bytes(), &[0]].concat())
}

/// The attributes in these bytes, with their types; what is cut short ends them.
pub(super) fn each(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map_while(|attribute: NlaBuffer<&[u8]>| {
        let (kind, length) = (attribute.kind() & NLA_TYPE_MASK, usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// The value of the first attribute of this type.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    each(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn emitted(attributes: &[Attribute]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// A message of any family: its header and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    family: u16,
    body: Vec<u8>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self { family: header.message_type, body: payload.to_vec() })
    }
}
