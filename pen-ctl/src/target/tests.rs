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
    Sighting { status, detail: detail.into(), since: 1, ..Sighting::default() }
}

fn vip() -> ServiceKey {
    "10.0.0.100:80/tcp".parse().unwrap()
}

/// The address of a backend.
fn at(n: u8) -> BackendAddress {
    ip(n).into()
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// Everybody resolved on eth0 and up.
fn all_well(desired: &Desired) -> Seen {
    let mut seen = Seen::default();
    seen.links.insert(ETH0, link(ETH0, "eth0"));
    for (n, backend) in desired.services[0].backends.iter().enumerate() {
        seen.resolutions.insert(backend.address.ip().unwrap(), on_link(ETH0, n as u8));
        seen.health.insert((vip(), backend.address), sighting(HealthStatus::Up, "connected"));
    }
    seen
}

fn members(desired: &Desired, seen: &Seen) -> Option<Vec<BackendAddress>> {
    let (target, standings) = build(desired, Kind::Xdp, seen, Duration::ZERO);
    for ((key, address), standing) in &standings {
        let backend = &target.services[key].backends[address];
        assert_eq!((backend.serving, backend.usable), (standing.serving, standing.usable));
        assert_eq!(standing.serving, standing.reason.is_none());
        assert!(standing.serving || !standing.panic);
        assert!(standing.usable || !standing.serving, "who serves is usable");
    }
    target.services[&vip()].members.as_ref().map(|all| all.iter().map(|member| member.address).collect())
}

fn reason(desired: &Desired, seen: &Seen, n: u8) -> String {
    build(desired, Kind::Xdp, seen, Duration::ZERO).1[&(vip(), at(n))].reason.clone().unwrap_or_default()
}

fn usable(desired: &Desired, seen: &Seen, n: u8) -> bool {
    build(desired, Kind::Xdp, seen, Duration::ZERO).1[&(vip(), at(n))].usable
}

const TWO: &str = "{ address = '10.0.0.11' }, { address = '10.0.0.12', weight = 3 }";

#[test]
fn whoever_is_up_healthy_and_resolved_serves() {
    let desired = wanted(TWO);
    assert_eq!(members(&desired, &all_well(&desired)), Some(vec![at(11), at(12)]));
}

#[test]
fn each_reason_for_not_serving_is_said() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    seen.health.insert((vip(), at(11)), sighting(HealthStatus::Down, "connection refused"));
    assert_eq!(reason(&desired, &seen, 11), "health check failed: connection refused");
    assert!(!usable(&desired, &seen, 11));
    let recovering = "recovering: connected in 0.3 ms; up after 2 good checks in a row (rise)";
    let of = |status, ground, detail: &str| Sighting { ground, ..sighting(status, detail) };
    for (status, ground, detail, expected) in [
        (HealthStatus::Down, Ground::Recovering, recovering, recovering),
        (
            HealthStatus::Down,
            Ground::Unasked,
            "not checked: no such file",
            "down when last checked; not checked: no such file",
        ),
        (
            HealthStatus::Unknown,
            Ground::Unasked,
            "not checked: no such file",
            "not checked yet: no such file",
        ),
    ] {
        seen.health.insert((vip(), at(11)), of(status, ground, detail));
        assert_eq!(reason(&desired, &seen, 11), expected);
    }
    seen.health.remove(&(vip(), at(11)));
    assert_eq!(reason(&desired, &seen, 11), "waiting for the first health check");
    seen.resolutions.insert(ip(11), Resolution::Unreachable("no answer to ARP on eth0".into()));
    assert_eq!(reason(&desired, &seen, 11), "no MAC: no answer to ARP on eth0");
    seen.resolutions.remove(&ip(11));
    assert_eq!(reason(&desired, &seen, 11), "waiting for its MAC");
    seen.links.insert(3, link(3, "eth1"));
    seen.resolutions.insert(ip(11), on_link(3, 1));
    assert!(reason(&desired, &seen, 11).contains("interface eth1, which is neither attached"));
    assert_eq!(members(&desired, &seen), Some(vec![at(12)]));
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

/// Whom its agent advises so, asked on a service whose backends have agents.
fn advised(advice: Advice) -> (Desired, Seen) {
    let mut desired =
        wanted("{ address = '10.0.0.11', weight = 100 }, { address = '10.0.0.12', weight = 3 }");
    desired.services[0].health = Some("agent,port=9000".parse().unwrap());
    let mut seen = all_well(&desired);
    seen.health.get_mut(&(vip(), at(11))).unwrap().advice = advice;
    (desired, seen)
}

#[test]
fn an_agent_changes_a_share_and_never_the_weight() {
    let (desired, seen) = advised(Advice { weight: Some(30), drain: false });
    let (target, standings) = build(&desired, Kind::Xdp, &seen, Duration::ZERO);
    let members = target.services[&vip()].members.clone().unwrap();
    assert_eq!(
        members.iter().map(|member| member.weight).collect::<Vec<_>>(),
        [240, 24],
        "eight times as fine"
    );
    assert_eq!(standings[&(vip(), at(11))].weight, 30);
    let (target, _) = build(&desired, Kind::Proxy, &seen, Duration::ZERO);
    let backend = target.services[&vip()].backends[&at(11)].proxy.unwrap();
    assert_eq!((backend.weight, backend.draining), (240, false));
}

#[test]
fn an_agent_that_drains_or_wants_nothing_keeps_its_clients_only() {
    for (advice, why) in [
        (Advice { weight: Some(50), drain: true }, "draining: its agent says so"),
        (Advice { weight: Some(0), drain: false }, "draining: its agent says 0%"),
    ] {
        let (desired, seen) = advised(advice);
        assert_eq!(members(&desired, &seen), Some(vec![at(12)]));
        assert!(usable(&desired, &seen, 11));
        assert_eq!(reason(&desired, &seen, 11), why);
        let (target, _) = build(&desired, Kind::Proxy, &seen, Duration::ZERO);
        let backend = target.services[&vip()].backends[&at(11)].proxy.unwrap();
        assert!(backend.draining && backend.weight >= 1);
        let mut operators = desired.clone();
        operators.services[0].backends[0].state = AdminState::Drain;
        assert_eq!(reason(&operators, &seen, 11), "draining", "the operator's word comes first");
        let mut no_agent = desired.clone();
        no_agent.services[0].health = Some("none".parse().unwrap());
        assert_eq!(reason(&no_agent, &seen, 11), "", "it is not asked any more");
    }
}

#[test]
fn the_lowest_priority_that_has_anybody_serving_serves() {
    let desired = wanted("{ address = '10.0.0.11' }, { address = '10.0.0.12', priority = 1 }");
    let mut seen = all_well(&desired);
    assert_eq!(members(&desired, &seen), Some(vec![at(11)]));
    assert_eq!(reason(&desired, &seen, 12), "standby: priority 0 is serving");
    assert!(usable(&desired, &seen, 12), "a standby keeps the clients it has");
    seen.health.insert((vip(), at(11)), sighting(HealthStatus::Down, ""));
    assert_eq!(members(&desired, &seen), Some(vec![at(12)]));
}

/// Of four backends, the first `sick` of them fail their checks.
fn sick_of_four(text: &str, sick: u8) -> (Desired, Seen) {
    let mut desired = wanted(text);
    desired.services[0].panic = 50;
    let mut seen = all_well(&desired);
    for n in 0..sick {
        seen.health.insert((vip(), at(11 + n)), sighting(HealthStatus::Down, "connection refused"));
    }
    (desired, seen)
}

const FOUR: &str = "{ address = '10.0.0.11' }, { address = '10.0.0.12' }, { address = '10.0.0.13' }, \
                    { address = '10.0.0.14' }";

#[test]
fn when_too_few_are_well_all_that_are_not_down_by_order_serve() {
    let after = |text: &str, sick| {
        let (desired, seen) = sick_of_four(text, sick);
        members(&desired, &seen).unwrap()
    };
    assert_eq!(after(FOUR, 2), [at(13), at(14)], "half of them are enough");
    assert_eq!(after(FOUR, 3), [at(11), at(12), at(13), at(14)]);
    assert_eq!(after(FOUR, 4), [at(11), at(12), at(13), at(14)]);
    let (mut desired, mut seen) = sick_of_four(FOUR, 4);
    desired.services[0].backends[0].state = AdminState::Down;
    desired.services[0].backends[1].state = AdminState::Drain;
    seen.resolutions.insert(ip(13), Resolution::Unreachable("no answer to ARP on eth0".into()));
    assert_eq!(members(&desired, &seen).unwrap(), [at(14)], "not by order, and not without a MAC");
    desired.services[0].panic = 0;
    assert_eq!(members(&desired, &seen).unwrap(), []);
}

#[test]
fn an_emergency_server_that_is_well_is_used_before_anybody_panics() {
    let text =
        "{ address = '10.0.0.11' }, { address = '10.0.0.12' }, { address = '10.0.0.13', priority = 1 }";
    let (desired, seen) = sick_of_four(text, 2);
    assert_eq!(members(&desired, &seen).unwrap(), [at(13)]);
    let (desired, seen) = sick_of_four(text, 3);
    assert_eq!(members(&desired, &seen).unwrap(), [at(11), at(12), at(13)]);
}

#[test]
fn nobody_panics_before_there_are_results() {
    let (desired, mut seen) = sick_of_four(FOUR, 0);
    for n in 11..14 {
        seen.health.remove(&(vip(), at(n)));
        seen.health.insert((vip(), at(n)), Sighting::default());
    }
    assert_eq!(members(&desired, &seen).unwrap(), [at(14)]);
}

#[test]
fn a_first_table_waits_for_every_result_or_its_deadline() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    seen.first_tables.insert(vip(), Duration::from_millis(500));
    seen.health.remove(&(vip(), at(12)));
    assert_eq!(members(&desired, &seen), None);
    let late = build(&desired, Kind::Xdp, &seen, Duration::from_millis(500)).0;
    assert_eq!(late.services[&vip()].members.as_ref().map(Vec::len), Some(1));
    seen.resolutions.insert(ip(12), Resolution::Unreachable("no route".into()));
    assert_eq!(members(&desired, &seen), Some(vec![at(11)]));
    seen.resolutions.remove(&ip(12));
    let mut drained = desired.clone();
    drained.services[0].backends[1].state = AdminState::Drain;
    assert_eq!(members(&drained, &seen), Some(vec![at(11)]), "who gets no newcomers is not waited for");
}

#[test]
fn vlans_on_an_attached_interface_lead_to_it_with_their_tags() {
    let desired = wanted(TWO);
    let mut seen = all_well(&desired);
    seen.links.insert(5, Link { vlan: Some((ETH0, 100)), ..link(5, "eth0.100") });
    seen.links.insert(6, Link { vlan: Some((5, 7)), ..link(6, "eth0.100.7") });
    seen.resolutions.insert(ip(11), on_link(5, 1));
    seen.resolutions.insert(ip(12), on_link(6, 2));
    let backends = &build(&desired, Kind::Xdp, &seen, Duration::ZERO).0.services[&vip()].backends;
    let tags = |n| backends[&at(n)].path.map(|path| (path.ifindex, path.vlan, path.inner_vlan));
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
    let (target, _) = build(&desired, Kind::Xdp, &seen, Duration::ZERO);
    assert_eq!(target.services[&vip()].backends[&at(11)].path.unwrap().ifindex, ETH0);
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
    let backends = &build(&desired, Kind::Xdp, &seen, Duration::ZERO).0.services[&vip()].backends;
    let path = |n| backends[&at(n)].path.unwrap();
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
    seen.adopted.insert((vip(), at(11)), path);
    seen.resolutions.remove(&ip(11));
    assert_eq!(members(&desired, &seen), Some(vec![at(11), at(12)]));
    seen.resolutions.insert(ip(11), Resolution::Unreachable("no answer to ARP on eth0".into()));
    assert_eq!(members(&desired, &seen), Some(vec![at(12)]));
}

#[test]
fn interfaces_that_are_absent_or_not_ethernet_are_left_out() {
    let mut desired = wanted(TWO);
    desired.interfaces.extend(["eth7", "tun0"].map(InterfaceSpec::new));
    let mut seen = all_well(&desired);
    seen.links.insert(4, Link { ethernet: false, mac: None, ..link(4, "tun0") });
    let (target, _) = build(&desired, Kind::Xdp, &seen, Duration::ZERO);
    assert!(target.interfaces.keys().eq(["eth0"]));
}

#[test]
fn the_proxy_needs_no_way_to_a_backend_and_is_told_who_stands_by_and_who_drains() {
    let desired = wanted(
        "{ address = '10.0.0.11:81', weight = 3, soft_limit = 5, hard_limit = 6 }, { address = '/run/a', priority = 1 }, \
         { address = '10.0.0.13', state = 'drain' }, { address = '10.0.0.14', state = 'down' }",
    );
    let mut seen = Seen::default();
    for backend in &desired.services[0].backends {
        seen.health.insert((vip(), backend.address), sighting(HealthStatus::Up, "connected"));
    }
    let (target, standings) = build(&desired, Kind::Proxy, &seen, Duration::ZERO);
    assert!(target.interfaces.is_empty(), "the proxy attaches to nothing");
    let service = &target.services[&vip()];
    let told = |address: &str| {
        let target = &service.backends[&address.parse().unwrap()];
        let proxy = target.proxy.unwrap();
        (target.usable, target.serving, proxy.standby, proxy.draining)
    };
    assert_eq!(told("10.0.0.11:81"), (true, true, false, false));
    assert_eq!(told("/run/a"), (true, false, true, false));
    assert_eq!(told("10.0.0.13"), (true, false, false, true));
    assert!(!told("10.0.0.14").0, "who is down is not usable");
    let first = service.backends[&"10.0.0.11:81".parse().unwrap()].proxy.unwrap();
    assert_eq!((first.weight, first.soft_limit, first.hard_limit), (3, Some(5), Some(6)));
    assert!(service.settings.proxy.is_some());
    assert_eq!(service.members.as_ref().map(Vec::len), Some(1), "newcomers go to the one that serves");
    assert!(standings.values().all(|standing| standing.path.is_none()));
}
