//! VIPs that are addresses of this machine.

use super::*;
use crate::api::configuration::How;

/// eth0 has 10.0.0.2, `lo` 10.0.0.100.
fn with_addresses() -> Links {
    let mut links = links();
    let lo =
        Link { ethernet: false, mac: None, loopback: true, addresses: [ip(100)].into(), ..link(1, "lo") };
    links.insert(1, lo);
    links.get_mut(&2).unwrap().addresses = [ip(2), "fd00::2".parse().unwrap()].into();
    links
}

fn bench() -> Bench {
    let mut bench = Bench::not_started();
    bench.hear([Event::Links(with_addresses())]);
    bench
}

fn file(vip: &str, how: How) -> Request {
    let text = format!("[[service]]\nname = 'own'\nvip = '{vip}'\n");
    Request::Apply { file: "pen.toml".into(), text, how }
}

fn warns(warnings: &[String], of: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(of))
}

const WEB: &str =
    "10.0.0.2 is this machine's own address on eth0: what comes for its own port 80/tcp goes to the backends";

#[test]
fn every_port_of_an_own_address_is_refused_however_it_is_asked_for() {
    let mut bench = bench();
    bench.done(add_service("web", "10.0.0.100:80/tcp"));
    for vip in ["10.0.0.2:*/tcp", "10.0.0.2:*/udp", "[fd00::2]:*/tcp"] {
        bench.refused(add_service("own", vip), "is this machine's own address on eth0");
        bench.refused(file(vip, How::default()), "is this machine's own address on eth0");
        bench.refused(file(vip, How { dry_run: true, ..How::default() }), "own address on eth0");
        let set = ServiceSpec { vip: Some(vip.parse().unwrap()), ..ServiceSpec::default() };
        bench.refused(Request::ServiceSet { name: "web".into(), spec: set }, "own address on eth0");
    }
    bench.done(add_service("all", "10.0.0.100:*/tcp"));
}

#[test]
fn one_port_of_an_own_address_is_warned_of_wherever_it_is_seen() {
    let mut bench = bench();
    let Reply::Service(added) = bench.done(add_service("web", "10.0.0.2:80/tcp")) else { panic!() };
    assert_eq!(added.warnings, [WEB]);
    assert!(warns(&bench.status().warnings, &format!("service web: {WEB}")));
    for dry_run in [true, false] {
        let how = How { dry_run, ..How::default() };
        let Reply::Applied(applied) = bench.done(file("10.0.0.2:80/tcp", how)) else { panic!() };
        assert!(warns(&applied.warnings, &format!("service own: {WEB}")), "{:?}", applied.warnings);
    }
    let Reply::Service(other) = bench.done(add_service("other", "10.0.0.100:80/tcp")) else { panic!() };
    assert!(other.warnings.is_empty(), "a VIP on lo is at home");
}

/// As on a balancer that takes over for another: changes must be possible still.
#[test]
fn an_address_that_comes_after_its_service_is_warned_of_and_stands_in_no_ones_way() {
    let mut bench = Bench::new();
    bench.done(add_service("all", "10.0.0.2:*/tcp"));
    assert!(!warns(&bench.status().warnings, "own address"));
    bench.hear([Event::Links(with_addresses())]);
    assert!(warns(&bench.status().warnings, "service all: 10.0.0.2 is this machine's own address on eth0"));
    bench.done(add_backend("all", 11));
    bench.hear([Event::Links(links())]);
    assert!(!warns(&bench.status().warnings, "own address"));
}
