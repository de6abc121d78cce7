//! What a limit promises: never more than the burst and the rate together, never less than the rate, and nothing to the quiet.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

use core::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::host::random::Random;
use crate::host::{HostTables, Lines};

const SEED: u64 = 11;
/// Jiffies in a second.
const HZ: u32 = 250;
/// So long that nothing comes back in a test.
const NEVER: u32 = u32::MAX;

fn world() -> HostTables {
    let mut tables = HostTables::default();
    tables.buckets.insert(0, Lines::default());
    tables
}

/// So many a second, so many at once.
const fn limit(rate: u32, burst: u32) -> Limit {
    Limit { cost: (1 << JIFFY) * HZ / rate, burst }
}

/// A service of this VIP's family that tells clients apart by so many bits.
fn service(vip: Address, prefix: u8) -> ServiceEntry {
    let [limit_prefix_v4, limit_prefix_v6] = if vip.is_v4() { [prefix, 77] } else { [7, prefix] };
    ServiceEntry { address: vip, limit_prefix_v4, limit_prefix_v6, ..ServiceEntry::EMPTY }
}

fn v4(client: u32) -> Address {
    Ipv4Addr::from(client).into()
}

/// Whether a client's packet is let through, where each client has a bucket.
fn asks(tables: &HostTables, limit: Limit, client: u32) -> bool {
    admits(tables, 0, limit, SEED, &service(v4(100), 32), &v4(client))
}

fn pass(tables: &HostTables, jiffies: u64) {
    tables.jiffies.set(tables.jiffies.get() + jiffies);
}

/// Clients whose buckets are in one line.
static NEIGHBORS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let line =
        |client: &u32| key(SEED, &service(v4(100), 32), &v4(*client)) >> 32 & u64::from(BUCKET_LINES - 1);
    (1..).filter(|client| line(client) == line(&1)).take(12).collect()
});

/// How long, in jiffies, from one packet to the next: bursts, steady traffic and pauses.
fn gaps(seed: u64) -> impl Iterator<Item = u64> {
    let mut random = Random::new(seed);
    std::iter::from_fn(move || {
        Some(match random.below(20) {
            0 => random.below(2_000) as u64,
            1..=6 => random.below(10) as u64,
            _ => 0,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Between any two moments, and not only from the first one on: a pause earns a burst and no more.
    #[test]
    fn no_more_than_burst_and_rate_are_ever_let_through(
        seed: u64,
        rate in 1u32..5_000,
        burst in 1u32..100,
    ) {
        let (tables, limit) = (world(), limit(rate, burst));
        let mut let_through = Vec::new();
        for gap in gaps(seed).take(2_000) {
            pass(&tables, gap);
            if asks(&tables, limit, 1) {
                let_through.push(tables.jiffies.get());
            }
        }
        // What comes in a tick of the clock is let through, however small the burst.
        let at_once = f64::from(burst).max(1.0 + f64::from(rate) / f64::from(HZ));
        for (number, from) in let_through.iter().enumerate().step_by(7) {
            for (count, to) in let_through[number..].iter().enumerate().step_by(5) {
                let may = at_once + (to - from) as f64 * f64::from(rate) / f64::from(HZ);
                prop_assert!((count + 1) as f64 <= may * 1.001, "{} in {} jiffies", count + 1, to - from);
            }
        }
    }

    /// Neither is it less: a plain count of tokens says the same of each packet.
    #[test]
    fn what_there_are_tokens_for_is_let_through(seed: u64, rate in 1u32..5_000, burst in 1u32..100) {
        let (tables, limit) = (world(), limit(rate, burst));
        let (cost, tick) = (u64::from(limit.cost), 1u64 << JIFFY);
        let room = (cost * u64::from(burst)).max(cost + tick);
        let mut saved = room;
        for gap in gaps(seed).take(5_000) {
            pass(&tables, gap);
            saved = (saved + gap * tick).min(room);
            let may = saved >= cost;
            prop_assert_eq!(asks(&tables, limit, 1), may);
            saved -= if may { cost } else { 0 };
        }
    }

    /// However many others are limited at the same time.
    #[test]
    fn a_quiet_client_is_never_limited(seed: u64, rate in 1u32..250) {
        let (tables, limit) = (world(), limit(rate, 1));
        let mut random = Random::new(seed);
        let clients = &*NEIGHBORS;
        let apart = u64::from(HZ / rate) + 1;
        for _ in 0..200 {
            pass(&tables, apart + random.below(5) as u64);
            prop_assert!(asks(&tables, limit, clients[0]));
            for _ in 0..random.below(40) {
                asks(&tables, limit, clients[1 + random.below(11)]);
            }
        }
    }
}

#[test]
fn a_burst_smaller_than_what_comes_in_a_tick_still_gives_the_full_rate() {
    let (tables, rate, seconds) = (world(), 10_000, 8);
    let limit = limit(rate, 1);
    let mut let_through = 0;
    for _ in 0..HZ * seconds {
        let_through += (0..100).filter(|_| asks(&tables, limit, 1)).count() as u32;
        pass(&tables, 1);
    }
    let due = rate * seconds;
    assert!((due..=due + 1 + rate / HZ).contains(&let_through), "{let_through} of {due}");
}

/// Which bits of an address tell buckets apart: those of the prefix, each of them, and no other.
#[test]
fn clients_of_one_prefix_share_a_bucket_and_no_others_do() {
    let limit = Limit { cost: NEVER, burst: 1 };
    let shares = |one: Address, other: Address, service: ServiceEntry| {
        let tables = world();
        assert!(admits(&tables, 0, limit, SEED, &service, &one));
        !admits(&tables, 0, limit, SEED, &service, &other)
    };
    let client: u32 = 0xc0a8_1781;
    for prefix in [0, 1, 8, 23, 24, 31, 32] {
        for bit in 0..32u8 {
            let other = client ^ 1 << (31 - bit);
            let expected = bit >= prefix;
            assert_eq!(
                shares(v4(client), v4(other), service(v4(100), prefix)),
                expected,
                "/{prefix}, bit {bit}"
            );
        }
    }
    let client: u128 = 0x2001_0db8_1234_5678_9abc_def0_0fed_cba9;
    let v6 = |client: u128| Address::from(Ipv6Addr::from(client));
    for prefix in [0, 1, 32, 56, 63, 64, 65, 127, 128] {
        for bit in 0..128u8 {
            let other = client ^ 1 << (127 - bit);
            let expected = bit >= prefix;
            assert_eq!(
                shares(v6(client), v6(other), service(v6(100), prefix)),
                expected,
                "/{prefix}, bit {bit}"
            );
        }
    }
}

#[test]
fn a_full_bucket_gives_way_before_any_other() {
    let tables = world();
    let limit = limit(1, 3);
    let clients = &*NEIGHBORS;
    // The second one owes nothing any more after a second; the others have nothing left.
    assert!(asks(&tables, limit, clients[1]));
    pass(&tables, u64::from(HZ));
    for client in [0, 2, 3] {
        assert_eq!((0..9).filter(|_| asks(&tables, limit, clients[client])).count(), 3);
    }
    assert!(asks(&tables, limit, clients[4]), "a fifth in a line of four");
    for client in [0, 2, 3] {
        assert!(!asks(&tables, limit, clients[client]), "client {client} was forgiven");
    }
    // Now nobody's is full: whoever owes least, the fifth, is forgiven, and nobody else.
    assert!(asks(&tables, limit, clients[5]));
    for client in [0, 2, 3] {
        assert!(!asks(&tables, limit, clients[client]), "client {client} was forgiven");
    }
}

#[test]
fn a_new_limit_holds_for_those_who_owed_by_the_old_one() {
    let tables = world();
    let (strict, generous) = (Limit { cost: NEVER, burst: 9 }, limit(10, 5));
    for _ in 0..9 {
        assert!(asks(&tables, strict, 1));
    }
    assert!(!asks(&tables, generous, 1), "who had too many has too many");
    pass(&tables, u64::from(HZ) / 10 + 1);
    assert!(asks(&tables, generous, 1), "but waits no longer than the new limit says");
}

#[test]
fn tables_are_apart_and_where_there_is_none_nothing_is_limited() {
    let mut tables = world();
    tables.buckets.insert(1, Lines::default());
    let limit = Limit { cost: NEVER, burst: 1 };
    let of_table = |table| admits(&tables, table, limit, SEED, &service(v4(100), 32), &v4(1));
    assert_eq!([0, 0, 1, 1, 2, 2].map(of_table), [true, false, true, false, true, true]);
}
