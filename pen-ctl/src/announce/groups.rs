//! Solicited-node groups of VIPs (RFC 4291, section 2.7.1), joined so that they outlive the controller.
//!
//! A network card may hand up only those multicast frames that somebody joined, and a switch that snoops may forward
//! only those; solicitations for a VIP are among them. A socket's membership ends with its process, but an address of
//! the group with the flag IFA_F_MCAUTOJOIN belongs to the interface.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};

use crate::machine::netlink::Asker;

/// Which VIPs are behind each group on each interface: two that end alike share one.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<(u32, Ipv6Addr), BTreeSet<Ipv6Addr>>);

impl Groups {
    /// Joins the group of a VIP; joining again is harmless, and restores what was lost with the link.
    pub(super) async fn join(&mut self, asker: &Asker, ifindex: u32, vip: Ipv6Addr) -> io::Result<()> {
        let group = solicited_node(vip);
        self.0.entry((ifindex, group)).or_default().insert(vip);
        let mut request = asker.handle().address().add(ifindex, group.into(), 128);
        *request.message_mut() = address(ifindex, group);
        // EADDRINUSE: the address went away with its link, the membership did not.
        forgive(asker.answer(request.execute()).await, &[libc::EEXIST, libc::EADDRINUSE])
    }

    /// Leaves the group of a VIP, unless another VIP that was announced needs it. Where the link was taken down
    /// since it was joined, the membership stays until the interface goes: the kernel ties leaving to the address,
    /// which it dropped with the link. All that costs is a few frames that nobody asked for.
    pub(super) async fn leave(&mut self, asker: &Asker, ifindex: u32, vip: Ipv6Addr) -> io::Result<()> {
        let group = solicited_node(vip);
        if let Some(vips) = self.0.get_mut(&(ifindex, group)) {
            vips.remove(&vip);
            if !vips.is_empty() {
                return Ok(());
            }
            self.0.remove(&(ifindex, group));
        }
        let request = asker.handle().address().del(address(ifindex, group)).execute();
        forgive(asker.answer(request).await, &[libc::EADDRNOTAVAIL, libc::ENODEV])
    }
}

fn address(ifindex: u32, group: Ipv6Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = 128;
    message.header.index = ifindex;
    // Nobody is to be asked whether the address is taken, and it needs no route.
    let flags = AddressFlags::Mcautojoin | AddressFlags::Nodad | AddressFlags::Noprefixroute;
    let group = IpAddr::V6(group);
    message.attributes = vec![
        AddressAttribute::Local(group),
        AddressAttribute::Address(group),
        AddressAttribute::Flags(flags),
    ];
    message
}

fn forgive(result: io::Result<()>, errnos: &[i32]) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error().is_some_and(|errno| errnos.contains(&errno)) => Ok(()),
        result => result,
    }
}

/// ff02::1:ff00:0/104 with the last 24 bits of the address.
pub(crate) fn solicited_node(vip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = vip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from(b) << 8 | u16::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_holds_the_last_24_bits() {
        let vip = "4037::01:800:200e:8c6c".parse().unwrap(); // the example of RFC 4291
        assert_eq!(solicited_node(vip), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    }
}
