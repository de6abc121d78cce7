//! What a table owes its members: their weights, and to leave alone whom a change does not concern.

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn member(number: u32, weight: u16) -> Member {
    Member { address: Ipv4Addr::from(0x0a00_0001 + number).into(), weight }
}

fn table(seed: u64, members: &[Member]) -> Vec<u16> {
    let mut table = vec![0; SLOTS as usize];
    build(seed, members, &mut table, &mut vec![Turn::default(); members.len()]);
    table
}

fn shares(table: &[u16], members: usize) -> Vec<u32> {
    let mut shares = vec![0; members];
    for &owner in table {
        shares[usize::from(owner)] += 1;
    }
    shares
}

fn assert_weights_hold(members: &[Member], table: &[u16]) {
    let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
    for (share, member) in shares(table, members.len()).iter().zip(members) {
        let exact = f64::from(member.weight) * f64::from(SLOTS) / total;
        let off = (f64::from(*share) - exact).abs();
        assert!(off <= 1.0 || off <= exact / 100.0, "{share} slots for {exact} due");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn weights_hold_within_a_slot_or_a_percent(
        seed: u64,
        weights in prop::collection::vec(1u16..=1000, 1..300),
    ) {
        let members: Vec<_> = weights.iter().zip(0..).map(|(&weight, n)| member(n, weight)).collect();
        assert_weights_hold(&members, &table(seed, &members));
    }
}

#[test]
fn one_heavy_member_among_a_thousand_light_ones_gets_its_share() {
    let members: Vec<_> = (0..1000).map(|n| member(n, if n == 500 { 1000 } else { 1 })).collect();
    assert_weights_hold(&members, &table(3, &members));
}

#[test]
fn nobody_owns_the_table_of_no_members() {
    assert!(table(1, &[]).iter().all(|&owner| owner == NO_BACKEND));
}

#[test]
fn one_member_owns_every_slot() {
    assert!(table(1, &[member(0, 7)]).iter().all(|&owner| owner == 0));
}

/// The share of slots that changed hands between members present before and after, `gone` being left out.
fn needless(before: &[u16], after: &[u16], gone: u16) -> f64 {
    let moved = before
        .iter()
        .zip(after)
        .filter(|&(&old, &new)| old != gone && old != new + u16::from(new >= gone))
        .count();
    moved as f64 / f64::from(SLOTS)
}

#[test]
fn a_member_that_leaves_moves_few_slots_of_others() {
    for (count, allowed) in [(3, 0.02), (100, 0.02)] {
        let members: Vec<_> = (0..count).map(|n| member(n, 1)).collect();
        let without: Vec<_> = members.iter().copied().filter(|m| *m != members[1]).collect();
        let moved = needless(&table(5, &members), &table(5, &without), 1);
        assert!(moved < allowed, "{count} members: {moved}");
    }
}

#[test]
fn a_weighted_member_that_leaves_moves_few_slots_of_others() {
    let members: Vec<_> = (0..50).map(|n| member(n, 1 + (n as u16 * 37) % 10)).collect();
    let without: Vec<_> = members.iter().copied().filter(|m| *m != members[20]).collect();
    let moved = needless(&table(5, &members), &table(5, &without), 20);
    assert!(moved < 0.01, "{moved}");
}

#[test]
fn another_seed_makes_another_table() {
    let members = [member(0, 1), member(1, 1)];
    let same = table(1, &members).iter().zip(&table(2, &members)).filter(|(a, b)| a == b).count();
    assert!((28_000..38_000).contains(&same), "{same}");
}
