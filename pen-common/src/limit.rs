//! Token buckets by source prefix: how many packets, and new flows, of one prefix a service lets through.
//!
//! A bucket is one word: the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371, A.2). One
//! that is full need not be remembered, so a table of few buckets serves many prefixes: four to a line, a full one gives
//! way first. Where more prefixes than that are being limited at once, the one that owes least is forgiven.

use crate::abi::{Address, BUCKET_LINES, Limit, ServiceEntry};
use crate::hash::{absorb, finish};
use crate::tables::{Line, Tables};

/// Units of time in a jiffy, as a shift.
const JIFFY: u32 = 20;
/// Keeps these hashes apart from those that choose slots.
const SALT: u64 = 0x6c69_6d69_7465_6421;
/// Buckets of a line, each of a key and a time.
const BUCKETS: u32 = 4;
/// How often a bucket is tried that other CPUs take from, too.
const TRIES: usize = 3;

/// Takes a token out of the bucket of a client's prefix; `false`: there is none. `table` is the buckets' ([`crate::abi::limit_table`]).
#[inline(always)]
pub fn admits<T: Tables>(
    tables: &T,
    table: u32,
    limit: Limit,
    seed: u64,
    service: &ServiceEntry,
    client: &Address,
) -> bool {
    tables.take_token(table, limit, key(seed, service, client))
}

/// Takes a token out of the bucket of this key: what [`Tables::take_token`] does.
#[inline(always)]
pub fn take_token<T: Tables>(tables: &T, table: u32, limit: Limit, key: u64) -> bool {
    let now = tables.jiffies() << JIFFY;
    let cost = u64::from(limit.cost);
    // What comes in one tick of the clock has to fit in, whatever the burst.
    let room = (cost * u64::from(limit.burst)).max(cost + (1 << JIFFY));
    let Some(line) = tables.buckets(table, (key >> 32) as u32 & (BUCKET_LINES - 1)) else { return true };
    let (mut least, mut place) = (u64::MAX, 0);
    for bucket in 0..BUCKETS {
        if line.word(2 * bucket) == key {
            return take(&line, 2 * bucket + 1, now, cost, room);
        }
        let full_at = line.word(2 * bucket + 1);
        if full_at < least {
            (least, place) = (full_at, 2 * bucket);
        }
    }
    line.set_word(place, key);
    line.set_word(place + 1, now.wrapping_add(cost));
    true
}

/// Takes a token out of the bucket in this word.
#[inline(always)]
fn take<L: Line>(line: &L, word: u32, now: u64, cost: u64, room: u64) -> bool {
    let full = now.wrapping_add(room);
    for _ in 0..TRIES {
        let before = line.word(word);
        // Of a time that is further off than the bucket is large, another limit or nobody is the author.
        let owed = before.max(now).min(full);
        if owed.wrapping_add(cost) > full {
            if before > full {
                // So that what was owed by the other limit need not be paid off first.
                line.replace(word, before, full);
            }
            return false;
        }
        if line.replace(word, before, owed.wrapping_add(cost)) {
            return true;
        }
    }
    // Others took theirs at the same time, each time.
    true
}

/// What a client's prefix is known by: never 0, which is nobody's.
#[inline(always)]
const fn key(seed: u64, service: &ServiceEntry, client: &Address) -> u64 {
    let [high, low] = if service.address.is_v4() {
        let mask = mask(service.limit_prefix_v4 as u32 + 32);
        [0, client.words[3] as u64 & mask >> 32]
    } else {
        let [high, low] = client.halves();
        let bits = service.limit_prefix_v6 as u32;
        [high & mask(bits), low & mask(bits.saturating_sub(64))]
    };
    finish(absorb(absorb(seed ^ SALT, high), low)) | 1
}

/// The first bits of eight bytes as they stand in a packet; all of them from 64 on.
#[inline(always)]
const fn mask(bits: u32) -> u64 {
    match bits {
        0 => 0,
        1..64 => (u64::MAX << (64 - bits)).to_be(),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
