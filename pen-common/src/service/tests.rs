//! What the service hash owes packets: every service found, nothing else found, exact port before every port.

use super::*;
use crate::abi::MAX_SERVICES;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

fn empty_half() -> Box<DirectoryHalf> {
    Box::new(DirectoryHalf::EMPTY)
}

fn vip_entry(ip: impl Into<IpAddr>, flags: u16) -> ServiceEntry {
    ServiceEntry { address: ip.into().into(), kind: entry_kind::VIP, flags, ..ServiceEntry::default() }
}

fn service_entry(ip: impl Into<IpAddr>, port: u16, protocol: u8, service: u16) -> ServiceEntry {
    ServiceEntry {
        address: ip.into().into(),
        port: port.to_be(),
        protocol,
        kind: entry_kind::SERVICE,
        service,
        ..ServiceEntry::default()
    }
}

fn interfaces(indexes: impl IntoIterator<Item = u32>) -> Vec<Interface> {
    indexes.into_iter().map(|ifindex| Interface { ifindex, ..Interface::default() }).collect()
}

/// As many services as pen allows, each with a VIP of its own.
fn full_directory(base: u32) -> Vec<ServiceEntry> {
    (0..MAX_SERVICES)
        .flat_map(|n| {
            let ip = Ipv4Addr::from(base.wrapping_add(n));
            [vip_entry(ip, 0), service_entry(ip, 80, TCP, n as u16)]
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_service_of_a_full_directory_is_found(base: u32, seed: u64) {
        let (mut half, entries) = (empty_half(), full_directory(base));
        build(&mut half, &entries, &[], seed).unwrap();
        for pair in entries.chunks(2) {
            let found = vip(&half, &pair[0].address).unwrap();
            prop_assert_eq!(found, &pair[0]);
            prop_assert_eq!(service(&half, &pair[1].address, 80u16.to_be(), TCP), Some(&pair[1]));
        }
    }

    #[test]
    fn a_stranger_is_never_found(base: u32, seed: u64, stranger: [u8; 16], v4: u32) {
        let (mut half, entries) = (empty_half(), full_directory(base));
        build(&mut half, &entries, &[], seed).unwrap();
        prop_assume!(v4.wrapping_sub(base) >= MAX_SERVICES);
        prop_assert_eq!(vip(&half, &Ipv4Addr::from(v4).into()), None);
        let stranger = Address::from(stranger);
        prop_assume!(!stranger.is_v4());
        prop_assert_eq!(vip(&half, &stranger), None);
    }

    #[test]
    fn every_interface_is_found_and_no_other(
        indexes in prop::collection::btree_set(1u32.., 1..24), seed: u64, other: u32,
    ) {
        let mut half = empty_half();
        build(&mut half, &[], &interfaces(indexes.iter().copied()), seed).unwrap();
        for &index in &indexes {
            prop_assert_eq!(interface(&half, index).map(|found| found.ifindex), Some(index));
        }
        prop_assert_eq!(interface(&half, other).is_some(), indexes.contains(&other));
    }
}

#[test]
fn an_address_that_differs_in_one_word_is_a_stranger() {
    let mut half = empty_half();
    let known = Address::from([0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let entry = ServiceEntry { address: known, kind: entry_kind::VIP, ..ServiceEntry::default() };
    build(&mut half, &[entry], &[], 1).unwrap();
    for word in 0..4 {
        // Enough for some to have the very place of the known one.
        for change in 1..20_000 {
            let mut stranger = known;
            stranger.words[word] ^= change;
            assert_eq!(vip(&half, &stranger), None, "word {word}");
        }
    }
    assert!(vip(&half, &known).is_some());
}

#[test]
fn as_many_interfaces_as_there_is_room_for_fit_when_their_indexes_are_in_a_row() {
    let mut half = empty_half();
    build(&mut half, &[], &interfaces(100..164), 1).unwrap();
    assert!((100..164).all(|index| interface(&half, index).is_some()));
}

#[test]
fn an_empty_directory_knows_nobody() {
    let mut half = empty_half();
    build(&mut half, &[], &[], 1).unwrap();
    assert_eq!(vip(&half, &Address::default()), None);
    assert_eq!(interface(&half, 0), None);
}

#[test]
fn the_exact_port_wins_over_every_port() {
    let (mut half, ip) = (empty_half(), Ipv4Addr::new(10, 0, 0, 100));
    let entries =
        [vip_entry(ip, vip_flags::ANY_TCP), service_entry(ip, 0, TCP, 1), service_entry(ip, 80, TCP, 2)];
    build(&mut half, &entries, &[], 1).unwrap();
    let address = ip.into();
    assert!(vip(&half, &address).is_some());
    let number =
        |port: u16, protocol| service(&half, &address, port.to_be(), protocol).map(|entry| entry.service);
    assert_eq!(number(80, TCP), Some(2));
    assert_eq!(number(81, TCP), Some(1));
    assert_eq!(number(0, TCP), Some(1));
    assert_eq!(number(80, UDP), None);
}

#[test]
fn a_service_has_its_port_and_protocol_and_no_other() {
    let (mut half, ip) = (empty_half(), Ipv4Addr::new(10, 0, 0, 100));
    build(&mut half, &[vip_entry(ip, 0), service_entry(ip, 80, TCP, 1)], &[], 1).unwrap();
    assert!(vip(&half, &ip.into()).is_some());
    for port in 0..=u16::MAX {
        let service = |protocol| service(&half, &ip.into(), port.to_be(), protocol);
        assert_eq!(service(TCP).is_some(), port == 80, "port {port}");
        assert!(service(UDP).is_none(), "port {port}");
    }
}

#[test]
fn what_cannot_be_kept_apart_is_refused_and_changes_nothing() {
    let (mut half, ip) = (empty_half(), Ipv4Addr::new(10, 0, 0, 100));
    let before = half.clone();
    let twice = [service_entry(ip, 80, TCP, 1), service_entry(ip, 80, TCP, 2)];
    assert_eq!(build(&mut half, &twice, &[], 1), Err(BuildError::DuplicateEntry));
    let many: Vec<_> = (0..513).map(|n| vip_entry(Ipv4Addr::from(n), 0)).collect();
    assert_eq!(build(&mut half, &many, &[], 1), Err(BuildError::TooManyEntries));
    assert_eq!(build(&mut half, &[], &interfaces([3, 3]), 1), Err(BuildError::BadInterfaces));
    assert_eq!(build(&mut half, &[], &interfaces([0]), 1), Err(BuildError::BadInterfaces));
    assert!(half == before);
}
