//! Round-robin with real clients: newcomers get the backends in turn, by weight, and stay where they are.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use std::collections::BTreeMap;

use xtask::lab::address::Family;
use xtask::lab::cluster::{Cluster, Kind};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Who answers each of these clients.
fn answers(
    cluster: &Cluster,
    kind: Kind,
    family: Family,
    clients: std::ops::RangeInclusive<u8>,
) -> Vec<String> {
    clients.map(|n| cluster.who(kind, family, n).unwrap()).collect()
}

fn shares(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    answers.iter().for_each(|name| *shares.entry(name.as_str()).or_default() += 1);
    shares
}

#[test]
fn newcomers_get_backends_in_turn_by_weight_and_stay() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 3) else { return };
    cluster.configure(0, &["b1", "b2", "b3"]).unwrap();
    let pen = cluster.pen();
    for (service, kind, family) in
        [("web", Kind::Web, Family::V4), ("web6", Kind::Web, Family::V6), ("dns", Kind::Dns, Family::V4)]
    {
        pen.ok(&format!("service set {service} --scheduler round-robin")).unwrap();
        let first = answers(&cluster, kind, family, 1..=9);
        for round in first.chunks(3) {
            assert_eq!(shares(round).len(), 3, "{service}: {first:?}");
        }
        let favoured = cluster.address(family, "b2");
        pen.ok(&format!("backend set {service} {favoured} --weight 3")).unwrap();
        let second = answers(&cluster, kind, family, 10..=24);
        for round in second.chunks(5) {
            assert_eq!(shares(round), BTreeMap::from([("b1", 1), ("b2", 3), ("b3", 1)]), "{second:?}");
        }
        let drained = cluster.address(family, "b3");
        pen.ok(&format!("backend set {service} {drained} --state drain")).unwrap();
        assert!(!answers(&cluster, kind, family, 25..=40).contains(&"b3".to_owned()), "{service}");
        let again = answers(&cluster, kind, family, 1..=24);
        assert_eq!(again, [first, second].concat(), "{service}: remembered clients moved");
    }
}
