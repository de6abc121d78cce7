//! Where addresses come in. A forwarded packet keeps its port, so services and backends here are IP addresses alone.

use std::net::IpAddr;

use pen_common::maglev;

use super::failure_with_hint;
use crate::dataplane::{BackendAddress, DataPlaneError, Member, ServiceKey};

/// What to do about an address that packets cannot be forwarded to.
const PROXY_CAN: &str = "use an IP address without a port, or run the proxy (`run --dataplane proxy`)";

/// The VIP of a service.
pub(super) fn vip(key: &ServiceKey) -> Result<IpAddr, DataPlaneError> {
    key.ip().ok_or_else(|| {
        failure_with_hint(format!("set service {key}"), "a Unix socket gets no packets", PROXY_CAN)
    })
}

/// The address of a backend.
pub(super) fn backend(address: BackendAddress) -> Result<IpAddr, DataPlaneError> {
    match address {
        BackendAddress::Ip(address) => Ok(address),
        BackendAddress::Port(_) | BackendAddress::Unix(_) => Err(failure_with_hint(
            format!("set backend {address}"),
            "packets can only be forwarded to an IP address, on the port they came to",
            PROXY_CAN,
        )),
    }
}

/// Who shares a slot table, as the table is built from it.
pub(super) fn members(members: &[Member]) -> Result<Vec<maglev::Member>, DataPlaneError> {
    let one = |member: &Member| {
        Ok(maglev::Member { address: backend(member.address)?.into(), weight: member.weight })
    };
    members.iter().map(one).collect()
}
