//! What hangs on an interface's `clsact` queueing discipline, over rtnetlink: which filters a packet meets, and in which
//! order.

use std::io;

use aya::programs::TcAttachType;
use rtnetlink::packet_core::{DecodeError, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NlasIterator};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};

use super::netlink::Netlink;

/// Kinds of messages and attributes: linux/rtnetlink.h, linux/pkt_cls.h.
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_NAME: u16 = 7;
/// A filter for packets of every protocol (ETH_P_ALL), in wire order.
const EVERY_PROTOCOL: u16 = 3_u16.to_be();
/// The handle of the queueing disciplines that look at what comes in: ffff:0.
const CLSACT: u32 = 0xffff_0000;

/// The priority of ours where nobody else has any: before what others leave to the kernel to number.
const PRIORITY: u16 = 112;
/// Nothing comes before it.
const FIRST: u16 = 1;

/// A filter of anybody, or the place for filters of one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    priority: u16,
    /// In wire order.
    protocol: u16,
    kind: String,
    /// The name of a BPF program.
    name: Option<String>,
    /// Only the place for them.
    empty: bool,
}

/// The filters of an interface, in the order in which packets meet them.
pub(super) fn list(netlink: &Netlink, ifindex: u32, place: TcAttachType) -> io::Result<Vec<Filter>> {
    let minor = if place == TcAttachType::Egress { TcHandle::MIN_EGRESS } else { TcHandle::MIN_INGRESS };
    let mut wanted = about(ifindex)?;
    wanted.header.parent = TcHandle { major: u16::MAX, minor };
    let found: Vec<Found> = netlink.ask(RouteNetlinkMessage::GetTrafficFilter(wanted), NLM_F_DUMP)?;
    // Packets come to other chains from this one.
    let first_chain = found.into_iter().filter(|found| found.message == RTM_NEWTFILTER && found.chain == 0);
    Ok(first_chain.map(Filter::from).collect())
}

/// Whether a filter of that name is the first that packets meet.
pub(super) fn is_first(filters: &[Filter], name: &str) -> bool {
    filters.iter().find(|filter| !filter.empty).is_some_and(|filter| filter.name.as_deref() == Some(name))
}

/// A priority at which one of ours is before all these, or which of them is in the way. At one priority can be several BPF
/// filters of one protocol; the latest comes first.
pub(super) fn priority_before(filters: &[Filter]) -> Result<u16, String> {
    let Some(first) = filters.iter().min_by_key(|filter| filter.priority) else { return Ok(PRIORITY) };
    let joins = first.kind == "bpf" && first.protocol == EVERY_PROTOCOL;
    match first.priority {
        ..=FIRST if joins => Ok(FIRST),
        ..=FIRST => Err(format!(
            "the {} filter of priority {FIRST} comes before the one that carries checks; give the former a pref of 2 or more",
            first.kind
        )),
        others => Ok((others - 1).min(PRIORITY)),
    }
}

/// The queueing discipline that filters of what comes in hang on.
pub(super) fn discipline(netlink: &Netlink, ifindex: u32) -> io::Result<Option<String>> {
    let wanted = RouteNetlinkMessage::GetQueueDiscipline(about(ifindex)?);
    let found: Vec<Found> = netlink.ask(wanted, NLM_F_DUMP)?;
    let ours =
        |found: &Found| found.message == RTM_NEWQDISC && found.ifindex == ifindex && found.handle == CLSACT;
    Ok(found.into_iter().find(ours).map(|found| found.kind))
}

fn about(ifindex: u32) -> io::Result<TcMessage> {
    Ok(TcMessage::with_index(i32::try_from(ifindex).map_err(io::Error::other)?))
}

/// A message about traffic control. Of filters of all kinds only this much is read: what is in those of others may be
/// anything.
#[derive(Debug, Default)]
struct Found {
    message: u16,
    ifindex: u32,
    handle: u32,
    info: u32,
    kind: String,
    chain: u32,
    name: Option<String>,
}

impl NetlinkDeserializable for Found {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        // struct tcmsg: the family and padding, then these.
        let [ifindex, handle, info] = [4, 8, 16].map(|at| word(payload.get(at..).unwrap_or_default()));
        let mut found = Found { message: header.message_type, ifindex, handle, info, ..Found::default() };
        for attribute in NlasIterator::new(payload.get(20..).unwrap_or_default()) {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_KIND => found.kind = text(attribute.value()),
                TCA_CHAIN => found.chain = word(attribute.value()),
                // Kinds come before what is said of them.
                TCA_OPTIONS if found.kind == "bpf" => {
                    for option in NlasIterator::new(attribute.value()) {
                        let option = option?;
                        if option.kind() == TCA_BPF_NAME {
                            found.name = Some(text(option.value()));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

impl From<Found> for Filter {
    fn from(found: Found) -> Self {
        let [priority, protocol] = [found.info >> 16, found.info & 0xffff].map(|half| half as u16);
        Self { priority, protocol, kind: found.kind, name: found.name, empty: found.handle == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(priority: u16, protocol: u16, kind: &str) -> Filter {
        Filter { priority, protocol, kind: kind.into(), name: None, empty: false }
    }

    #[test]
    fn ours_comes_before_those_of_others_wherever_that_can_be() {
        let ip = 0x0800_u16.to_be();
        for (others, ours) in [
            (vec![], Ok(112)),
            (vec![filter(0xc000, ip, "u32")], Ok(112)),
            (vec![filter(112, EVERY_PROTOCOL, "matchall"), filter(400, ip, "bpf")], Ok(111)),
            (vec![filter(112, ip, "bpf")], Ok(111)),
            (vec![filter(2, ip, "flower")], Ok(1)),
            (vec![filter(1, EVERY_PROTOCOL, "bpf"), filter(2, ip, "flower")], Ok(1)),
            (vec![filter(1, ip, "bpf")], Err("bpf")),
            (vec![filter(1, EVERY_PROTOCOL, "matchall")], Err("matchall")),
        ] {
            match (priority_before(&others), ours) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{others:?}"),
                (Err(found), Err(kind)) => assert!(found.contains(&format!("the {kind} filter"))),
                (found, _) => panic!("{others:?}: {found:?}"),
            }
        }
    }
}
