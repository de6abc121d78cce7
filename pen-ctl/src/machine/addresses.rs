//! The addresses of this network namespace, over rtnetlink.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

use super::netlink::Asker;

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// The interface it is on.
    pub(crate) ifindex: u32,
    /// It is not usable yet: duplicate address detection goes on, or failed.
    pub(crate) tentative: bool,
}

impl Owned {
    /// Whether questions of this family may be asked from it.
    pub(crate) fn may_ask(&self, v4: bool) -> bool {
        self.address.is_ipv4() == v4 && !self.tentative
    }
}

/// All addresses.
pub(crate) async fn dump(asker: &Asker) -> io::Result<Vec<Owned>> {
    let request = asker.handle().address().get().execute();
    let messages: Vec<AddressMessage> = asker.answer(request.try_collect()).await?;
    Ok(messages.iter().filter_map(owned).collect())
}

fn owned(message: &AddressMessage) -> Option<Owned> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // On a point-to-point link the other attribute is the peer's.
    let local = of(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = of(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let header = &message.header;
    let tentative = header.flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed);
    Some(Owned { address: local.or(plain)?, prefix: header.prefix_len, ifindex: header.index, tentative })
}
