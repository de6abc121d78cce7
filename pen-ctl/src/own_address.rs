//! VIPs that are addresses of this machine: what comes for the machine itself goes to the backends then.
//!
//! On a loopback interface a VIP is at home: a backend on this host has it there, and with `on_empty = "pass"` a server
//! of last resort. On any other it is most likely the address that the machine is reached by, and that its health
//! checks are answered at.

use std::net::IpAddr;

use crate::api::ApiError;
use crate::dataplane::{Protocol, ServiceKey};
use crate::state::desired::{Desired, Service};
use crate::surroundings::Links;

/// The interface that has this address; loopback interfaces do not count.
fn interface_with(links: &Links, address: IpAddr) -> Option<&str> {
    let found = links.values().find(|link| !link.loopback && link.addresses.contains(&address));
    found.map(|link| link.name.as_str())
}

/// What somebody should know of a service on an address of this machine.
pub(crate) fn warning(vip: &ServiceKey, links: &Links) -> Option<String> {
    let interface = interface_with(links, vip.ip()?)?;
    let own = format!("{} is this machine's own address on {interface}", vip.address);
    Some(match (vip.port, vip.protocol) {
        (0, Protocol::Tcp) => {
            format!(
                "{own}: all TCP that comes for it, ssh and answers to health checks included, goes to the backends"
            )
        }
        (0, Protocol::Udp) => {
            format!(
                "{own}: all UDP that comes for it, answers from DNS servers included, goes to the backends"
            )
        }
        (port, protocol) => {
            format!("{own}: what comes for its own port {port}/{protocol} goes to the backends")
        }
    })
}

/// What somebody should know of all these services, one line each.
pub(crate) fn warnings(services: &[Service], links: &Links) -> Vec<String> {
    let one =
        |service: &Service| Some(format!("service {}: {}", service.name, warning(&service.vip, links)?));
    services.iter().filter_map(one).collect()
}

/// Refuses services that come to every port of an address of this machine: it could not be reached any more. Those that
/// are there `before` stay: the address came after them, as it does on a balancer that takes over for another.
pub(crate) fn refuse(before: &Desired, wanted: &Desired, links: &Links) -> Result<(), ApiError> {
    let known = |vip: &ServiceKey| before.services.iter().any(|service| service.vip == *vip);
    let new = wanted.services.iter().filter(|service| service.vip.is_every_port() && !known(&service.vip));
    for Service { name, vip, .. } in new {
        if let Some(why) = warning(vip, links) {
            return Err(ApiError::invalid(
                format!("service {name}: {why}"),
                "use a VIP that this machine does not have, or name the ports",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Link;
    use crate::surroundings::testing::link;

    fn links() -> Links {
        let lo = Link { loopback: true, ethernet: false, mac: None, ..link(1, "lo") };
        let eth0 = link(2, "eth0");
        let on = |link: Link, addresses: [&str; 2]| Link {
            addresses: addresses.map(|address| address.parse().unwrap()).into(),
            ..link
        };
        let all = [on(lo, ["10.0.0.100", "fd00::100"]), on(eth0, ["10.0.0.2", "fd00::2"])];
        all.into_iter().map(|link| (link.index, link)).collect()
    }

    fn said(vip: &str) -> String {
        warning(&vip.parse().unwrap(), &links()).unwrap_or_default()
    }

    #[test]
    fn an_own_address_is_told_with_its_interface_and_what_goes_astray() {
        let own = "10.0.0.2 is this machine's own address on eth0";
        assert_eq!(
            said("10.0.0.2:80/tcp"),
            format!("{own}: what comes for its own port 80/tcp goes to the backends")
        );
        assert!(said("10.0.0.2:*/tcp").contains("ssh and answers to health checks included"));
        assert!(
            said("[fd00::2]:*/udp").starts_with("fd00::2 is this machine's own address on eth0: all UDP")
        );
    }

    #[test]
    fn a_vip_on_loopback_or_nowhere_is_at_home() {
        for vip in ["10.0.0.100:*/tcp", "[fd00::100]:53/udp", "10.0.0.101:*/tcp"] {
            assert_eq!(said(vip), "");
        }
    }
}
