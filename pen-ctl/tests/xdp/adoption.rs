//! A controller that goes leaves everything; one that comes finds everything.

use pen_ctl::dataplane::xdp::{OpenOptions, Pinned, Policy, XdpPlane, detach_pinned, discard, inspect};
use pen_ctl::dataplane::{DataPlane, Operation};

use crate::place::{Place, program_on};
use crate::wants::{Do, address, key, members};
use crate::{pinned, wants};

#[test]
fn the_next_controller_finds_what_the_last_one_left() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut first = place.open().unwrap();
    first.apply(&Operation::SetSeed(99)).unwrap();
    first.set_service(key(0));
    first.set_service(key(1));
    first.set_backend(key(1), 11);
    first.set_backend(key(0), 12);
    first.set_backend(key(0), 13);
    first.set_table(key(0), &[12, 13]);
    first.attach("a0", &target);
    pinned::track_v4(&place).insert([1, 2, 3], 4, 0).unwrap();
    let before = first.observe().unwrap();
    let owners = pinned::owners(&place, 0, 1);
    let program = program_on("a0").unwrap();
    drop(first);
    assert_eq!(program_on("a0"), Some(program), "forwarding goes on without a controller");

    let mut second = place.open().unwrap();
    let mut after = second.observe().unwrap();
    assert_ne!(program_on("a0"), Some(program), "the program is replaced in place");
    assert_eq!(after.services[&key(0)].members, None, "who shares an adopted table is not known");
    assert!(after.services[&key(0)].has_table && !after.services[&key(1)].has_table);
    for (key, service) in &mut after.services {
        service.members = before.services[key].members.clone();
    }
    after.interfaces.get_mut("a0").unwrap().target.mode = target.mode;
    assert_eq!(after, before);
    assert_eq!(pinned::track_v4(&place).get(&[1, 2, 3], 0).unwrap(), 4);
    assert_eq!(second.clients().unwrap().occupancy().unwrap().v4.used, 1);

    second.set_table(key(0), &[12, 13]);
    assert_eq!(pinned::owners(&place, 0, 0), owners, "the same members get the same slots and indexes");
}

#[test]
fn a_removal_that_was_cut_short_is_finished_by_the_next_controller() {
    let Some(place) = Place::enter() else { return };
    let mut first = place.open().unwrap();
    first.set_service(key(0));
    first.set_backend(key(0), 11);
    drop(first);
    // As if killed between the directory and the rest: the service is gone, its backend and table are not.
    let mut directory: aya::maps::Array<_, [u8; size_of::<pen_common::abi::Directory>()]> =
        pinned::open(&place, "directory");
    let mut bytes = directory.get(&0, 0).unwrap();
    bytes[64..].fill(0);
    directory.set(0, bytes, 0).unwrap();

    let mut second = place.open().unwrap();
    assert!(second.observe().unwrap().services.is_empty());
    assert_eq!(pinned::backend(&place, 0).1, 0, "its index is free");
    assert!(!place.pins().join("maps/slots_0").exists());
}

#[test]
fn whose_the_pins_are_can_be_seen_and_they_can_be_discarded() {
    let Some(place) = Place::enter() else { return };
    assert_eq!(inspect(&place.pins()).unwrap(), Pinned::Nothing);
    let target = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.attach("a0", &target);
    plane.set_service(key(0));
    drop(plane);
    assert_eq!(inspect(&place.pins()).unwrap(), Pinned::Instance { id: [7; 16] });

    discard(&place.pins()).unwrap();
    assert_eq!(inspect(&place.pins()).unwrap(), Pinned::Nothing);
    assert_eq!(program_on("a0"), None);
    discard(&place.pins()).unwrap();
}

#[test]
fn discarding_at_the_start_builds_anew() {
    let Some(place) = Place::enter() else { return };
    let mut first = place.open().unwrap();
    first.set_service(key(0));
    drop(first);
    let options = OpenOptions { policy: Policy::Discard, instance: [8; 16], ..place.options() };
    let mut second = XdpPlane::open(&options).unwrap();
    assert!(second.observe().unwrap().services.is_empty());
    assert_eq!(inspect(&place.pins()).unwrap(), Pinned::Instance { id: [8; 16] });
}

#[test]
fn leftovers_without_an_owner_are_swept_away() {
    let Some(place) = Place::enter() else { return };
    let mut first = place.open().unwrap();
    first.set_service(key(0));
    drop(first);
    std::fs::remove_file(place.pins().join("maps/instance")).unwrap();
    assert_eq!(inspect(&place.pins()).unwrap(), Pinned::Nothing);
    assert!(place.open().unwrap().observe().unwrap().services.is_empty());
}

#[test]
fn interfaces_are_detached_by_the_pins_alone() {
    let Some(place) = Place::enter() else { return };
    let (a, b) = (place.interface("a0", "a1"), place.interface("b0.100", "b1"));
    let mut plane = place.open().unwrap();
    plane.attach("a0", &a);
    plane.attach("b0.100", &b);
    drop(plane);
    let one = ["b0.100".to_owned()];
    assert_eq!(detach_pinned(&place.pins(), Some(&one)).unwrap().names, one);
    assert!(program_on("a0").is_some() && program_on("b0.100").is_none());
    assert_eq!(detach_pinned(&place.pins(), Some(&one)).unwrap().names, Vec::<String>::new());
    assert_eq!(detach_pinned(&place.pins(), None).unwrap().names, ["a0"]);
    assert_eq!(program_on("a0"), None);
    assert!(place.open().unwrap().observe().unwrap().interfaces.is_empty());
}

#[test]
fn the_clock_runs_in_seconds() {
    let Some(place) = Place::enter() else { return };
    let _plane = place.open().unwrap();
    let directory: aya::maps::Array<_, [u8; size_of::<pen_common::abi::Directory>()]> =
        pinned::open(&place, "directory");
    let bytes = directory.get(&0, 0).unwrap();
    let at = std::mem::offset_of!(pen_common::abi::Directory, clock_multiplier);
    let multiplier = u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    // Whatever HZ is, a thousand seconds' worth of its ticks must be a thousand seconds.
    let known = [100u64, 250, 300, 1000];
    let right = |hz: &u64| (((1000 * hz) >> 2) * multiplier) >> 24;
    assert!(known.iter().any(|hz| right(hz).abs_diff(1000) <= 1), "multiplier {multiplier}");
}

#[test]
fn an_adopted_table_can_be_shared_by_others() {
    let Some(place) = Place::enter() else { return };
    let mut first = place.open().unwrap();
    first.set_service(key(0));
    first.set_backend(key(0), 11);
    first.set_table(key(0), &[11]);
    drop(first);
    let mut second = place.open().unwrap();
    second.set_backend(key(0), 12);
    second.set_table(key(0), &[11, 12]);
    let seen = second.observe().unwrap();
    assert_eq!(seen.services[&key(0)].members, Some(members(&[11, 12])));
    assert_eq!(seen.services[&key(0)].backends[&address(12)], wants::serving(12));
}

#[test]
fn pins_that_someone_removed_are_put_back_for_the_next_controller() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut plane = place.open().unwrap();
    plane.set_service(key(0));
    plane.set_backend(key(0), 12);
    plane.set_table(key(0), &[12]);
    plane.attach("a0", &target);
    pinned::track_v4(&place).insert([1, 2, 3], 4, 0).unwrap();
    let before = plane.observe().unwrap();

    std::fs::remove_dir_all(place.pins()).unwrap();
    assert!(!plane.observe().unwrap().interfaces.contains_key("a0"), "the link went with its pin");
    plane.attach("a0", &target);
    assert_eq!(plane.observe().unwrap(), before);
    plane.set_service(key(1));
    drop(plane);

    let mut next = place.open().unwrap();
    let seen = next.observe().unwrap();
    assert!(seen.interfaces["a0"].attached && seen.services.len() == 2);
    assert!(seen.services[&key(0)].has_table && seen.services[&key(0)].backends.len() == 1);
    assert_eq!(pinned::track_v4(&place).get(&[1, 2, 3], 0).unwrap(), 4, "clients are remembered");
}

#[test]
fn pins_have_one_controller_at_a_time_even_with_a_copy_of_its_state() {
    let Some(place) = Place::enter() else { return };
    let target = place.interface("a0", "a1");
    let mut first = place.open().unwrap();
    first.attach("a0", &target);
    let program = program_on("a0");
    for policy in [Policy::Adopt, Policy::Discard] {
        let refused = XdpPlane::open(&OpenOptions { policy, ..place.options() }).err().unwrap().to_string();
        assert!(refused.contains("another controller"), "{refused}");
    }
    assert_eq!(program_on("a0"), program, "nothing was changed");
    drop(first);
    assert!(place.open().is_ok());
    // A mount point stays when what is pinned in it is discarded, and is locked anew all the same.
    let dir = place.pins().parent().unwrap().to_owned();
    for policy in [Policy::Adopt, Policy::Discard, Policy::Adopt] {
        XdpPlane::open(&OpenOptions { dir: dir.clone(), policy, ..place.options() }).unwrap();
    }
}
