//! The rules of access lists and limits.

use super::*;

fn service(keys: &str) -> ServiceSpec {
    let text = format!("name = 'web'\nvip = '10.0.0.100:80/tcp'\n{keys}");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[track_caller]
fn fine(keys: &str) {
    desired(&with(&[service(keys)]), Kind::Xdp).unwrap();
}

#[test]
fn lists_may_hold_any_prefix_of_either_family_and_longer_ones_of_each_other() {
    fine("allow = ['0.0.0.0/0', '::/0']\ndeny = ['10.0.0.0/8', '10.0.0.1', '2001:db8::/32']");
    fine("allow = ['10.0.0.0/8', '10.1.0.0/16', '10.0.0.0/8']\ndeny = []");
    fine("deny = ['::fffe:0:0/95', '::/0']");
}

#[test]
fn a_prefix_is_in_one_list_only() {
    service_refused(
        service("allow = ['10.0.0.0/8', '192.0.2.7', '2001:db8::/32']\ndeny = ['192.0.2.7/32']"),
        "192.0.2.7/32 is in `allow` and in `deny`",
    );
}

#[test]
fn ipv4_is_not_written_as_ipv6() {
    service_refused(service("allow = ['::ffff:10.0.0.0/104']"), "write 10.0.0.0/8");
    service_refused(service("deny = ['::ffff:10.0.0.1']"), "write 10.0.0.1/32");
    service_refused(service("deny = ['::ffff:0:0/96']"), "write 0.0.0.0/0");
}

#[test]
fn as_many_prefixes_of_a_family_as_fit_are_taken_and_no_more() {
    let v4 = |from: u32, count: u32| (from..from + count).map(|n| std::net::Ipv4Addr::from(n << 8).into());
    let list = |from, count| v4(from, count).map(|address: IpAddr| address.into()).collect();
    let state = |allow, deny| {
        with(&[ServiceSpec { allow: Some(list(0, allow)), deny: Some(list(1 << 21, deny)), ..web() }])
    };
    desired(&state(abi::MAX_PREFIXES - 1, 1), Kind::Xdp).unwrap();
    assert!(
        refused(&state(abi::MAX_PREFIXES - 1, 2)).contains("1048577 prefixes of one family are too many")
    );
}

#[test]
fn new_flows_of_udp_are_told_by_who_is_remembered() {
    let udp = |keys: &str| ServiceSpec { vip: "10.0.0.100:53/udp".parse().ok(), ..service(keys) };
    desired(&with(&[udp("rate_limit = { flows = 5 }")]), Kind::Xdp).unwrap();
    desired(&with(&[udp("rate_limit = { packets = 5 }\ntracking = 'off'")]), Kind::Xdp).unwrap();
    for (less, why) in [
        ("tracking = 'transitions'", "use tracking `full`"),
        ("tracking = 'off'", "use tracking `full`"),
        ("affinity = 'none'", "use affinity `client` or `flow`"),
    ] {
        service_refused(udp(&format!("{less}\nrate_limit = {{ flows = 5 }}")), why);
    }
    fine("rate_limit = { flows = 5 }\ntracking = 'off'");
}

#[test]
fn the_proxy_limits_no_packets_and_asks_addresses_only_where_there_are_some() {
    let state = with(&[service("rate_limit = { packets = 5 }")]);
    assert!(desired(&state, Kind::Proxy).unwrap_err().to_string().contains("`rate_limit` is about packets"));
    let lists = service("allow = ['10.0.0.0/8']\ndeny = ['10.0.0.1']");
    desired(&with(std::slice::from_ref(&lists)), Kind::Proxy).unwrap();
    let socket = ServiceSpec { vip: "/run/x".parse().ok(), ..lists };
    assert!(desired(&with(&[socket]), Kind::Proxy).unwrap_err().to_string().contains("Unix socket"));
}

#[test]
fn lists_and_limits_are_taken_back() {
    let mut service =
        service("allow = ['10.0.0.0/8']\ndeny = ['192.0.2.7']\nrate_limit = 'packets=5'").complete().unwrap();
    let nothing: ServiceSpec = serde_json::from_str("{}").unwrap();
    nothing.change(&mut service);
    assert_eq!((service.allow.len(), service.deny.len()), (1, 1));
    let back: ServiceSpec = serde_json::from_str(r#"{"allow":[],"deny":[],"rate_limit":null}"#).unwrap();
    back.change(&mut service);
    assert_eq!(service, Service::new("web".into(), service.vip));
}
