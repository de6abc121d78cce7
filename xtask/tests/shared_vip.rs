//! Several services on one VIP, each with a pool of its own; and a balancer that is one of its own backends.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use xtask::lab::address::{Family, vip};
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster, HEALTH, Kind, service_name, services, vips};
use xtask::lab::dns;
use xtask::lab::server::ServerProcess;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const TRANSFER: u64 = 4_000_000;
const CLIENTS: u8 = 24;

/// Who answers questions over TCP.
fn who_over_tcp(cluster: &Cluster, to: IpAddr) -> io::Result<String> {
    cluster.lab.client.namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, dns::PORT), CLIENT_PATIENCE)?;
        stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
        dns::who_over_tcp(&mut stream)
    })
}

#[test]
fn services_on_one_vip_have_pools_of_their_own_and_the_exact_port_wins() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 4) else { return };
    let pen = cluster.pen();
    pen.ok("attach eth0").unwrap();
    let pools =
        [("web", "80/tcp", "b1"), ("dns", "53/udp", "b2"), ("all", "*/tcp", "b3"), ("rest", "*/udp", "b4")];
    for family in Family::BOTH {
        let vip = SocketAddr::new(vip(family, 1), 0).to_string();
        let vip = vip.trim_end_matches(":0");
        for (name, port, backend) in pools {
            let (service, address) =
                (format!("{name}-{family:?}").to_lowercase(), cluster.address(family, backend));
            pen.ok(&format!("service add {service} {vip}:{port} --health {HEALTH},port=80")).unwrap();
            pen.ok(&format!("backend add {service} {address}")).unwrap();
            pen.await_serving(&service, &[address]).unwrap();
        }
    }
    for family in Family::BOTH {
        for n in 1..=CLIENTS {
            assert_eq!(cluster.who(Kind::Web, family, n).unwrap(), "b1");
            assert_eq!(cluster.who(Kind::Dns, family, n).unwrap(), "b2");
        }
        assert_eq!(who_over_tcp(&cluster, vip(family, 1)).unwrap(), "b3");
        // Without the exact one, the same port is one of all.
        for (name, kind, other) in [("web", Kind::Web, "b3"), ("dns", Kind::Dns, "b4")] {
            pen.ok(&format!("service remove {name}-{}", format!("{family:?}").to_lowercase())).unwrap();
            assert_eq!(cluster.who(kind, family, 1).unwrap(), other);
        }
    }
    let status = pen.status().unwrap();
    assert!(status.services.iter().all(|service| service.packets > 0), "{:?}", status.services);
    assert_eq!(status.packets.dropped.values().sum::<u64>(), 0, "{:?}", status.packets);
}

/// A cluster whose balancer is a backend, too: it owns the VIPs and serves.
fn with_local_backend() -> Option<(Cluster, ServerProcess)> {
    let cluster = Cluster::for_test(XTASK, 1, 2)?;
    let balancer = &cluster.lab.balancers[0];
    balancer.own_vips(&cluster.programs.pen_ctl, cluster.lab.directory(), &vips()).unwrap();
    let server = ServerProcess::start(&cluster.programs.xtask, balancer, &vips()).unwrap();
    cluster.configure(0, &["b1", "b2"]).unwrap();
    for (kind, family) in services() {
        let service = service_name(kind, family);
        let local = balancer.address(family);
        cluster.pen().ok(&format!("backend add {service} {local}")).unwrap();
        let mut all = cluster.addresses(family, &["b1", "b2"]);
        all.push(local);
        cluster.pen().await_serving(service, &all).unwrap();
    }
    Some((cluster, server))
}

#[test]
fn a_balancer_is_one_of_its_own_backends_and_keeps_its_clients() {
    let Some((cluster, _server)) = with_local_backend() else { return };
    let before = cluster.assignments(CLIENTS).unwrap();
    for (kind, family) in services() {
        let who = |n| before[&(kind, service_name(kind, family), n)].clone();
        let all: BTreeSet<_> = (1..=CLIENTS).map(who).collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), ["b1", "b2", "pen1"], "{kind:?} {family:?}");
    }
    assert!(cluster.pen().status().unwrap().packets.passed["local_backend"] > 0);
    for family in Family::BOTH {
        for name in ["pen1", "b1"] {
            let service = service_name(Kind::Web, family);
            let n = (1..=CLIENTS).find(|&n| before[&(Kind::Web, service, n)] == name).unwrap();
            let mut connection = cluster.connect(family, n).unwrap();
            assert_eq!(connection.upload(TRANSFER, || {}).unwrap(), TRANSFER);
            assert_eq!(connection.download(TRANSFER, || {}).unwrap(), TRANSFER);
            assert_eq!(connection.who().unwrap(), name);
        }
    }
    assert_eq!(cluster.assignments(CLIENTS).unwrap(), before);
}

#[test]
fn a_local_backend_is_checked_like_any_other() {
    let Some((cluster, server)) = with_local_backend() else { return };
    server.kill();
    cluster.await_serving(&["b1", "b2"]).unwrap();
    let remote = |who: &str| ["b1", "b2"].contains(&who);
    assert!(cluster.assignments(CLIENTS).unwrap().values().all(|who| remote(who)));
    let balancer = &cluster.lab.balancers[0];
    let _server = ServerProcess::start(&cluster.programs.xtask, balancer, &vips()).unwrap();
    cluster.pen().ok("backend set web 10.77.1.1 --state down").unwrap();
    cluster.pen().ok("backend set web 10.77.1.2 --state down").unwrap();
    cluster.pen().await_serving("web", &[balancer.address(Family::V4)]).unwrap();
    assert_eq!(cluster.who(Kind::Web, Family::V4, 1).unwrap(), "pen1");
}
