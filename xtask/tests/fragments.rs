//! Datagrams that travel in fragments reach one backend whole, over both families and however the backend was chosen.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::collections::BTreeSet;

use xtask::lab::address::{Family, client};
use xtask::lab::cluster::{CLIENT_PATIENCE, Cluster, Kind, service_name, target};
use xtask::lab::dns::Asker;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// More than two MTUs of 1500.
const BYTES: usize = 4_000;
/// Datagrams of each family.
const DATAGRAMS: u8 = 6;

/// Choices that hash the client, or the ports that later fragments have not; remembered, or not.
const SETTINGS: [&str; 3] =
    ["--affinity client --tracking full", "--affinity flow --tracking full", "--affinity none"];

#[test]
fn datagrams_in_fragments_reach_one_backend_whole() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let mut answered = BTreeSet::new();
    for settings in SETTINGS {
        for family in Family::BOTH {
            let service = service_name(Kind::Dns, family);
            cluster.pen().ok(&format!("service set {service} {settings}")).unwrap();
            for n in 1..=DATAGRAMS {
                let who = cluster.lab.client.namespace.run(|| {
                    let to = target(Kind::Dns, family);
                    Asker::open(client(family, n), to, CLIENT_PATIENCE)?.who_in(BYTES)
                });
                answered.insert(who.unwrap_or_else(|error| panic!("{family:?}, {settings}, {n}: {error}")));
            }
        }
    }
    assert_eq!(answered.len(), 3, "all backends got some: {answered:?}");
    let dropped = cluster.pen().status().unwrap().packets.dropped;
    assert_eq!(dropped.get("fragment_without_first").copied().unwrap_or(0), 0);
    assert_eq!(cluster.lab.udp_overflows().unwrap(), []);
}
