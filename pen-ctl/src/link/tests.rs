//! Interfaces as they are told, while they change.

use aya::programs::{Program, Xdp, xdp::XdpMode};

use rtnetlink::packet_route::link::InfoPortKind;

use super::*;
use crate::machine::testing::{Heard, Net, can_run, named};

#[test]
fn interfaces_are_told_as_they_are_and_become() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| link.up)).await;
        let (pen0, lo) = (heard.link("pen0"), heard.link("lo"));
        assert!(pen0.addresses.contains(&"10.9.0.1".parse().unwrap()));
        assert!(lo.loopback && !pen0.loopback && lo.addresses.contains(&"127.0.0.1".parse().unwrap()));
        assert!(pen0.ethernet && pen0.mac.is_some() && pen0.master.is_none() && pen0.vlan.is_none());
        assert!(!lo.ethernet && lo.mac.is_none() && lo.up);

        net.near("ip link add br0 type bridge");
        net.near("ip link set pen0 master br0");
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| link.master.is_some())).await;
        assert_eq!(heard.link("pen0").master, Some(heard.link("br0").index));

        for (address, prefix) in [("10.9.0.7", 24), ("fd09::7", 64)] {
            let has = |links: &Links| {
                named(links, "pen0").is_some_and(|link| link.addresses.contains(&address.parse().unwrap()))
            };
            net.near(&format!("ip address add {address}/{prefix} dev pen0"));
            heard.links_until(has).await;
            net.near(&format!("ip address del {address}/{prefix} dev pen0"));
            heard.links_until(|links| !has(links)).await;
        }

        net.near("ip link set pen0 address 02:00:00:00:00:01");
        heard
            .links_until(|links| {
                named(links, "pen0").is_some_and(|link| link.mac == Some(Mac([2, 0, 0, 0, 0, 1])))
            })
            .await;
        net.far("ip link set far0 down");
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| !link.up)).await;
        net.near("ip link set pen0 name pen1");
        heard.links_until(|links| named(links, "pen1").is_some() && named(links, "pen0").is_none()).await;
        net.near("ip link del pen1");
        heard.links_until(|links| named(links, "pen1").is_none()).await;
    });
}

#[test]
fn an_xdp_program_is_seen_though_the_kernel_does_not_tell_of_it() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| link.up)).await;
        let mut object =
            aya::Ebpf::load_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../pen-ebpf/prebuilt/pen.o")).unwrap();
        let program: &mut Xdp = object
            .programs_mut()
            .map(|(_, program)| program)
            .find(|p| matches!(p, Program::Xdp(_)))
            .unwrap()
            .try_into()
            .unwrap();
        program.load().unwrap();
        let id = program.info().unwrap().id();
        let attached = program.attach("pen0", XdpMode::default()).unwrap();
        heard
            .links_until(|links| named(links, "pen0").is_some_and(|link| link.xdp_program == Some(id)))
            .await;
        program.detach(attached).unwrap();
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| link.xdp_program.is_none())).await;
    });
}

#[test]
fn a_vlan_interface_is_known_by_its_id_and_parent_unless_that_is_elsewhere() {
    let mut message = LinkMessage::default();
    message.header.link_layer_type = LinkLayerType::Ether;
    message.attributes = vec![
        LinkAttribute::IfName("eth0.7".into()),
        LinkAttribute::Link(3),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(7)])),
        ]),
    ];
    assert_eq!(link(&message).vlan, Some((3, 7)));
    message.attributes.push(LinkAttribute::LinkNetNsId(0));
    assert_eq!(link(&message).vlan, None);
}

#[test]
fn a_bond_is_known_by_its_kind_and_its_ports_are_none() {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bond)])];
    assert!(link(&message).bond);
    message.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::PortKind(InfoPortKind::Bond),
    ])];
    assert!(!link(&message).bond);
}

#[test]
fn in_several_modes_the_program_that_sees_packets_first_counts() {
    assert_eq!(xdp_program(&[LinkXdp::SkbProgId(5), LinkXdp::DrvProgId(4)]), Some(4));
    assert_eq!(xdp_program(&[LinkXdp::ProgId(6), LinkXdp::SkbProgId(6)]), Some(6));
    assert_eq!(xdp_program(&[]), None);
}
