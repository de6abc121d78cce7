//! Opening is refused in clear words, and then nothing has changed.
#![allow(clippy::unwrap_used, reason = "what a test does here must succeed")]

use pen_common::abi::ABI_VERSION;
use pen_ctl::dataplane::DataPlane;
use pen_ctl::dataplane::xdp::{OpenError, OpenOptions, Pinned, XdpPlane, inspect};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::pinned;
use crate::place::{Place, program_on};
use crate::wants::{Do, key};

#[test]
fn another_instances_pins_are_refused_unchanged() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.attach("a0", &target);
    let (before, program) = (plane.observe().unwrap(), program_on("a0"));

    let other = OpenOptions { instance: [9; 16], ..place.options() };
    let refused = XdpPlane::open(&other).err().unwrap();
    assert!(
        matches!(refused, OpenError::ForeignInstance { pins, state, .. } if pins == [7; 16] && state == [9; 16])
    );
    assert!(refused.to_string().contains("--adopt") && refused.to_string().contains("--discard"));
    assert_eq!(program_on("a0"), program);
    assert_eq!(plane.observe().unwrap(), before);
}

#[test]
fn another_abis_pins_are_refused_unchanged() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.attach("a0", &target);
    drop(plane);
    let program = program_on("a0");
    let mut instance: aya::maps::Array<_, [u32; 8]> = pinned::open(&place, "instance");
    let mut record = instance.get(&0, 0).unwrap();
    record[2] = ABI_VERSION + 1;
    instance.set(0, record, 0).unwrap();

    let refused = place.open().err().unwrap();
    assert!(matches!(refused, OpenError::OtherAbi { found, .. } if found == ABI_VERSION + 1), "{refused}");
    assert_eq!(program_on("a0"), program);
    let found = inspect(&place.pins()).unwrap();
    assert_eq!(found, Pinned::OtherAbi { version: ABI_VERSION + 1, id: [7; 16] });
}

#[test]
fn a_map_of_another_shape_is_named() {
    let Some(place) = Place::enter() else { return };
    drop(place.open().unwrap());
    let maps = place.pins().join("maps");
    std::fs::remove_file(maps.join("backends")).unwrap();
    let folded = aya::maps::MapData::from_pin(maps.join("folded")).unwrap();
    folded.pin(maps.join("backends")).unwrap();
    let refused = place.open().err().unwrap();
    assert!(
        matches!(&refused, OpenError::MapMismatch { path, .. } if path.ends_with("maps/backends")),
        "{refused}"
    );
}

#[test]
fn without_a_bpf_file_system_the_mount_command_is_given() {
    let Some(place) = Place::enter() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = elsewhere.path().join("pen");
    let options = OpenOptions { dir: dir.clone(), ..place.options() };
    let refused = XdpPlane::open(&options).err().unwrap();
    assert!(matches!(refused, OpenError::NoBpffs { .. }), "{refused}");
    assert!(refused.to_string().contains("mount -t bpf"), "{refused}");
    assert!(!dir.exists(), "nothing was made");
}

#[test]
fn without_privileges_the_missing_ones_are_named() {
    let Some(place) = Place::enter() else { return };
    keep_only(CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON);
    let refused = place.open().err().unwrap();
    assert!(matches!(&refused, OpenError::NoPrivilege { missing } if missing == &["CAP_BPF"]), "{refused}");
}

#[test]
fn three_capabilities_are_enough() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    keep_only(CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON);
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 11);
    plane.set_table(key(0), &[11]);
    plane.attach("a0", &target);
    let before = plane.observe().unwrap();
    drop(plane);
    let mut plane = place.open().unwrap();
    assert_eq!(plane.observe().unwrap().interfaces.len(), before.interfaces.len());
    plane.remove_service(key(0));
    plane.detach("a0");
    assert!(plane.observe().unwrap().services.is_empty());
}

#[test]
fn a_program_that_needs_another_capability_says_which() {
    let Some(place) = Place::enter() else { return };
    keep_only(CapabilitySet::BPF | CapabilitySet::NET_ADMIN);
    match place.open() {
        Ok(_) => println!("CAP_PERFMON is not needed here"),
        Err(refused) => {
            assert!(
                matches!(&refused, OpenError::NoPrivilege { missing } if missing == &["CAP_PERFMON"]),
                "{refused}"
            );
            assert_eq!(inspect(&place.pins()).unwrap(), Pinned::Nothing, "what was begun is undone");
        }
    }
}

/// Capabilities belong to the thread: dropping them here does not touch other tests.
fn keep_only(kept: CapabilitySet) {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).unwrap();
}
