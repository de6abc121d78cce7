//! What pen's memory is stated to be (`pen_ctl::budget`, `docs/map-abi.md`) is what it is.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use pen_ctl::budget;
use xtask::lab::cluster::Cluster;
use xtask::lab::controller::Controller;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// `tracking_clients` where nobody says another.
const TRACKING_CLIENTS: u32 = 262_144;
/// What the controller's own memory is stated for.
const SERVICES: u16 = 16;
const BACKENDS: u16 = 1000;

#[test]
fn the_maps_take_what_is_stated_and_each_service_no_more() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 0) else { return };
    let pen = cluster.pen();
    pen.ok("attach eth0").unwrap();
    let bare = assert_within_budget(pen, 0);
    pen.ok("service add one 10.77.255.1:80/tcp").unwrap();
    assert_eq!(assert_within_budget(pen, 1), bare + budget::SERVICE);
    for (number, tracking) in [(2, "full"), (3, "transitions"), (4, "off")] {
        pen.ok(&format!(
            "service add s{number} 10.77.255.{number}:80/tcp --tracking {tracking} --health none"
        ))
        .unwrap();
        let backend = format!("10.77.1.{number} --mac 02:00:00:00:00:0{number}");
        pen.ok(&format!("backend add s{number} {backend}")).unwrap();
    }
    assert_eq!(assert_within_budget(pen, 4), bare + 4 * budget::SERVICE, "whatever they are like");
    (2..=4).for_each(|number| drop(pen.ok(&format!("service remove s{number}")).unwrap()));
    assert_eq!(assert_within_budget(pen, 1), bare + budget::SERVICE, "a removed one gives it back");
}

#[test]
fn the_controller_stays_within_its_budget_with_many_services_and_backends() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 0) else { return };
    let pen = cluster.pen();
    let file = cluster.lab.directory().join("many.toml");
    fs::write(&file, many()).unwrap();
    pen.ok("attach eth0").unwrap();
    pen.ok(&format!("apply {}", file.display())).unwrap();
    pen.await_status("all backends to serve", |status| {
        let backends = status.services.iter().flat_map(|service| &service.backends);
        backends.filter(|backend| backend.serving).count() == usize::from(BACKENDS)
    })
    .unwrap();
    for weight in 2..=5 {
        pen.ok(&format!("backend set s0 {} --weight {weight}", address(0))).unwrap();
    }
    let own = own_memory(pen);
    assert!(own <= budget::CONTROLLER, "{own} bytes instead of at most {}", budget::CONTROLLER);
    assert_within_budget(pen, u64::from(SERVICES));
}

/// The maps of a controller with so many services take no more than they may, and not much less: then something else is
/// stated than is. Gives what they take.
fn assert_within_budget(pen: &Controller, services: u64) -> u64 {
    let maps = maps(pen);
    let taken = maps.values().map(|(_, bytes)| bytes).sum();
    let cpus = aya::util::nr_cpus().unwrap() as u64;
    let stated = budget::maps(services, TRACKING_CLIENTS, cpus);
    assert!((stated * 99 / 100..=stated).contains(&taken), "{taken} bytes, stated are {stated}: {maps:?}");
    taken
}

/// The maps that a controller holds, by id: what each is, and what it takes, as the kernel accounts for it.
fn maps(pen: &Controller) -> BTreeMap<u64, (String, u64)> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", pid(pen))).unwrap() {
        // One that was closed since it was listed is none.
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let facts: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(":\t")).collect();
        let number = |key| facts.get(key).and_then(|value| value.trim().parse::<u64>().ok());
        if let Some((id, bytes)) = number("map_id").zip(number("memlock")) {
            let kind = format!("type {:?}, {:?} entries", number("map_type"), number("max_entries"));
            maps.insert(id, (kind, bytes));
        }
    }
    maps
}

/// What the controller has of its own: neither its program nor the maps that it looks into.
fn own_memory(pen: &Controller) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid(pen))).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn pid(pen: &Controller) -> u32 {
    pen.status().unwrap().controller.pid
}

/// As many services and backends as the controller's memory is stated for.
fn many() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let backends: Vec<String> = (service..BACKENDS)
            .step_by(SERVICES.into())
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                format!("{{ address = \"{}\", mac = \"02:00:00:01:{high:02x}:{low:02x}\" }}", address(n))
            })
            .collect();
        text.push_str(&format!(
            "[[service]]\nname = \"s{service}\"\nvip = \"10.77.254.{service}:80/tcp\"\n\
             health = {{ kind = \"none\" }}\nbackend = [{}]\n",
            backends.join(", ")
        ));
    }
    text
}

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 16 + (n / 250) as u8, 1 + (n % 250) as u8)
}
