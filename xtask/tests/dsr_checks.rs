//! Checks take the way of clients' packets: what they say of a backend is what a client would find.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use pen_ctl::api::document::BackendDocument;
use xtask::lab::address::{Family, vip};
use xtask::lab::cluster::{Cluster, HEALTH, service_name, services, vips};
use xtask::lab::namespace::Namespace;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// How long what a controller makes may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a backend of a service is as wanted.
fn await_backend(
    cluster: &Cluster,
    service: &str,
    name: &str,
    what: &str,
    wanted: impl Fn(&BackendDocument) -> bool,
) {
    let host = cluster.lab.backend(name).unwrap();
    let addresses = Family::BOTH.map(|family| host.address(family));
    cluster
        .pen()
        .await_status(&format!("{name} of {service}: {what}"), |status| {
            let service = status.services.iter().find(|found| found.name == service);
            let backends = service.map(|service| service.backends.as_slice()).unwrap_or_default();
            let ours = |backend: &&BackendDocument| {
                backend.address.ip().is_some_and(|address| addresses.contains(&address))
            };
            backends.iter().find(ours).is_some_and(&wanted)
        })
        .unwrap();
}

/// Waits until a backend does not serve for that reason.
fn await_reason(cluster: &Cluster, service: &str, name: &str, reason: &str) {
    let reason = format!("health check failed: {reason}");
    await_backend(cluster, service, name, &reason, |backend| {
        !backend.serving && backend.reason.as_deref() == Some(reason.as_str())
    });
}

fn not_on_its_lo(family: Family) -> String {
    let vip = vip(family, 1);
    format!(
        "answers on its own address, not on the VIP {vip}: is the VIP on its lo? (pen-ctl backend-setup {vip})"
    )
}

/// Does something with each VIP on a host's interface: `add` or `del`.
fn vips_on(host: &Namespace, interface: &str, what: &str) {
    for vip in vips() {
        let length = if vip.is_ipv4() { 32 } else { 128 };
        let words = if vip.is_ipv4() || what == "del" { "" } else { "nodad" };
        host.ip(&format!("addr {what} {vip}/{length} dev {interface} {words}")).unwrap();
    }
}

#[test]
fn a_backend_that_forgot_the_vip_gets_no_clients_and_status_says_why() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let b1 = cluster.lab.backend("b1").unwrap();
    vips_on(&b1.namespace, "lo", "del");
    for (kind, family) in services() {
        await_reason(&cluster, service_name(kind, family), "b1", &not_on_its_lo(family));
    }
    cluster.await_serving(&["b2"]).unwrap();
    vips_on(&b1.namespace, "lo", "add");
    cluster.await_serving(&["b1", "b2"]).unwrap();
}

#[test]
fn a_backend_without_the_vip_that_passes_packets_on_to_one_that_has_it_is_not_serving() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 2) else { return };
    cluster.configure(0, &["b1", "b2"]).unwrap();
    let b1 = &cluster.lab.backend("b1").unwrap().namespace;
    b1.sysctl("ipv4/ip_forward", "1").unwrap();
    b1.sysctl("ipv6/conf/all/forwarding", "1").unwrap();
    vips_on(b1, "lo", "del");
    for family in Family::BOTH {
        let (vip, b2) = (vip(family, 1), cluster.address(family, "b2"));
        b1.ip(&format!("route add {vip} via {b2} dev eth0")).unwrap();
    }
    for (kind, family) in services() {
        await_reason(&cluster, service_name(kind, family), "b1", &not_on_its_lo(family));
    }
}

#[test]
fn a_server_that_listens_on_its_own_address_only_is_not_serving() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let (b1, pen) = (cluster.lab.backend("b1").unwrap(), cluster.pen());
    pen.ok("attach eth0").unwrap();
    for (family, name) in Family::BOTH.into_iter().zip(["own4", "own6"]) {
        let (vip, own) = (vip(family, 1), b1.address(family));
        let listen =
            |address, port| b1.namespace.run(|| TcpListener::bind(SocketAddr::new(address, port)).unwrap());
        let _own = listen(own, 81);
        pen.ok(&format!("service add {name} {}/tcp --health {HEALTH}", SocketAddr::new(vip, 81))).unwrap();
        pen.ok(&format!("backend add {name} {own}")).unwrap();
        let reason = format!(
            "refuses the VIP {vip} though it answers on its own address: its server does not listen on the VIP"
        );
        await_reason(&cluster, name, "b1", &reason);
        // Whoever does not care asks the backend itself.
        pen.ok(&format!("service set {name} --health {HEALTH},way=direct")).unwrap();
        await_backend(&cluster, name, "b1", "serving", |backend| backend.serving);
        pen.ok(&format!("service set {name} --health {HEALTH},path=dsr")).unwrap();
        await_reason(&cluster, name, "b1", &reason);
        let _vip = listen(vip, 81);
        await_backend(&cluster, name, "b1", "serving", |backend| backend.serving);
    }
}

#[test]
fn checks_find_the_vip_at_the_backend_wherever_else_it_is() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    let balancer = &cluster.lab.balancers[0].namespace;
    let b1 = &cluster.lab.backend("b1").unwrap().namespace;
    for (interface, mode) in [("lo", "native"), ("eth0", "native"), ("lo", "generic"), ("eth0", "generic")] {
        cluster.pen().ok(&format!("attach eth0 --mode {mode}")).unwrap();
        vips_on(balancer, interface, "add");
        vips_on(b1, "lo", "del");
        for (kind, family) in services() {
            await_reason(&cluster, service_name(kind, family), "b1", &not_on_its_lo(family));
        }
        vips_on(b1, "lo", "add");
        cluster.await_serving(&["b1"]).unwrap();
        vips_on(balancer, interface, "del");
    }
}

#[test]
fn checks_go_on_after_their_interface_was_down() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    let balancer = cluster.lab.balancers[0].namespace.clone();
    let own = cluster.lab.balancers[0].address(Family::V6);
    balancer.ip("link set eth0 down").unwrap();
    balancer.ip("link set eth0 up").unwrap();
    balancer.ip(&format!("addr replace {own}/64 dev eth0 nodad")).unwrap();
    cluster.kill_server("b1");
    for (kind, family) in services() {
        await_reason(&cluster, service_name(kind, family), "b1", "connection refused");
    }
    cluster.start_server("b1").unwrap();
    cluster.await_serving(&["b1"]).unwrap();
}

#[test]
fn no_program_stays_behind_when_a_controller_stops_or_is_killed_and_no_route_for_long() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.configure(0, &["b1"]).unwrap();
    let balancer = cluster.lab.balancers[0].namespace.clone();
    assert_eq!((programs(&balancer), routes(&balancer)), (2, 4));
    cluster.pen_mut().kill();
    assert_eq!(programs(&balancer), if has_tcx(&balancer) { 0 } else { 2 });
    cluster.pen_mut().start("").unwrap();
    cluster.kill_server("b1");
    for (kind, family) in services() {
        await_reason(&cluster, service_name(kind, family), "b1", "connection refused");
    }
    cluster.start_server("b1").unwrap();
    cluster.await_serving(&["b1"]).unwrap();
    assert_eq!((programs(&balancer), routes(&balancer)), (2, 4));
    assert!(cluster.pen_mut().terminate().unwrap());
    assert_eq!((programs(&balancer), routes(&balancer)), (0, 0));
    assert_eq!(neighbors(&balancer), 0);
}

#[test]
fn who_detaches_after_a_controller_was_killed_is_rid_of_what_checks_took() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    let balancer = cluster.lab.balancers[0].namespace.clone();
    cluster.configure(0, &["b1"]).unwrap();
    for command in ["stop --detach", "detach eth0", "detach --all"] {
        cluster.await_serving(&["b1"]).unwrap();
        let give_up = Instant::now() + PATIENCE;
        while (programs(&balancer), routes(&balancer), neighbors(&balancer)) != (2, 4, 2) {
            assert!(Instant::now() < give_up, "{command}: {} routes", routes(&balancer));
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster.pen_mut().kill();
        cluster.pen().ok(command).unwrap();
        assert_eq!((programs(&balancer), routes(&balancer), neighbors(&balancer)), (0, 0, 0), "{command}");
        cluster.pen_mut().start("").unwrap();
        cluster.pen().ok("attach eth0").unwrap();
    }
}

/// How many classifiers are on the balancer's `eth0`: links, or filters on a kernel that has no such links.
fn programs(balancer: &Namespace) -> usize {
    let places = [TcAttachType::Egress, TcAttachType::Ingress];
    let links = balancer.run(|| {
        places
            .iter()
            .filter_map(|place| SchedClassifier::query_tcx("eth0", *place).ok())
            .map(|found| found.1.len())
            .sum::<usize>()
    });
    let filters = ["egress", "ingress"].map(|way| {
        let shown =
            Command::new("tc").args(["-n", balancer.name(), "filter", "show", "dev", "eth0", way]).output();
        String::from_utf8(shown.unwrap().stdout).unwrap().matches("direct-action").count()
    });
    links + filters.iter().sum::<usize>()
}

/// Whether the kernel has links for classifiers, which go with their process.
fn has_tcx(balancer: &Namespace) -> bool {
    balancer.run(|| SchedClassifier::query_tcx("eth0", TcAttachType::Egress).is_ok())
}

/// How many neighbor entries of ours there are: one for each family.
fn neighbors(balancer: &Namespace) -> usize {
    balancer.ip("neigh show nud permanent").unwrap().matches("02:70:65:6e:00:00").count()
}

/// How many routes to probe addresses it has: two for each, one of which leads nowhere.
fn routes(balancer: &Namespace) -> usize {
    ["route show proto 112", "-6 route show proto 112"]
        .map(|words| balancer.ip(words).unwrap().lines().count())
        .iter()
        .sum()
}
