//! What access lists and limits obey.

use ipnet::IpNet;
use pen_common::abi;

use super::wrong;
use crate::api::ApiError;
use crate::dataplane::{Affinity, Prefixes, Protocol, Tracking};
use crate::state::desired::Service;

/// Checks who may use a service, and how much of it.
pub(super) fn guard(service: &Service) -> Result<(), ApiError> {
    access(service)?;
    let flows = service.rate_limit.is_some_and(|limit| limit.flows.is_some());
    match (service.vip.protocol, service.tracking) {
        // Tracking is off then, whatever was said.
        (Protocol::Udp, _) if flows && service.affinity == Affinity::None => Err(wrong(
            service,
            "rate_limit: `flows` of a UDP service needs memory, and affinity `none` remembers nobody: a datagram is of a \
             new flow if nobody remembers it",
            "use affinity `client` or `flow`, or limit `packets`",
        )),
        (Protocol::Udp, Tracking::Transitions | Tracking::Off) if flows => Err(wrong(
            service,
            "rate_limit: `flows` of a UDP service goes with tracking `full` only: a datagram is of a new flow if nobody \
             remembers it",
            "use tracking `full`, or limit `packets`",
        )),
        _ => Ok(()),
    }
}

fn access(service: &Service) -> Result<(), ApiError> {
    mapped(service, "allow", &service.allow)?;
    mapped(service, "deny", &service.deny)?;
    let all = || service.allow.iter().chain(service.deny.iter());
    let v4 = all().filter(|net| matches!(net, IpNet::V4(_))).count();
    let most = v4.max(all().count() - v4);
    if most > abi::MAX_PREFIXES as usize {
        return Err(wrong(
            service,
            format!("{most} prefixes of one family are too many"),
            &format!("`allow` and `deny` together may have {}", abi::MAX_PREFIXES),
        ));
    }
    match service.allow.common(&service.deny).next() {
        None => Ok(()),
        Some(net) => Err(wrong(
            service,
            format!("{net} is in `allow` and in `deny`"),
            "leave it in one of them: the longest prefix that a client is in decides",
        )),
    }
}

/// Nobody comes from ::ffff:0:0/96: whoever writes it means IPv4.
fn mapped(service: &Service, key: &str, list: &Prefixes) -> Result<(), ApiError> {
    for net in list.iter() {
        let IpNet::V6(v6) = net else { continue };
        let Some(v4) = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96) else { continue };
        let same = format!("write {v4}/{}", v6.prefix_len() - 96);
        return Err(wrong(service, format!("`{net}` in `{key}` is IPv4 written as IPv6"), &same));
    }
    Ok(())
}
