//! Who is asked on the VIP, and who on its own address.

use std::net::IpAddr;

use super::*;
use crate::dataplane::Mac;
use crate::state::spec::ServiceSpec;
use crate::surroundings::testing::link;

const ETH0: u32 = 2;
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 11));
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Where the backend of a service is asked that has this check and these keys.
fn asked_where(health: &str, backend: &str, resolution: Option<Resolution>) -> Hop {
    asked(health, backend, resolution, Kind::Xdp)
}

fn asked(health: &str, backend: &str, resolution: Option<Resolution>, kind: Kind) -> Hop {
    let text = format!(
        "name = 'web'\nvip = '10.0.0.100:80/tcp'\nhealth = '{health}'\nbackend = [{{ address = '{OWN}'{backend} }}]"
    );
    let service = toml::from_str::<ServiceSpec>(&text).unwrap().complete().unwrap();
    let mut seen = Seen::default();
    seen.links.extend([(ETH0, link(ETH0, "eth0")), (3, link(3, "eth1"))]);
    seen.resolutions.extend(resolution.map(|resolution| (OWN, resolution)));
    let backend = &service.backends[0];
    let check = service.check(backend, Kind::Xdp).unwrap();
    hop(&service, backend, &check, kind, &seen, &BTreeSet::from([ETH0]))
}

fn on_link(ifindex: u32) -> Option<Resolution> {
    Some(Resolution::OnLink { mac: MAC, ifindex })
}

fn vip_at(mac: Mac, or_own: bool) -> Hop {
    Hop::Link { lane: Lane { vip: [10, 0, 0, 100].into(), backend: OWN, mac, ifindex: ETH0 }, or_own }
}

#[test]
fn the_vip_is_asked_at_the_backends_mac_unless_the_check_says_direct() {
    assert_eq!(asked_where("tcp", "", on_link(ETH0)), vip_at(MAC, true));
    assert_eq!(asked_where("tcp,way=dsr", "", on_link(ETH0)), vip_at(MAC, false));
    assert_eq!(asked_where("tcp,way=direct", "", on_link(ETH0)), Hop::Own);
    for health in ["icmp", "http", "dns", "udp"] {
        assert_eq!(asked_where(health, "", on_link(ETH0)), vip_at(MAC, true), "{health}");
    }
    let fixed = ", mac = '02:00:00:00:00:09'";
    assert_eq!(asked_where("tcp", fixed, on_link(ETH0)), vip_at(Mac([2, 0, 0, 0, 0, 9]), true));
}

#[test]
fn what_cannot_be_asked_as_a_service_is_asked_on_its_own_address() {
    for health in ["exec,command=/bin/true", "agent,port=9000"] {
        assert_eq!(asked_where(health, "", on_link(ETH0)), Hop::Own, "{health}");
    }
    let vlan = ", mac = '02:00:00:00:00:09', vlan = 5";
    assert_eq!(asked_where("tcp", vlan, on_link(ETH0)), Hop::Own);
    assert_eq!(asked_where("tcp", "", Some(Resolution::Local)), Hop::Own);
    assert_eq!(asked("tcp", "", None, Kind::Proxy), Hop::Own);
}

#[test]
fn a_backend_without_a_mac_is_waited_for_and_one_that_lost_it_fails_on_its_own_address() {
    assert_eq!(asked_where("tcp", "", None), Hop::Waiting("waiting for its MAC".into()));
    let lost = Resolution::Unreachable("no answer to ARP on eth0".into());
    assert_eq!(asked_where("tcp", "", Some(lost)), Hop::Own);
    match asked_where("tcp", "", on_link(3)) {
        Hop::Waiting(why) => assert!(why.contains("interface eth1, which is neither attached"), "{why}"),
        other => panic!("{other:?}"),
    }
}
