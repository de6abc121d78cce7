//! Whoever attaches and detaches, and however: VLAN tags stay on frames meanwhile, and the card is as it was afterwards.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::time::Duration;

use xtask::lab::cluster::Cluster;
use xtask::lab::sys::{receive_vlan_offload, set_receive_vlan_offload};
use xtask::lab::{Result, await_that};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Whether the balancer's eth0 takes tags off frames; a veth does until it is told not to.
fn takes_tags_off(cluster: &Cluster) -> bool {
    cluster.lab.balancers[0].namespace.run(|| receive_vlan_offload("eth0")).unwrap()
}

#[test]
fn tags_are_taken_off_before_and_after_but_not_while_attached() {
    let Some(mut cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    assert!(takes_tags_off(&cluster));
    for end in ["detach eth0", "detach --all", "stop --detach"] {
        cluster.pen().ok("attach eth0").unwrap();
        assert!(!takes_tags_off(&cluster));
        cluster.pen().ok(end).unwrap();
        assert!(takes_tags_off(&cluster), "{end}");
    }
    for end in ["detach eth0", "stop --detach"] {
        cluster.pen_mut().kill();
        cluster.pen_mut().start("").unwrap();
        cluster.pen().ok("attach eth0").unwrap();
        cluster.pen_mut().kill();
        assert!(!takes_tags_off(&cluster), "packets keep flowing without a controller");
        cluster.pen().ok(end).unwrap();
        assert!(takes_tags_off(&cluster), "{end} without a controller");
    }
    // Discarded and not attached anew, as its state was lost.
    cluster.pen_mut().start("").unwrap();
    cluster.pen().ok("attach eth0").unwrap();
    cluster.pen_mut().kill();
    std::fs::remove_dir_all(cluster.pen().state_dir()).unwrap();
    cluster.pen_mut().start("--discard").unwrap();
    assert!(takes_tags_off(&cluster));
}

#[test]
fn somebody_who_turns_it_on_is_overruled() {
    let Some(cluster) = Cluster::for_test(XTASK, 1, 1) else { return };
    cluster.pen().ok("attach eth0").unwrap();
    cluster.lab.balancers[0].namespace.run(|| set_receive_vlan_offload("eth0", true)).unwrap();
    let off = || -> Result<_> { Ok(if takes_tags_off(&cluster) { Err("on") } else { Ok(()) }) };
    await_that("rx-vlan-offload to be off again", Duration::from_secs(20), off).unwrap();
    assert_eq!(cluster.pen().status().unwrap().warnings, [] as [String; 0]);
}
