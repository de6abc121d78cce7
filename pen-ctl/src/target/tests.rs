//! Who serves, who keeps clients, and the reasons people read.

use super::*;
use crate::state::desired::InterfaceSpec;
use crate::state::spec::ServiceSpec;
use crate::surroundings::testing::link;

const ETH0: u32 = 2;

fn wanted(backends: &str) -> Desired {
    let text = format!("name = 'web'\nvip = '10.0.0.100:80/tcp'\nbackend = [{backends}]");
    let mut desired = Desired::new(5);
    desired.services.push(toml::from_str::<ServiceSpec>(&text).unwrap().complete().unwrap());
    desired.interfaces.push(InterfaceSpec::new("eth0"));
    desired
}

fn on_link(ifindex: u32, n: u8) -> Resolution {
    Resolution::OnLink { mac: Mac([2, 0, 0, 0, 0, n]), ifindex }
}

fn sighting(status: HealthStatus, detail: &str) -> Sighting {
    Sighting { status, detail: detail.into(), since: 1 }
}

fn vip() -> ServiceKey {
    "10.0.0.100:80/tcp".parse().unwrap()
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// Everybody resolved on eth0 and up.
fn all_well(desired: &Desired) -> Seen {
    let mut seen = Seen::default();
    seen.links.insert(ETH0, link(ETH0, "eth0"));
    for (n, backend) in desired.services[0].backends.iter().enumerate() {
        seen.resolutions.insert(backend.address, on_link(ETH0, n as u8));
        seen.health.insert((vip(), backend.address), sighting(HealthStatus::Up, "connected"));
    }
    seen
}

fn members(desired: &Desired, seen: &Seen) -> Option<Vec<IpAddr>> {
    let (target, standings) = build(desired, seen, Duration::ZERO);
    for ((key, address), standing) in &standings {
        let backend = &target.services[key].backends[address];
        assert_eq!((backend.serving, backend.usable), (standing.serving, standing.usable));
        assert_eq!(standing.serving, standing.reason.is_none());
        assert!(standing.usable || !standing.serving, "who serves is usable");
    }
    target.services[&vip()].members.as_ref().map(|all| all.iter().map(|member| member.address).collect())
}

fn reason(desired: &Desired, seen: &Seen, n: u8) -> String {
    build(desired, seen, Duration::ZERO).1[&(vip(), ip(n))].reason.clone().unwrap_or_default()
}

fn usable(desired: &Desired, seen: &Seen, n: u8) -> bool {
    build(desired, seen, Duration::ZERO).1[&(vip(), ip(n))].usable
}

const TWO: &str = "{ address = '10.0.0.11' }, { address = '10.0.0.12', weight = 3 }";

#[test]
fn whoever_is_up_healthy_and_resolved_serves() {
    let desired = wanted(TWO);
    assert_eq!(members(&desired, &all_well(&desired)), Some(vec![ip(11), ip(12)]));
}

#[test]
fn each_reason_for_not_serving_is_said() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    seen.health.insert((vip(), ip(11)), sighting(HealthStatus::Down, "connection refused"));
    assert_eq!(reason(&desired, &seen, 11), "health check failed: connection refused");
    assert!(!usable(&desired, &seen, 11));
    seen.health.remove(&(vip(), ip(11)));
    assert_eq!(reason(&desired, &seen, 11), "waiting for the first health check");
    seen.resolutions.insert(ip(11), Resolution::Unreachable("no answer to ARP on eth0".into()));
    assert_eq!(reason(&desired, &seen, 11), "no MAC: no answer to ARP on eth0");
    seen.resolutions.remove(&ip(11));
    assert_eq!(reason(&desired, &seen, 11), "waiting for its MAC");
    seen.links.insert(3, link(3, "eth1"));
    seen.resolutions.insert(ip(11), on_link(3, 1));
    assert!(reason(&desired, &seen, 11).contains("interface eth1, which is neither attached"));
    assert_eq!(members(&desired, &seen), Some(vec![ip(12)]));
}

#[test]
fn draining_keeps_clients_and_down_keeps_nobody() {
    let desired =
        wanted("{ address = '10.0.0.11', state = 'drain' }, { address = '10.0.0.12', state = 'down' }");
    let seen = all_well(&desired);
    assert_eq!(members(&desired, &seen), Some(vec![]));
    assert_eq!((usable(&desired, &seen, 11), usable(&desired, &seen, 12)), (true, false));
    assert_eq!(reason(&desired, &seen, 11), "draining");
    assert_eq!(reason(&desired, &seen, 12), "down by the operator");
}

#[test]
fn the_lowest_priority_that_has_anybody_serving_serves() {
    let desired = wanted("{ address = '10.0.0.11' }, { address = '10.0.0.12', priority = 1 }");
    let mut seen = all_well(&desired);
    assert_eq!(members(&desired, &seen), Some(vec![ip(11)]));
    assert_eq!(reason(&desired, &seen, 12), "standby: priority 0 is serving");
    assert!(usable(&desired, &seen, 12), "a standby keeps the clients it has");
    seen.health.insert((vip(), ip(11)), sighting(HealthStatus::Down, ""));
    assert_eq!(members(&desired, &seen), Some(vec![ip(12)]));
}

#[test]
fn a_first_table_waits_for_every_result_or_its_deadline() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    seen.first_tables.insert(vip(), Duration::from_millis(500));
    seen.health.remove(&(vip(), ip(12)));
    assert_eq!(members(&desired, &seen), None);
    let late = build(&desired, &seen, Duration::from_millis(500)).0;
    assert_eq!(late.services[&vip()].members.as_ref().map(Vec::len), Some(1));
    seen.resolutions.insert(ip(12), Resolution::Unreachable("no route".into()));
    assert_eq!(members(&desired, &seen), Some(vec![ip(11)]));
    seen.resolutions.remove(&ip(12));
    let mut drained = desired.clone();
    drained.services[0].backends[1].state = AdminState::Drain;
    assert_eq!(members(&drained, &seen), Some(vec![ip(11)]), "who gets no newcomers is not waited for");
}

#[test]
fn vlans_on_an_attached_interface_lead_to_it_with_their_tags() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    seen.links.insert(5, Link { vlan: Some((ETH0, 100)), ..link(5, "eth0.100") });
    seen.links.insert(6, Link { vlan: Some((5, 7)), ..link(6, "eth0.100.7") });
    seen.resolutions.insert(ip(11), on_link(5, 1));
    seen.resolutions.insert(ip(12), on_link(6, 2));
    let backends = &build(&desired, &seen, Duration::ZERO).0.services[&vip()].backends;
    let tags = |n| backends[&ip(n)].path.map(|path| (path.ifindex, path.vlan, path.inner_vlan));
    assert_eq!(tags(11), Some((ETH0, 100, 0)));
    assert_eq!(tags(12), Some((ETH0, 100, 7)));
}

#[test]
fn a_backend_of_a_bridge_or_bond_is_behind_its_attached_port() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    seen.links.insert(8, link(8, "bond0"));
    seen.links.insert(ETH0, Link { master: Some(8), ..link(ETH0, "eth0") });
    seen.resolutions.insert(ip(11), on_link(8, 1));
    let (target, _) = build(&desired, &seen, Duration::ZERO);
    assert_eq!(target.services[&vip()].backends[&ip(11)].path.unwrap().ifindex, ETH0);
    assert_eq!(target.interfaces["eth0"].master_mac, Some(Mac([2, 0, 0, 0, 9, 8])));
}

#[test]
fn a_fixed_mac_beats_the_looked_up_one_and_a_fixed_vlan_needs_no_route() {
    let desired = wanted(
        "{ address = '10.0.0.11', mac = '02:00:00:00:00:aa' }, \
         { address = '10.0.0.12', mac = '02:00:00:00:00:bb', vlan = 9 }, { address = '10.0.0.13' }",
    );
    let mut seen = all_well(&desired);
    seen.resolutions.insert(ip(12), Resolution::Unreachable("no route".into()));
    seen.resolutions.insert(ip(13), Resolution::Local);
    let backends = &build(&desired, &seen, Duration::ZERO).0.services[&vip()].backends;
    let path = |n| backends[&ip(n)].path.unwrap();
    assert_eq!(path(11).mac.to_string(), "02:00:00:00:00:aa");
    assert_eq!(
        (path(12).mac.to_string().as_str(), path(12).vlan, path(12).ifindex),
        ("02:00:00:00:00:bb", 9, ETH0)
    );
    assert!(path(13).local);
}

#[test]
fn an_adopted_way_holds_until_something_else_is_known() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    let path = BackendPath { mac: Mac([2; 6]), ifindex: ETH0, vlan: 0, inner_vlan: 0, local: false };
    seen.adopted.insert((vip(), ip(11)), path);
    seen.resolutions.remove(&ip(11));
    assert_eq!(members(&desired, &seen), Some(vec![ip(11), ip(12)]));
    seen.resolutions.insert(ip(11), Resolution::Unreachable("no answer to ARP on eth0".into()));
    assert_eq!(members(&desired, &seen), Some(vec![ip(12)]));
}

#[test]
fn interfaces_that_are_absent_or_not_ethernet_are_left_out() {
    let mut desired = wanted(TWO);
    desired.interfaces.extend(["eth7", "tun0"].map(InterfaceSpec::new));
    let mut seen = all_well(&desired);
    seen.links.insert(4, Link { ethernet: false, mac: None, ..link(4, "tun0") });
    let (target, _) = build(&desired, &seen, Duration::ZERO);
    assert!(target.interfaces.keys().eq(["eth0"]));
}
