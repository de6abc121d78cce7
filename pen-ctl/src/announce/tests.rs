//! Announcements as the other end of the link sees them, and what they leave behind.

use std::io::Read;

use socket2::{Domain, Protocol, Socket, Type};

use super::*;
use crate::machine::testing::{Heard, Net, can_run, named};
use crate::surroundings::Surroundings;

/// Every frame that arrives in the backends' namespace from now on.
fn capture(net: &Net) -> Socket {
    net.in_backends(|| {
        let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(everything)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    })
}

/// Waits until each of `wanted` was seen so many times.
fn await_frames(mut socket: &Socket, wanted: &[Vec<u8>], times: usize) {
    let mut missing: Vec<&[u8]> = wanted.iter().flat_map(|frame| vec![frame.as_slice(); times]).collect();
    let mut frame = [0; 2048];
    while !missing.is_empty() {
        let length = socket.read(&mut frame).expect("a frame did not come");
        if let Some(place) = missing.iter().position(|wanted| *wanted == &frame[..length]) {
            missing.remove(place);
        }
    }
}

/// The group of fd09::100:aaaa and fd09::200:aaaa is joined in the balancer's namespace.
fn is_joined() -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap();
    table.lines().any(|line| line.contains("pen0") && line.contains("ff0200000000000000000001ff00aaaa"))
}

async fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "it does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn machine_with_link() -> (Heard, Link) {
    let mut heard = Heard::start();
    heard.links_until(|links| named(links, "pen0").is_some_and(|link| link.up)).await;
    let link = heard.link("pen0");
    (heard, link)
}

#[test]
fn the_link_hears_of_vips_three_times() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    let socket = capture(&net);
    let vips: [IpAddr; 2] = ["10.0.0.100".parse().unwrap(), "2001:db8::64".parse().unwrap()];
    net.in_balancer(async || {
        let (mut heard, link) = machine_with_link().await;
        heard.machine.announce(&link, &vips);
        let mac = link.mac.unwrap();
        let wanted: Vec<_> = vips.iter().flat_map(|vip| frames::announcement(*vip, mac)).collect();
        let seen = tokio::task::spawn_blocking(move || await_frames(&socket, &wanted, 3));
        seen.await.unwrap();
    });
}

#[test]
fn groups_outlive_the_controller_and_are_shared_by_vips_that_end_alike() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    let (one, other) = ("fd09::100:aaaa".parse().unwrap(), "fd09::200:aaaa".parse().unwrap());
    net.in_balancer(async || {
        let (mut heard, link) = machine_with_link().await;
        heard.machine.announce(&link, &[one, other]);
        until(is_joined).await;
    });
    // That runtime, its tasks and sockets are gone.
    net.in_balancer(async || {
        assert!(is_joined());
        let (mut heard, link) = machine_with_link().await;
        heard.machine.announce(&link, &[one, other]);
        heard.machine.withdraw(&link, &[one]);
        let proof = "fd09::300:bbbb".parse().unwrap();
        heard.machine.announce(&link, &[proof]);
        until(|| std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap().contains("ff00bbbb")).await;
        assert!(is_joined(), "the other VIP needs it");
        heard.machine.withdraw(&link, &[other]);
        until(|| !is_joined()).await;
    });
}

#[test]
fn announcing_again_restores_groups_that_went_with_the_link() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    net.in_balancer(async || {
        let (mut heard, link) = machine_with_link().await;
        let vip = "fd09::100:aaaa".parse().unwrap();
        heard.machine.announce(&link, &[vip]);
        until(is_joined).await;
        net.near("ip link set pen0 down");
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| !link.up)).await;
        net.near("ip link set pen0 up");
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| link.up)).await;
        heard.machine.announce(&link, &[vip]);
        until(is_joined).await;
    });
}
