//! Access lists that let nobody in: right as they are written, and hardly what somebody meant.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::state::desired::Service;

/// What somebody should know of a service whose `allow` names no client that could come: a VIP has clients of its own
/// family.
pub(crate) fn warning(service: &Service) -> Option<String> {
    let family = match service.vip.ip()? {
        // The proxy takes clients of both families there.
        IpAddr::V6(any) if any.is_unspecified() => return None,
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let of_family = |net: &IpNet| matches!(net, IpNet::V4(_)) == (family == "IPv4");
    // Whom a balancer in front speaks for may be of either.
    let any = service.allow.is_empty() || !service.proxy_protocol_from.is_empty();
    if any || service.allow.iter().any(of_family) {
        return None;
    }
    Some(format!(
        "its `allow` has no {family} prefix, so everybody is refused: add one, or let everybody in with `--allow none`"
    ))
}

/// What somebody should know of all these services, one line each.
pub(crate) fn warnings(services: &[Service]) -> Vec<String> {
    let one = |service: &Service| Some(format!("service {}: {}", service.name, warning(service)?));
    services.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(vip: &str, more: &str) -> Option<String> {
        let text = format!("name = 'web'\nvip = '{vip}'\n{more}");
        warning(&toml::from_str::<crate::state::spec::ServiceSpec>(&text).unwrap().complete().unwrap())
    }

    #[test]
    fn an_allow_without_a_prefix_of_the_vips_family_is_warned_of() {
        let words = warned("10.0.0.100:80/tcp", "allow = ['2001:db8::/32']").unwrap();
        assert!(words.contains("no IPv4 prefix, so everybody is refused"), "{words}");
        assert!(warned("[2001:db8::1]:80/tcp", "allow = ['10.0.0.0/8']").unwrap().contains("no IPv6 prefix"));
        assert_eq!(warned("10.0.0.100:80/tcp", "allow = ['2001:db8::/32', '10.0.0.0/8']"), None);
        assert_eq!(warned("10.0.0.100:80/tcp", "deny = ['2001:db8::/32']"), None);
        assert_eq!(warned("10.0.0.100:80/tcp", ""), None);
    }

    #[test]
    fn where_clients_of_the_other_family_may_come_nobody_is_warned() {
        assert_eq!(warned("[::]:80/tcp", "allow = ['10.0.0.0/8']"), None);
        let behind = "allow = ['2001:db8::/32']\nproxy_protocol_from = ['10.0.0.0/8']";
        assert_eq!(warned("10.0.0.100:80/tcp", behind), None);
    }
}
