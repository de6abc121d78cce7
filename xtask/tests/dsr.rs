//! Direct server return, proved from captures on the switch: pen carries the way there, nothing comes back
//! through it, and what is not for it passes untouched.

use std::time::Duration;

use xtask::lab::address::{Family, Role, client, vip};
use xtask::lab::capture::{self, Captured};
use xtask::lab::cluster::{Cluster, Kind, services, target, vips};
use xtask::lab::frame::Content;
use xtask::lab::ping::{self, ping};
use xtask::lab::sys::PacketSocket;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const PATIENCE: Duration = Duration::from_secs(5);

/// TCP and UDP of a VIP, either way, that clients have part in: the balancer itself asks it how backends are.
fn of_service(seen: &Captured) -> bool {
    let own = Family::BOTH.map(|family| Role::Balancer(1).address(family));
    match &seen.frame.content {
        Content::Ip { from, to, protocol: 6 | 17, .. } => {
            (vips().contains(from) || vips().contains(to)) && !own.contains(from) && !own.contains(to)
        }
        _ => false,
    }
}

#[test]
fn answers_leave_the_backend_with_the_vip_as_source_and_never_meet_the_balancer() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let pen = cluster.lab.balancers[0].mac;
    for (kind, family) in services() {
        let vip = target(kind, family).ip();
        let capture = capture::frames(&cluster.lab.switch, of_service).unwrap();
        let answered = cluster.who(kind, family, 5).unwrap();
        let frames = capture.stop();
        let backend = cluster.lab.backend(&answered).unwrap();

        let at = |host: &str, received| -> Vec<&Captured> {
            frames.iter().filter(|seen| seen.host == host && seen.received == received).collect()
        };
        let (came, went) = (at("pen1", true), at("pen1", false));
        assert!(!came.is_empty());
        assert!(came.iter().all(|seen| seen.frame.is_to(vip) && seen.frame.to_mac == pen), "{came:#?}");
        assert!(
            went.iter().all(|seen| seen.frame.to_mac == backend.mac && seen.frame.from_mac == pen),
            "{went:#?}"
        );
        // Only the MAC addresses differ: not a byte after them.
        let rest = |seen: &[&Captured]| seen.iter().map(|seen| seen.frame.rest.clone()).collect::<Vec<_>>();
        assert_eq!(rest(&came), rest(&went));

        let back = at("client", true);
        assert!(!back.is_empty());
        assert!(
            back.iter().all(|seen| seen.frame.is_from(vip) && seen.frame.from_mac == backend.mac),
            "{back:#?}"
        );
    }
}

#[test]
fn a_vip_is_announced_and_answers_pings_though_no_interface_has_it() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    let capture = capture::frames(&cluster.lab.switch, |_| true).unwrap();
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let addresses = cluster.lab.balancers[0].namespace.ip("addr show").unwrap();
    ping::allow(&cluster.lab.client.namespace).unwrap();
    for family in Family::BOTH {
        let vip = vip(family, 1);
        assert!(!addresses.contains(&format!("{vip}/")), "{addresses}");
        // Identifiers around the carries of the one's-complement sum.
        for identifier in [1, 2, 0x7fff, 0xf7fe, 0xf7ff, 0xf800, 0xfffe, 0xffff] {
            cluster
                .lab
                .client
                .namespace
                .run(|| ping(client(family, 1), vip, identifier, PATIENCE))
                .unwrap_or_else(|error| panic!("{vip} identifier {identifier:#x}: {error}"));
        }
    }
    let pen = cluster.lab.balancers[0].mac;
    let frames = capture.stop();
    let answers: Vec<_> = frames.iter().filter(|seen| !seen.received && tells_mac_of_service(seen)).collect();
    assert!(answers.iter().any(|seen| matches!(seen.frame.content, Content::Arp { operation: 2, .. })));
    assert!(answers.iter().any(|seen| matches!(seen.frame.content, Content::Ip { .. })));
    assert!(answers.iter().all(|seen| seen.host == "pen1" && seen.frame.from_mac == pen), "{answers:#?}");
}

/// An ARP message whose sender is a VIP, or an advertisement of one (RFC 4861, 4.4).
fn tells_mac_of_service(seen: &Captured) -> bool {
    match &seen.frame.content {
        Content::Arp { sender, .. } => vips().contains(&(*sender).into()),
        Content::Ip { protocol: 58, payload, .. } => {
            let target = payload.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            payload[0] == 136 && target.is_some_and(|target| vips().contains(&target.into()))
        }
        _ => false,
    }
}

#[test]
fn a_vip_added_later_is_told_to_the_link_at_once() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let pen = cluster.pen();
    pen.ok("attach eth0").unwrap();
    let capture =
        capture::frames(&cluster.lab.switch, |seen| !seen.received && tells_mac_of_service(seen)).unwrap();
    pen.ok("service add web 10.77.0.100:80/tcp").unwrap();
    pen.ok(&format!("service add web6 [{}]:80/tcp", vip(Family::V6, 1))).unwrap();
    let told = capture.stop();
    assert!(told.iter().all(|seen| seen.frame.to_mac[0] & 1 == 1), "to everybody on the link: {told:#?}");
    assert!(told.iter().any(|seen| matches!(seen.frame.content, Content::Arp { .. })), "{told:#?}");
    assert!(told.iter().any(|seen| matches!(seen.frame.content, Content::Ip { .. })), "{told:#?}");
}

#[test]
fn what_is_not_for_a_service_reaches_the_local_stack_bit_for_bit() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let (pen, from) = (&cluster.lab.balancers[0], Role::Client.mac());
    let stranger = [0x02, 0, 0, 0, 0, 0x99];
    let v4_vip = [10, 77, 0, 100];
    let strange = [
        // To a VIP and a service, but on its way to somebody else: the switch floods it to us.
        udp_frame(stranger, from, v4_vip, 53, 1),
        // To us, but no VIP; and to a VIP, but no service.
        udp_frame(pen.mac, from, [10, 77, 0, 1], 53, 2),
        udp_frame(pen.mac, from, v4_vip, 54, 3),
        // No IP at all (local experimental EtherType, IEEE 802).
        [&pen.mac[..], &from, &[0x88, 0xb5], &[0xa5; 50]].concat(),
    ];
    let before = cluster.pen().status().unwrap().packets;
    let arriving = capture::frames(&pen.namespace, |seen| !seen.received).unwrap();
    let leaving = capture::frames(&cluster.lab.switch, |seen| seen.host == "pen1" && !seen.received).unwrap();
    cluster.lab.client.namespace.run(|| {
        let socket = PacketSocket::open().unwrap();
        strange.iter().for_each(|frame| socket.send("eth0", frame).unwrap());
    });
    let after = cluster
        .pen()
        .await_status("three kinds of strange frames to be counted", |status| {
            let grew = |reason| passed(&status.packets, reason) > passed(&before, reason);
            grew("not_addressed_to_us") && grew("no_service") && grew("not_ip")
        })
        .unwrap()
        .packets;
    assert_eq!(after.forwarded, before.forwarded);
    let arrived: Vec<_> = arriving.stop().into_iter().map(|seen| seen.frame).collect();
    for frame in &strange {
        let sent = xtask::lab::frame::Frame::parse(frame).unwrap();
        assert!(arrived.contains(&sent), "{frame:x?} did not arrive as it was sent");
    }
    let left = leaving.stop();
    assert!(left.iter().all(|seen| seen.frame.from_mac != from), "pen passed something on: {left:#?}");
}

fn passed(packets: &pen_ctl::api::document::PacketsDocument, reason: &str) -> u64 {
    packets.passed.get(reason).copied().unwrap_or(0)
}

/// A UDP datagram without a checksum (RFC 768 allows it over IPv4).
fn udp_frame(to_mac: [u8; 6], from_mac: [u8; 6], to: [u8; 4], port: u16, mark: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 48, 0, mark, 0, 0, 64, 17, 0, 0, 10, 77, 2, 1];
    ip.extend(to);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip.extend([0x30, 0x39]);
    ip.extend(port.to_be_bytes());
    ip.extend([0, 28, 0, 0]);
    ip.extend([mark; 20]);
    [&to_mac[..], &from_mac, &[8, 0], &ip].concat()
}

#[test]
fn the_balancers_own_address_stays_reachable() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    ping::allow(&cluster.lab.client.namespace).unwrap();
    for family in Family::BOTH {
        let own = cluster.lab.balancers[0].address(family);
        cluster.lab.client.namespace.run(|| ping(client(family, 1), own, 7, PATIENCE)).unwrap();
    }
    assert_eq!(cluster.who(Kind::Web, Family::V4, 1).unwrap(), "b1");
}
