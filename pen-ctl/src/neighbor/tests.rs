//! Neighbor resolution against a real kernel: two namespaces and the veths between them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::dataplane::Mac;
use crate::machine::testing::{Heard, Net, can_run, named, watched};
use crate::surroundings::{Event, Resolution, Surroundings, Watched};

const MAC_A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const MAC_B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

/// A backend with both families at 10.9.0.2 and fd09::2, with MAC A.
fn net_with_backend() -> Net {
    let net = Net::new();
    net.far("ip link set far0 address 02:00:00:00:00:0a");
    net.far("ip addr add 10.9.0.2/24 dev far0");
    net.far("ip addr add fd09::2/64 dev far0 nodad");
    net
}

fn on_link(heard: &Heard, mac: Mac) -> Resolution {
    Resolution::OnLink { mac, ifindex: heard.link("pen0").index }
}

fn unreachable(why: &str) -> Resolution {
    Resolution::Unreachable(why.into())
}

#[test]
fn a_macs_silent_change_is_found_by_probing() {
    if !can_run() {
        return;
    }
    let net = net_with_backend();
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.machine.watch(watched(["10.9.0.2", "fd09::2"]));
        for mac in [MAC_A, MAC_B] {
            for _ in 0..2 {
                let Event::Neighbor { resolution, .. } = heard.next_other().await else { panic!() };
                assert_eq!(resolution, on_link(&heard, mac), "no loss may be told in between");
            }
            // Healthy entries are probed again and again without a word.
            heard.silent_for(Duration::from_secs(5)).await;
            println!("changing the MAC");
            net.far("ip link set far0 address 02:00:00:00:00:0b");
        }
    });
}

#[test]
fn a_mac_that_announces_its_change_is_followed_at_once() {
    if !can_run() {
        return;
    }
    let net = net_with_backend();
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.machine.watch(watched(["10.9.0.2"]));
        assert_eq!(heard.neighbor("10.9.0.2").await, on_link(&heard, MAC_A));
        // As if a gratuitous ARP had come: the kernel's table holds the new one.
        net.near("ip neigh change 10.9.0.2 lladdr 02:00:00:00:00:0b dev pen0 nud reachable");
        assert_eq!(heard.neighbor("10.9.0.2").await, on_link(&heard, MAC_B));
    });
}

#[test]
fn a_flushed_or_failed_entry_is_asked_for_again_before_anything_is_said() {
    if !can_run() {
        return;
    }
    let net = net_with_backend();
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.machine.watch(watched(["10.9.0.2", "fd09::2"]));
        heard.next_other().await;
        heard.next_other().await;
        net.near("ip neigh flush dev pen0");
        heard.silent_for(Duration::from_secs(1)).await;
        net.near("ip neigh change 10.9.0.2 dev pen0 nud failed");
        net.near("ip neigh change fd09::2 dev pen0 nud failed");
        heard.silent_for(Duration::from_secs(5)).await;
    });
}

#[test]
fn a_backend_that_is_gone_is_told_and_told_again_when_it_is_back() {
    if !can_run() {
        return;
    }
    let net = net_with_backend();
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.machine.watch(watched(["10.9.0.2"]));
        assert_eq!(heard.neighbor("10.9.0.2").await, on_link(&heard, MAC_A));
        net.far("ip addr del 10.9.0.2/24 dev far0");
        assert_eq!(heard.neighbor("10.9.0.2").await, unreachable("no answer to ARP on pen0"));
        net.far("ip addr add 10.9.0.2/24 dev far0");
        assert_eq!(heard.neighbor("10.9.0.2").await, on_link(&heard, MAC_A));

        // A pulled cable.
        net.far("ip link set far0 down");
        assert_eq!(heard.neighbor("10.9.0.2").await, unreachable("pen0 is down"));
        net.far("ip link set far0 up");
        assert_eq!(heard.neighbor("10.9.0.2").await, on_link(&heard, MAC_A));

        // An interface taken down loses its routes.
        net.near("ip link set pen0 down");
        assert_eq!(heard.neighbor("10.9.0.2").await, unreachable("no route"));
        net.near("ip link set pen0 up");
        assert_eq!(heard.neighbor("10.9.0.2").await, on_link(&heard, MAC_A));
    });
}

#[test]
fn routes_decide_what_can_be_a_backend() {
    if !can_run() {
        return;
    }
    let net = net_with_backend();
    let gateway = unreachable("behind gateway 10.9.0.2: a DSR backend must be on the same link");
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.machine.watch(watched(["10.9.0.1", "192.0.2.1", "fd09::1"]));
        for _ in 0..3 {
            let Event::Neighbor { address, resolution } = heard.next_other().await else { panic!() };
            let local = address.to_string() != "192.0.2.1";
            assert_eq!(resolution, if local { Resolution::Local } else { unreachable("no route") });
        }
        net.near("ip route add 192.0.2.0/24 via 10.9.0.2");
        assert_eq!(heard.neighbor("192.0.2.1").await, gateway);
        net.near("ip route change 192.0.2.0/24 dev pen0");
        net.far("ip addr add 192.0.2.1/32 dev far0");
        assert_eq!(heard.neighbor("192.0.2.1").await, on_link(&heard, MAC_A));
        net.near("ip route add blackhole 192.0.2.1");
        assert_eq!(heard.neighbor("192.0.2.1").await, unreachable("no route"));
        net.near("ip addr add 192.0.2.1/32 dev lo");
        assert_eq!(heard.neighbor("192.0.2.1").await, Resolution::Local);
    });
}

#[test]
fn a_fixed_mac_needs_no_answer_and_thousands_of_them_hold_nobody_up() {
    if !can_run() {
        return;
    }
    let net = net_with_backend();
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.links_until(|links| named(links, "pen0").is_some_and(|link| link.up)).await;
        let fixed = |n: u32| Watched {
            address: std::net::Ipv4Addr::from(0x0a09_0100 + n).into(),
            fixed_mac: Some(MAC_B),
        };
        net.near("ip addr add 10.9.0.1/16 dev pen0");
        let mut wanted: BTreeSet<Watched> = (0..4000).map(fixed).collect();
        // And some who never answer, fewer than would crowd the machine's neighbor table.
        let silent =
            |n: u32| Watched { address: std::net::Ipv4Addr::from(0x0a09_f000 + n).into(), fixed_mac: None };
        wanted.extend((0..200).map(silent));
        wanted.extend(watched(["10.9.0.2"]));
        heard.machine.watch(wanted);
        let (mut found, mut lost, mut answered) = (0, 0, false);
        while found < 4000 || lost < 200 || !answered {
            match heard.next_other().await {
                Event::Neighbor { resolution: Resolution::OnLink { mac: MAC_B, .. }, .. } => found += 1,
                Event::Neighbor { resolution: Resolution::OnLink { mac: MAC_A, .. }, .. } => answered = true,
                Event::Neighbor { resolution: Resolution::Unreachable(_), .. } => lost += 1,
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn what_was_missed_in_a_flood_of_changes_is_found_by_looking_again() {
    if !can_run() {
        return;
    }
    let net = net_with_backend();
    // Else a change of address, when its duplicate detection ends, would make up for the missed change of route.
    net.near("ip -6 addr flush dev pen0");
    net.in_balancer(async || {
        let mut heard = Heard::start();
        heard.machine.watch(watched(["192.0.2.1"]));
        assert_eq!(heard.neighbor("192.0.2.1").await, unreachable("no route"));
        // The runtime has one thread, busy here: nobody reads while more is told than the socket holds.
        let routes: Vec<String> =
            (0..30_000).map(|n| format!("route add 198.18.{}.{} dev pen0", n / 250, n % 250)).collect();
        let batch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(batch.path(), routes.join("\n") + "\nroute add 192.0.2.0/24 via 10.9.0.2\n").unwrap();
        net.near(&format!("ip -batch {}", batch.path().display()));
        let gateway = "behind gateway 10.9.0.2: a DSR backend must be on the same link";
        assert_eq!(heard.neighbor("192.0.2.1").await, unreachable(gateway));
    });
}
