//! What a service's settings promise: which port it is for, who counts as the same client, what becomes of
//! packets when nobody is serving.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use xtask::lab::address::{Family, client, vip};
use xtask::lab::cluster::{Cluster, Kind};
use xtask::lab::{await_that, dns};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn an_exact_port_wins_over_every_port() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    let (pen, vip) = (cluster.pen(), vip(Family::V4, 1));
    pen.ok("attach eth0").unwrap();
    pen.ok(&format!("service add web {vip}:80/tcp")).unwrap();
    pen.ok(&format!("service add all {vip}:*/tcp")).unwrap();
    for (service, backend) in [("web", "b1"), ("all", "b2")] {
        let address = cluster.address(Family::V4, backend);
        pen.ok(&format!("backend add {service} {address}")).unwrap();
        pen.await_serving(service, &[address]).unwrap();
    }
    assert_eq!(cluster.who(Kind::Web, Family::V4, 1).unwrap(), "b1");
    let answered = cluster.lab.client.namespace.run(|| {
        let mut stream = TcpStream::connect(SocketAddr::new(vip, dns::PORT))?;
        dns::who_over_tcp(&mut stream)
    });
    assert_eq!(answered.unwrap(), "b2");
    // The same port over UDP is no service at all.
    let asked = cluster
        .lab
        .client
        .namespace
        .run(|| dns::who(client(Family::V4, 1), SocketAddr::new(vip, dns::PORT), SHORT));
    assert!(asked.is_err(), "{asked:?}");
}

#[test]
fn affinity_decides_whether_a_clients_connections_stay_together() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let forty = || (0..40).map(|_| cluster.who(Kind::Web, Family::V4, 1).unwrap()).collect::<BTreeSet<_>>();
    assert_eq!(forty().len(), 1);
    cluster.pen().ok("service set web --affinity flow").unwrap();
    assert_eq!(forty().len(), 3);
    cluster.pen().ok("service set web --affinity none").unwrap();
    assert_eq!(forty().len(), 3);
    cluster.pen().ok("service set web --affinity client").unwrap();
    assert_eq!(forty().len(), 1);
}

#[test]
fn with_nobody_serving_packets_are_dropped_or_passed_as_asked() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let (pen, to) = (cluster.pen(), SocketAddr::new(vip(Family::V4, 1), 80));
    let balancer = &cluster.lab.balancers[0].namespace;
    balancer.ip(&format!("addr add {}/32 dev lo", to.ip())).unwrap();
    let _sorry = balancer.run(|| TcpListener::bind(to)).unwrap();
    pen.ok("attach eth0").unwrap();
    pen.ok(&format!("service add web {to}/tcp")).unwrap();
    let connect = || cluster.lab.client.namespace.run(|| TcpStream::connect_timeout(&to, SHORT));
    assert!(connect().is_err());
    assert!(pen.status().unwrap().packets.dropped["no_backend"] > 0);
    pen.ok("service set web --on-empty pass").unwrap();
    await_that("the balancer's own server to answer", Duration::from_secs(10), || Ok(connect())).unwrap();
    assert!(pen.status().unwrap().packets.passed["empty_pool"] > 0);
}
