//! What an interface's driver and card do to frames: asked of, and told to, the kernel over generic netlink.

use std::io;

use pen_common::abi::interface_flags;

use super::generic_netlink::{Attribute, Family, each, find, nest, number, text};

// Of family `ethtool` (linux/ethtool_netlink.h).
const ETHTOOL_FEATURES_GET: u8 = 11;
const ETHTOOL_FEATURES_SET: u8 = 12;
const ETHTOOL_FEATURES_HEADER: u16 = 1;
const ETHTOOL_FEATURES_CHANGEABLE: u16 = 2;
const ETHTOOL_FEATURES_WANTED: u16 = 3;
const ETHTOOL_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_HEADER_INDEX: u16 = 1;
const ETHTOOL_BITSET_BITS: u16 = 3;
const ETHTOOL_BITS_BIT: u16 = 1;
const ETHTOOL_BIT_NAME: u16 = 2;
const ETHTOOL_BIT_VALUE: u16 = 3;
// Of family `netdev` (linux/netdev.h, since Linux 6.3).
const NETDEV_GET: u8 = 1;
const NETDEV_INDEX: u16 = 1;
const NETDEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`: takes frames that XDP redirects to it.
const NDO_XMIT: u64 = 1 << 2;

/// The two kinds of VLAN tags, by the flag that records them: what the kernel calls taking them off frames, and what
/// `ethtool -K` calls it.
const TAGS: [(u64, &str, &str); 2] = [
    (interface_flags::STRIPPED_C_TAGS, "rx-vlan-hw-parse", "rxvlan"),
    (interface_flags::STRIPPED_S_TAGS, "rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse"),
];

/// Which VLAN tags are taken off frames before XDP sees them, as bits of [`interface_flags`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stripping {
    /// These are.
    pub(super) on: u64,
    /// These can be switched.
    pub(super) changeable: u64,
}

/// Which VLAN tags an interface takes off frames.
pub(super) fn stripping(ifindex: u32) -> io::Result<Stripping> {
    let answer = Family::open("ethtool")?.ask(ETHTOOL_FEATURES_GET, &[header(ifindex)])?;
    let bits = |kind| find(&answer, kind).and_then(|set| find(set, ETHTOOL_BITSET_BITS)).unwrap_or_default();
    let named = |kind| {
        let names = each(bits(kind)).filter_map(|(_, bit)| find(bit, ETHTOOL_BIT_NAME));
        names.fold(0, |tags, name| tags | tag_of(name))
    };
    Ok(Stripping { on: named(ETHTOOL_FEATURES_ACTIVE), changeable: named(ETHTOOL_FEATURES_CHANGEABLE) })
}

/// Has an interface take these VLAN tags off frames, or leave them on. The driver may have a say of its own: look at
/// [`stripping`] afterwards.
pub(super) fn set_stripping(ifindex: u32, tags: u64, on: bool) -> io::Result<()> {
    let bit = |name| {
        let mut bit = vec![text(ETHTOOL_BIT_NAME, name)];
        bit.extend(on.then(|| Attribute::new(ETHTOOL_BIT_VALUE, Vec::new())));
        nest(ETHTOOL_BITS_BIT, &bit)
    };
    let bits: Vec<_> =
        TAGS.iter().filter(|(tag, ..)| tags & tag != 0).map(|(_, name, _)| bit(name)).collect();
    let wanted = nest(ETHTOOL_FEATURES_WANTED, &[nest(ETHTOOL_BITSET_BITS, &bits)]);
    Family::open("ethtool")?.ask(ETHTOOL_FEATURES_SET, &[header(ifindex), wanted]).map(drop)
}

/// What to type to switch these tags: `ethtool -K eth0 rxvlan off`.
pub(super) fn ethtool_command(interface: &str, tags: u64, value: &str) -> String {
    let switches =
        TAGS.iter().filter(|(tag, ..)| tags & tag != 0).map(|(_, _, name)| format!(" {name} {value}"));
    format!("ethtool -K {interface}{}", switches.collect::<String>())
}

/// Whether frames that came in elsewhere can leave by this interface by way of its driver; `None` where the kernel is
/// too old to tell.
pub(super) fn takes_redirected(ifindex: u32) -> io::Result<Option<bool>> {
    let family = match Family::open("netdev") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        family => family?,
    };
    let answer = family.ask(NETDEV_GET, &[number(NETDEV_INDEX, ifindex)])?;
    let features = find(&answer, NETDEV_XDP_FEATURES).and_then(|value| value.first_chunk());
    Ok(features.map(|features| u64::from_ne_bytes(*features) & NDO_XMIT != 0))
}

fn header(ifindex: u32) -> Attribute {
    nest(ETHTOOL_FEATURES_HEADER, &[number(ETHTOOL_HEADER_INDEX, ifindex)])
}

/// The bit of a feature's name (which ends in a zero byte); 0 for other features.
fn tag_of(name: &[u8]) -> u64 {
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    TAGS.iter().find(|(_, known, _)| known.as_bytes() == name).map_or(0, |(tag, ..)| *tag)
}
