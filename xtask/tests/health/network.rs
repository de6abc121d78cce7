//! Machines that come back with another MAC, told and untold, and the balancer's own cable.

use std::time::Instant;

use xtask::lab::traffic::{clients_of, moved};

use crate::losses::{Loss, report};
use crate::scene::{Plane, Scene};
use crate::web::begin;

/// Gives a backend another MAC; it tells its neighbors of that, or, as is usual, does not.
fn set_mac(scene: &Scene, backend: &str, last: u8, told: bool) {
    let namespace = &scene.host(backend).namespace;
    let told = if told { "1" } else { "0" };
    namespace.sysctl("ipv4/conf/eth0/arp_notify", told).unwrap();
    namespace.sysctl("ipv6/conf/eth0/ndisc_notify", told).unwrap();
    namespace.ip(&format!("link set eth0 address 02:70:65:6e:ee:{last:02x}")).unwrap();
}

/// Waits until pen knows it, in both services, and sends newcomers there.
fn await_mac(scene: &Scene, backend: &str, last: u8) {
    let mac = [0x02, 0x70, 0x65, 0x6e, 0xee, last];
    for (service, family) in scene.services() {
        scene.await_backend(&service, scene.cluster.address(family, backend), "its new MAC", |backend| {
            backend.serving && backend.mac.is_some_and(|found| found.0 == mac)
        });
    }
}

#[test]
fn clients_stay_through_a_new_mac_that_was_told_and_lose_little_through_one_that_was_not() {
    let Some(mut scene) = begin(Plane::Xdp) else { return };
    scene.fresh_clients();
    scene.undisturbed("b2 got another MAC and told", |scene| {
        set_mac(scene, "b2", 1, true);
        await_mac(scene, "b2", 1);
    });
    let (before, began) = (scene.ledger(), Instant::now());
    let theirs = clients_of(&before, "b2");
    set_mac(&scene, "b2", 2, false);
    await_mac(&scene, "b2", 2);
    let known = Instant::now();
    scene.await_answers();
    let after = scene.ledger();
    report("b2 got another MAC and told nobody", began, &before, &after);
    scene.assert_losses(&before, &after, &theirs, known, Loss::UntilNoticed);
    assert!(moved(&before, &after).is_subset(&theirs), "{}", scene.log());
    scene.undisturbed("that was known", |_| {});
    scene.assert_reached_by_newcomers("b2");
    scene.close();
}

#[test]
fn when_the_balancers_link_is_back_everybody_is_served_as_before() {
    let Some(mut scene) = begin(Plane::Xdp) else { return };
    scene.fresh_clients();
    let port = |scene: &Scene, state: &str| {
        let name = &scene.cluster.lab.balancers[0].name;
        scene.cluster.lab.switch.ip(&format!("link set {name} {state}")).unwrap();
    };
    scene.eclipse("the balancer's link was down until nobody served", |scene| {
        port(scene, "down");
        scene.await_serving(&[]);
        port(scene, "up");
    });
    scene.eclipse("the balancer's link flapped three times", |scene| {
        for _ in 0..3 {
            port(scene, "down");
            port(scene, "up");
        }
    });
    scene.close();
}
