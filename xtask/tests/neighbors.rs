//! Backends' MACs: found by themselves, followed when they change without a word.

use xtask::lab::address::Family;
use xtask::lab::capture;
use xtask::lab::cluster::{Cluster, Kind, service_name, services, target};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

#[test]
fn a_backends_new_mac_is_followed_though_nobody_told_of_it() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    const NEW: [u8; 6] = [0x02, 0x70, 0x65, 0x6e, 0xee, 0x01];
    let host = cluster.lab.backend("b1").unwrap();
    assert_eq!(cluster.who(Kind::Web, Family::V4, 1).unwrap(), "b1");
    // Linux tells nobody unless arp_notify and ndisc_notify ask for it.
    host.namespace.ip("link set eth0 address 02:70:65:6e:ee:01").unwrap();
    for (kind, family) in services() {
        let (service, address) = (service_name(kind, family), host.address(family));
        cluster
            .pen()
            .await_status(&format!("the new MAC of {address}"), |status| {
                let service = status.services.iter().find(|found| found.name == service);
                let backends = service.map(|service| service.backends.as_slice()).unwrap_or_default();
                backends.iter().any(|backend| backend.serving && backend.mac.is_some_and(|mac| mac.0 == NEW))
            })
            .unwrap();
        let vip = target(kind, family).ip();
        let capture = capture::frames(&cluster.lab.switch, move |seen| {
            seen.host == "pen1" && !seen.received && seen.frame.is_to(vip)
        })
        .unwrap();
        assert_eq!(cluster.who(kind, family, 2).unwrap(), "b1");
        let sent = capture.stop();
        assert!(!sent.is_empty());
        assert!(sent.iter().all(|seen| seen.frame.to_mac == NEW), "{sent:#?}");
    }
}

#[test]
fn a_backend_that_appears_later_begins_to_serve() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    let host = cluster.lab.backend("b1").unwrap();
    cluster.lab.unplug(host).unwrap();
    let pen = cluster.pen();
    pen.ok("attach eth0").unwrap();
    pen.ok("service add dns 10.77.0.100:53/udp --health none").unwrap();
    cluster.add_backend(pen, Kind::Dns, Family::V4, "b1").unwrap();
    pen.await_status("b1 to be found missing", |status| status.services[0].backends[0].reason.is_some())
        .unwrap();
    cluster.lab.plug(host).unwrap();
    pen.await_serving("dns", &[host.address(Family::V4)]).unwrap();
    assert_eq!(cluster.who(Kind::Dns, Family::V4, 1).unwrap(), "b1");
}
