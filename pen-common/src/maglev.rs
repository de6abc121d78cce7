//! Weighted Maglev: shares the slots of a table among members so that a change of members moves few of them.
//!
//! After "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016, section 3.4): each member walks
//! its own permutation of the table, hashed from the seed and its address, and takes the first free slot whenever
//! it has a turn. Turns come in proportion to weights; each member's share is fixed beforehand, so that weights
//! hold to within one slot.

use crate::abi::{Address, NO_BACKEND, SLOTS};
use crate::hash;

/// One who shares the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: Address,
    /// 1 to 1000.
    pub weight: u16,
}

/// Working memory for one member; its contents before and after mean nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Where its permutation stands.
    position: u32,
    /// From one place of its permutation to the next.
    skip: u32,
    /// Slots still due to it.
    due: u32,
    /// What it has saved for its next turn, in parts of the price of a slot.
    credit: u32,
}

/// Fills `table` (of [`SLOTS`] entries, a prime) with positions into `members`, or with [`NO_BACKEND`] when there
/// are none.
///
/// The result depends on nothing but the seed and the members in their order, which must be the same on
/// all nodes: sort them by address. `turns` must be as long as `members`; members beyond it get no slots.
pub fn build(seed: u64, members: &[Member], table: &mut [u16], turns: &mut [Turn]) {
    table.fill(NO_BACKEND);
    let count = members.len().min(turns.len()).min(usize::from(NO_BACKEND));
    let (members, turns) = (&members[..count], &mut turns[..count]);
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if total == 0 || table.is_empty() {
        return;
    }
    let size = table.len() as u64;
    for (turn, member) in turns.iter_mut().zip(members) {
        *turn = first_turn(seed, member, size, total);
    }
    // A slot's price: near the mean weight, so that a round places about one slot for each member, but a power
    // of two, so that the rounds stay the same when the mean moves a little.
    let price = (total / count as u64).next_power_of_two() as u32;
    let mut left: u32 = turns.iter().map(|turn| turn.due).sum();
    while left > 0 {
        left -= round(members, turns, price, table);
    }
    for (number, turn) in turns.iter_mut().take(rest(table, members, total)).enumerate() {
        turn.take(number as u16, table);
    }
}

/// Where a member's permutation starts, how it goes on, and how many whole slots its weight is worth.
fn first_turn(seed: u64, member: &Member, size: u64, total: u64) -> Turn {
    let first = hash::client(seed, &member.address);
    let second = hash::finish(first ^ seed);
    Turn {
        position: (first % size) as u32,
        skip: (second % (size - 1).max(1)) as u32 + 1,
        due: (u64::from(member.weight) * size / total) as u32,
        credit: 0,
    }
}

/// Gives each member the slots that its weight buys in one round; returns how many that were.
fn round(members: &[Member], turns: &mut [Turn], price: u32, table: &mut [u16]) -> u32 {
    let mut placed = 0;
    for (number, (turn, member)) in turns.iter_mut().zip(members).enumerate() {
        turn.credit += u32::from(member.weight);
        while turn.credit >= price && turn.due > 0 {
            turn.credit -= price;
            turn.due -= 1;
            placed += 1;
            turn.take(number as u16, table);
        }
    }
    placed
}

/// Slots that remain after every member has its whole ones: fewer than there are members.
fn rest(table: &[u16], members: &[Member], total: u64) -> usize {
    let size = table.len() as u64;
    let placed: u64 = members.iter().map(|member| u64::from(member.weight) * size / total).sum();
    (size - placed) as usize
}

impl Turn {
    /// Takes the next free slot of its permutation. There must be one.
    fn take(&mut self, number: u16, table: &mut [u16]) {
        let size = table.len() as u32;
        for _ in 0..size {
            let slot = &mut table[self.position as usize];
            self.position += self.skip;
            if self.position >= size {
                self.position -= size;
            }
            if *slot == NO_BACKEND {
                *slot = number;
                return;
            }
        }
    }
}

const _: () = assert!(SLOTS < 1 << 20, "weight × slots must fit");

#[cfg(test)]
mod tests;
