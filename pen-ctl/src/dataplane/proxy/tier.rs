//! Those among whom newcomers are shared at one time: their slots, and the round of their turns.

use pen_common::abi::{Address, NO_BACKEND, RING_TURNS, SLOTS};
use pen_common::maglev::{self, Turn};
use pen_common::ring;
use sha2::{Digest as _, Sha256};

use super::endpoint::Endpoint;
use super::pool::BackendId;

/// What the table goes by: two backends may differ in nothing but their port, so it is of all of an endpoint.
pub(super) type Digest = [u8; 16];

/// The digest of an endpoint.
pub(super) fn digest(endpoint: &Endpoint) -> Digest {
    let digest = Sha256::digest(endpoint.to_string());
    *digest.first_chunk().unwrap_or(&[0; 16])
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share {
    digest: Digest,
    id: BackendId,
    weight: u16,
}

impl Share {
    pub(super) fn new(id: BackendId, digest: Digest, weight: u16) -> Share {
        Share { digest, id, weight }
    }
}

/// A group that shares newcomers.
#[derive(Debug)]
pub(super) struct Tier {
    /// In the order of their numbers.
    shares: Vec<Share>,
    /// Owner of each slot.
    table: Box<[u16]>,
    /// Whose turn it is, in order.
    round: Box<[u16]>,
}

impl Tier {
    /// Shares slots and turns; whoever is out for a moment is passed over when it is looked into.
    pub(super) fn build(seed: u64, shares: Vec<Share>) -> Tier {
        Tier { table: table(seed, &shares), round: round(&shares), shares }
    }

    /// Whether it is a group of just these.
    pub(super) fn is_of(&self, shares: &[Share]) -> bool {
        self.shares == shares
    }

    /// Owner of a slot.
    pub(super) fn owner(&self, slot: u32) -> u16 {
        self.table.get(slot as usize).copied().unwrap_or(NO_BACKEND)
    }

    /// Whose turn the so-manieth is.
    pub(super) fn turn(&self, number: u64) -> Option<u16> {
        self.round.get(ring::place(number, self.round.len() as u32)?).copied()
    }

    /// Turns until they begin again.
    pub(super) fn round(&self) -> usize {
        self.round.len()
    }

    /// Numbers of its backends.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> {
        self.shares.iter().map(|share| share.id.0)
    }
}

fn table(seed: u64, shares: &[Share]) -> Box<[u16]> {
    let mut sorted = shares.to_vec();
    sorted.sort();
    let member =
        |share: &Share| maglev::Member { address: Address::from(share.digest), weight: share.weight };
    let members: Vec<_> = sorted.iter().map(member).collect();
    let mut table = vec![NO_BACKEND; SLOTS as usize];
    maglev::build(seed, &members, &mut table, &mut vec![Turn::default(); members.len()]);
    let number = |position: u16| sorted.get(usize::from(position)).map_or(NO_BACKEND, |share| share.id.0);
    table.iter().map(|&position| number(position)).collect()
}

fn round(shares: &[Share]) -> Box<[u16]> {
    let weights: Vec<u16> = shares.iter().map(|share| share.weight).collect();
    let mut round = Box::new([0; RING_TURNS]);
    let length = ring::build(&weights, &mut round, &mut vec![0; weights.len()]);
    round[..length].iter().map(|&position| shares[usize::from(position)].id.0).collect()
}
