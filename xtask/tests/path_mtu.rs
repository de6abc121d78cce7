//! Path-MTU discovery through the balancer: backends learn from routers' errors, which come to the VIP, that a link on the
//! way to a client is narrower than those at both ends.
//!
//! ```text
//!   far (MTU 1500) ── r2 ──(MTU 1300)── r1 ── switch ── pen1, b1, b2, b3
//! ```
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::net::IpAddr;

use xtask::lab::Lab;
use xtask::lab::address::Family;
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster, Kind, service_name, target};
use xtask::lab::http::Connection;
use xtask::lab::namespace::Namespace;
use xtask::lab::sys::{self, Offload};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const BYTES: u64 = 1 << 20;
const NARROW: u16 = 1300;
/// Flows whose errors find them by what is remembered of a client, of a flow, and by slot alone.
const SETTINGS: [&str; 3] =
    ["--affinity client --tracking full", "--affinity flow --tracking full", "--affinity none"];

/// Clients beyond a narrow link; dropping it removes the namespaces.
struct Far {
    client: Namespace,
    _routers: [Namespace; 2],
}

impl Far {
    /// Builds it, and tells the backends and the balancer the way there.
    fn build(lab: &Lab) -> Far {
        let [r1, r2, client] =
            ["r1", "r2", "far"].map(|name| Namespace::create(&format!("{}-{name}", lab.name())).unwrap());
        link((&lab.switch, "r1"), (&r1, "eth0"), 1500);
        lab.switch.ip("link set r1 master bridge").unwrap();
        link((&r1, "eth1"), (&r2, "eth0"), NARROW);
        link((&r2, "eth1"), (&client, "eth0"), 1500);
        for router in [&r1, &r2] {
            router.sysctl("ipv4/ip_forward", "1").unwrap();
            router.sysctl("ipv6/conf/all/forwarding", "1").unwrap();
        }
        addresses(&r1, &[("eth0", "10.77.9.1/16"), ("eth0", "fd00:77::9:1/64")]);
        addresses(&r1, &[("eth1", "10.78.1.1/24"), ("eth1", "fd00:78:1::1/64")]);
        addresses(&r2, &[("eth0", "10.78.1.2/24"), ("eth0", "fd00:78:1::2/64")]);
        addresses(&r2, &[("eth1", "10.78.2.1/24"), ("eth1", "fd00:78:2::1/64")]);
        addresses(&client, &[("eth0", "10.78.2.2/24"), ("eth0", "fd00:78:2::2/64")]);
        routes(&client, "default", "10.78.2.1", "fd00:78:2::1");
        routes(&r2, "default", "10.78.1.1", "fd00:78:1::1");
        r1.ip("route add 10.78.2.0/24 via 10.78.1.2").unwrap();
        r1.ip("-6 route add fd00:78:2::/64 via fd00:78:1::2").unwrap();
        for host in lab.backends.iter().chain(&lab.balancers) {
            host.namespace.ip("route add 10.78.0.0/16 via 10.77.9.1").unwrap();
            host.namespace.ip("-6 route add fd00:78::/32 via fd00:77::9:1").unwrap();
        }
        Far { client, _routers: [r1, r2] }
    }
}

/// Two interfaces that are one link of this MTU, without offloads.
fn link((place, name): (&Namespace, &str), (other, peer): (&Namespace, &str), mtu: u16) {
    place.ip(&format!("link add {name} type veth peer name {peer} netns {}", other.name())).unwrap();
    for (namespace, interface) in [(place, name), (other, peer)] {
        namespace.ip(&format!("link set {interface} mtu {mtu} up")).unwrap();
        namespace.run(|| sys::disable_offload(interface, Offload::TransmitChecksum)).unwrap();
    }
}

fn addresses(namespace: &Namespace, all: &[(&str, &str)]) {
    for (interface, address) in all {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        namespace.ip(&format!("addr add {address} dev {interface} {nodad}")).unwrap();
    }
}

fn routes(namespace: &Namespace, to: &str, v4: &str, v6: &str) {
    namespace.ip(&format!("route add {to} via {v4}")).unwrap();
    namespace.ip(&format!("-6 route add {to} via {v6}")).unwrap();
}

#[test]
fn transfers_through_a_narrow_link_complete() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let far = Far::build(&cluster.lab);
    for settings in SETTINGS {
        for (family, source) in [(Family::V4, "10.78.2.2"), (Family::V6, "fd00:78:2::2")] {
            cluster.pen().ok(&format!("service set {} {settings}", service_name(Kind::Web, family))).unwrap();
            let source: IpAddr = source.parse().unwrap();
            let got = far.client.run(|| {
                Connection::open(source, target(Kind::Web, family), CLIENT_PATIENCE)?.download(BYTES, || {})
            });
            assert_eq!(got.map_err(|error| error.to_string()), Ok(BYTES), "{family:?}, {settings}");
            forget_the_way(&cluster.lab);
        }
    }
    let passed = cluster.pen().status().unwrap().packets.passed;
    assert_eq!(passed.get("not_for_us_protocol").copied().unwrap_or(0), 0, "errors went astray");
}

/// Backends know of the narrow link by now, each of its own; the next transfer is to find out anew.
fn forget_the_way(lab: &Lab) {
    let learned: Vec<bool> = lab
        .backends
        .iter()
        .map(|host| {
            let ways = ["10.78.2.2", "fd00:78:2::2"]
                .map(|to| host.namespace.ip(&format!("route get {to}")).unwrap_or_default());
            host.namespace.ip("route flush cache").unwrap();
            host.namespace.ip("-6 route flush cache").unwrap();
            ways.iter().any(|way| way.contains(&format!("mtu {NARROW}")))
        })
        .collect();
    assert_eq!(learned.iter().filter(|learned| **learned).count(), 1, "one backend learned: {learned:?}");
}
