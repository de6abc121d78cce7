//! Interfaces that come, go, and belong to others.

use pen_ctl::dataplane::xdp::{OpenOptions, XdpPlane};
use pen_ctl::dataplane::{AttachMode, DataPlane, InterfaceTarget, Mac, Operation};

use crate::kernel::detach_by_force;
use crate::pinned;
use crate::place::{Place, ip, program_on, target};
use crate::wants::Do;

fn attach(name: &str, target: &InterfaceTarget) -> Operation {
    Operation::Attach { name: name.to_owned(), target: target.clone() }
}

#[test]
fn attaching_is_seen_followed_and_undone() {
    let Some(place) = Place::enter() else { return };
    let mut target = place.interface("eth0.100", "peer");
    let mut plane = place.open().unwrap();
    plane.attach("eth0.100", &target);
    let program = program_on("eth0.100");
    assert!(program.is_some());
    let seen = plane.observe().unwrap().interfaces["eth0.100"].clone();
    assert!(seen.attached && seen.target == target);
    assert_eq!(seen.mode, AttachMode::Native, "veth has native XDP");

    target.mac = Mac([2, 1, 1, 1, 1, 1]);
    target.master_mac = Some(target.mac);
    target.announce = false;
    plane.attach("eth0.100", &target);
    assert_eq!(plane.observe().unwrap().interfaces["eth0.100"].target, target);
    assert_eq!(program_on("eth0.100"), program, "what changed about it needs no attaching anew");

    plane.detach("eth0.100");
    plane.detach("eth0.100");
    assert_eq!(program_on("eth0.100"), None);
    assert!(plane.observe().unwrap().interfaces.is_empty());
}

#[test]
fn the_mode_is_what_was_asked_for() {
    let Some(place) = Place::enter() else { return };
    let auto = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    for mode in [AttachMode::Generic, AttachMode::Native, AttachMode::Generic] {
        let target = InterfaceTarget { mode, ..auto.clone() };
        plane.attach("a0", &target);
        let seen = plane.observe().unwrap().interfaces["a0"].clone();
        assert!(seen.attached && seen.mode == mode && seen.target == target, "{seen:?}");
    }
    plane.attach("a0", &auto);
    assert_eq!(
        plane.observe().unwrap().interfaces["a0"].mode,
        AttachMode::Generic,
        "auto keeps what is there"
    );
}

#[test]
fn someone_elses_program_is_named_and_left_alone() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let theirs = OpenOptions { dir: place.pins().with_file_name("theirs"), ..place.options() };
    let mut theirs = XdpPlane::open(&theirs).unwrap();
    theirs.attach("a0", &target);
    let program = program_on("a0").unwrap();

    let mut plane = place.open().unwrap();
    let before = plane.observe().unwrap();
    for mode in [AttachMode::Auto, AttachMode::Native, AttachMode::Generic] {
        let error = plane.apply(&attach("a0", &InterfaceTarget { mode, ..target.clone() })).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("{program} (pen_xdp)")), "{said}");
    }
    plane.detach("a0");
    assert_eq!(program_on("a0"), Some(program));
    assert_eq!(plane.observe().unwrap(), before);
}

#[test]
fn an_interface_that_vanished_is_seen_and_attached_when_it_is_back() {
    let Some(place) = Place::enter() else { return };
    let old = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.attach("a0", &old);
    ip(&["link", "del", "a0"]);
    assert!(!plane.observe().unwrap().interfaces["a0"].attached);
    assert!(plane.apply(&attach("a0", &old)).is_err());

    let new = place.interface("a0", "a1");
    assert_ne!(new.ifindex, old.ifindex);
    plane.attach("a0", &new);
    let seen = plane.observe().unwrap().interfaces["a0"].clone();
    assert!(seen.attached && seen.target == new);

    ip(&["link", "del", "a0"]);
    drop(plane);
    assert!(place.open().unwrap().observe().unwrap().interfaces.is_empty(), "a dead link is not adopted");
}

#[test]
fn a_renamed_interface_keeps_its_program() {
    let Some(place) = Place::enter() else { return };
    let old = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.attach("a0", &old);
    let program = program_on("a0");
    ip(&["link", "set", "a0", "down"]);
    ip(&["link", "set", "a0", "name", "b0"]);
    assert!(!plane.observe().unwrap().interfaces["a0"].attached);
    plane.attach("b0", &target("b0"));
    plane.detach("a0");
    let seen = plane.observe().unwrap().interfaces;
    assert!(seen.len() == 1 && seen["b0"].attached);
    assert_eq!(program_on("b0"), program);
}

#[test]
fn a_link_that_was_detached_by_force_is_seen_and_mended() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.attach("a0", &target);
    detach_by_force(&place.pins().join("links/a0"));
    assert_eq!(program_on("a0"), None);
    let seen = plane.observe().unwrap().interfaces;
    assert!(!seen["a0"].attached);
    plane.attach("a0", &target);
    assert!(plane.observe().unwrap().interfaces["a0"].attached);
}

#[test]
fn a_way_out_that_someone_closed_is_seen_and_mended() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.attach("a0", &target);
    assert!(plane.observe().unwrap().interfaces["a0"].intact);
    let mut egress: aya::maps::xdp::DevMapHash<_> = pinned::open(&place, "egress");
    egress.remove(target.ifindex).unwrap();
    let seen = plane.observe().unwrap().interfaces["a0"].clone();
    assert!(!seen.intact && seen.troubles.len() == 1, "{seen:?}");
    plane.attach("a0", &target);
    let seen = plane.observe().unwrap().interfaces["a0"].clone();
    assert!(seen.intact && seen.troubles.is_empty(), "{seen:?}");
}

#[test]
fn an_unknown_interface_is_refused() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    let error = plane.apply(&attach("nope", &target)).unwrap_err();
    assert!(error.to_string().contains("nope"), "{error}");
    assert!(plane.observe().unwrap().interfaces.is_empty());
}

#[test]
fn a_driver_without_xdp_is_attached_in_generic_mode_unless_native_was_asked_for() {
    let Some(place) = Place::enter() else { return };
    ip(&["link", "add", "br0", "type", "bridge"]);
    ip(&["link", "set", "br0", "up"]);
    let auto = target("br0");
    let mut plane = place.open().unwrap();
    let native = InterfaceTarget { mode: AttachMode::Native, ..auto.clone() };
    let error = plane.apply(&attach("br0", &native)).unwrap_err();
    assert!(error.to_string().contains("--mode generic"), "{error}");
    assert!(plane.observe().unwrap().interfaces.is_empty());

    plane.attach("br0", &auto);
    let seen = plane.observe().unwrap().interfaces["br0"].clone();
    assert!(seen.attached && seen.mode == AttachMode::Generic && seen.target == auto);
}
