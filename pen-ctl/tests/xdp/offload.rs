//! VLAN tags that cards take off frames: left on while pen is attached, whoever turns it on, and off as before afterwards.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use std::fs;
use std::process::Command;

use pen_ctl::dataplane::xdp::{XdpPlane, detach_pinned, discard};
use pen_ctl::dataplane::{DataPlane, InterfaceTarget};

use crate::kernel::detach_by_force;
use crate::needs;
use crate::place::{Place, ip};
use crate::wants::Do;

/// What `ethtool -K` calls taking off tags of IEEE 802.1Q and of IEEE 802.1ad.
const TAGS: [&str; 2] = ["rxvlan", "rx-vlan-stag-hw-parse"];

/// A place with veth `a0`, which like any veth takes off both kinds of tags until it is told not to.
fn place() -> Option<(Place, InterfaceTarget)> {
    let ethtool = Command::new("ethtool").arg("--version").output();
    if !needs::met(ethtool.is_err().then_some("ethtool (apt-get install ethtool)")) {
        return None;
    }
    let place = Place::enter()?;
    let target = place.interface("a0", "a1");
    assert_eq!(on("a0"), [true, true]);
    Some((place, target))
}

fn ethtool(arguments: &[&str]) -> String {
    let output = Command::new("ethtool").args(arguments).output().unwrap();
    assert!(output.status.success(), "ethtool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether an interface takes off these tags.
fn on(interface: &str) -> [bool; 2] {
    let shown = ethtool(&["-k", interface]);
    ["rx-vlan-offload: on", "rx-vlan-stag-hw-parse: on"].map(|line| shown.contains(line))
}

fn switch(interface: &str, tags: &str, value: &str) {
    ethtool(&["-K", interface, tags, value]);
}

fn attached(place: &Place, target: &InterfaceTarget) -> XdpPlane {
    let mut plane = place.open().unwrap();
    plane.attach("a0", target);
    assert_eq!(on("a0"), [false, false]);
    plane
}

#[test]
fn tags_stay_on_frames_while_attached_and_what_was_on_is_on_afterwards() {
    let Some((place, target)) = place() else { return };
    let mut plane = attached(&place, &target);
    let seen = plane.observe().unwrap().interfaces["a0"].clone();
    assert!(seen.intact && seen.troubles.is_empty() && seen.target == target, "{seen:?}");
    plane.attach("a0", &target);
    plane.detach("a0");
    plane.detach("a0");
    assert_eq!(on("a0"), [true, true]);

    // What the administrator had turned off stays off.
    switch("a0", TAGS[0], "off");
    plane.attach("a0", &target);
    plane.detach("a0");
    assert_eq!(on("a0"), [false, true]);
}

#[test]
fn attaching_that_fails_leaves_it_as_it_was() {
    let Some((place, target)) = place() else { return };
    let theirs = pen_ctl::dataplane::xdp::OpenOptions {
        dir: place.pins().with_file_name("theirs"),
        ..place.options()
    };
    let mut theirs = XdpPlane::open(&theirs).unwrap();
    theirs.attach("a0", &target);
    TAGS.iter().for_each(|tags| switch("a0", tags, "on"));
    let mut plane = place.open().unwrap();
    let operation = pen_ctl::dataplane::Operation::Attach { name: "a0".into(), target };
    assert!(plane.apply(&operation).is_err());
    assert_eq!(on("a0"), [true, true]);
}

#[test]
fn somebody_who_turns_it_on_again_is_noticed() {
    let Some((place, target)) = place() else { return };
    switch("a0", TAGS[0], "off");
    let mut plane = attached(&place, &target);
    switch("a0", TAGS[0], "on");
    assert!(!plane.observe().unwrap().interfaces["a0"].intact);
    plane.attach("a0", &target);
    assert!(plane.observe().unwrap().interfaces["a0"].intact);
    assert_eq!(on("a0"), [false, false]);
    plane.detach("a0");
    assert_eq!(on("a0"), [true, true], "the administrator's last word");
}

#[test]
fn a_next_controller_and_the_pins_alone_know_what_was_on() {
    let Some((place, target)) = place() else { return };
    drop(attached(&place, &target));
    let mut next = place.open().unwrap();
    assert!(next.observe().unwrap().interfaces["a0"].intact);
    next.detach("a0");
    assert_eq!(on("a0"), [true, true]);
    drop(next);

    drop(attached(&place, &target));
    let done = detach_pinned(&place.pins(), None).unwrap();
    assert_eq!((done.names, done.troubles), (vec!["a0".to_owned()], vec![]));
    assert_eq!(on("a0"), [true, true]);

    drop(attached(&place, &target));
    discard(&place.pins()).unwrap();
    assert_eq!(on("a0"), [true, true]);
}

#[test]
fn what_a_killed_controller_left_half_done_is_finished() {
    let Some((place, target)) = place() else { return };
    let links = place.pins().join("links/a0");
    // Killed after the record was written, before the card was told.
    drop(attached(&place, &target));
    TAGS.iter().for_each(|tags| switch("a0", tags, "on"));
    let mut next = place.open().unwrap();
    assert!(!next.observe().unwrap().interfaces["a0"].intact);
    next.attach("a0", &target);
    assert_eq!(on("a0"), [false, false]);
    drop(next);
    // Killed after the link was detached, before the card was told.
    let cut = || {
        detach_by_force(&links);
        fs::remove_file(&links).unwrap();
    };
    cut();
    let next = place.open().unwrap();
    assert_eq!(on("a0"), [true, true], "by the next controller");
    drop(next);
    drop(attached(&place, &target));
    cut();
    assert!(detach_pinned(&place.pins(), Some(&["a0".to_owned()])).unwrap().names.is_empty());
    assert_eq!(on("a0"), [true, true], "by `detach` without a controller");
    // Done is done: whoever turns it off now means it.
    TAGS.iter().for_each(|tags| switch("a0", tags, "off"));
    drop(place.open().unwrap());
    assert_eq!(on("a0"), [false, false]);
}

#[test]
fn an_interface_that_only_has_the_index_of_the_former_one_is_left_alone() {
    let Some((place, target)) = place() else { return };
    drop(attached(&place, &target));
    ip(&["link", "del", "a0"]);
    let index = target.ifindex.to_string();
    ip(&["link", "add", "b0", "index", &index, "type", "veth", "peer", "name", "b1"]);
    TAGS.iter().for_each(|tags| switch("b0", tags, "off"));
    drop(place.open().unwrap());
    assert_eq!(on("b0"), [false, false]);
}
