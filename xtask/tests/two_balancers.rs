//! Two balancers on one link: one takes over from the other, and two that list each other do not circle.

use std::fs;
use std::time::Duration;

use xtask::lab::address::{Family, client, vip};
use xtask::lab::await_that;
use xtask::lab::capture;
use xtask::lab::cluster::{Cluster, HEALTH, Kind, ask, service_name, services, target};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// What both balancers of a fleet are configured with.
fn configuration(cluster: &Cluster, backends: &[&str]) -> String {
    let mut text = "seed = \"1f2e3d4c5b6a7988\"\n".to_owned();
    for (kind, family) in services() {
        let at = target(kind, family);
        let protocol = if kind == Kind::Web { "tcp" } else { "udp" };
        let name = service_name(kind, family);
        text.push_str(&format!("\n[[service]]\nname = \"{name}\"\nvip = \"{at}/{protocol}\"\n"));
        text.push_str(&format!(
            "scheduler = \"maglev\"\nhealth = \"{HEALTH},port={}\"\nbackend = [\n",
            at.port()
        ));
        for address in cluster.addresses(family, backends) {
            text.push_str(&format!("  {{ address = \"{address}\" }},\n"));
        }
        text.push_str("]\n");
    }
    text
}

#[test]
fn held_connections_survive_when_a_second_balancer_takes_over() {
    let Some(mut cluster) = Cluster::unstarted_for_test(XTASK, 2, 3) else { return };
    let backends = ["b1", "b2", "b3"];
    let file = cluster.lab.directory().join("pen.toml");
    fs::write(&file, configuration(&cluster, &backends)).unwrap();
    for controller in &mut cluster.controllers {
        controller.start(&format!("-c {}", file.display())).unwrap();
    }
    let [first, second] = &cluster.controllers[..] else { unreachable!() };
    first.ok("attach eth0").unwrap();
    cluster.await_serving(&backends).unwrap();
    let mut held: Vec<_> = (1..=20)
        .flat_map(|n| Family::BOTH.map(|family| (family, n)))
        .map(|(family, n)| {
            let mut connection = cluster.connect(family, n).unwrap();
            let who = connection.who().unwrap();
            (connection, who)
        })
        .collect();
    let before = cluster.assignments(24).unwrap();

    cluster.lab.unplug(&cluster.lab.balancers[0]).unwrap();
    second.ok("attach eth0").unwrap();
    for (kind, family) in services() {
        second.await_serving(service_name(kind, family), &cluster.addresses(family, &backends)).unwrap();
    }
    for (connection, who) in &mut held {
        assert_eq!(connection.who().unwrap(), *who);
    }
    assert_eq!(cluster.assignments(24).unwrap(), before);
    assert!(second.status().unwrap().packets.forwarded > 0);
}

#[test]
fn two_balancers_that_list_each_other_do_not_circle() {
    let Some(cluster) = Cluster::for_test(XTASK, 2, 1) else { return };
    let vip = vip(Family::V4, 2);
    for (controller, other, how) in [(0, 1, ""), (1, 0, "--no-announce")] {
        let pen = &cluster.controllers[controller];
        let other = cluster.lab.balancers[other].address(Family::V4);
        pen.ok(&format!("attach eth0 {how}")).unwrap();
        pen.ok(&format!("service add ring {vip}:53/udp --health none")).unwrap();
        pen.ok(&format!("backend add ring {other}")).unwrap();
        pen.await_serving("ring", &[other]).unwrap();
    }
    let capture =
        capture::frames(&cluster.lab.switch, move |seen| seen.received && seen.frame.is_to(vip)).unwrap();
    let answered = cluster
        .lab
        .client
        .namespace
        .run(|| ask(Kind::Dns, client(Family::V4, 1), (vip, 53).into(), Duration::from_millis(200)));
    assert!(answered.is_err(), "{answered:?}");
    await_that("the second balancer to drop what came round", Duration::from_secs(20), || {
        let dropped = cluster.controllers[1].status()?.packets.dropped;
        Ok(if dropped.get("loop").is_some_and(|&n| n == 1) { Ok(()) } else { Err(format!("{dropped:?}")) })
    })
    .unwrap();
    let seen: Vec<_> = capture.stop().into_iter().map(|seen| seen.host).collect();
    assert_eq!(seen, ["pen1", "pen2"], "one way to the first, one to the second, and no further");
}
