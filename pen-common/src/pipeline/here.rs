//! Where a packet is, and the verdicts on packets that cannot be read.

use crate::abi::{Directory, DirectoryHalf, Interface};
use crate::packet::Packet;
use crate::parse::{self, Link, Unreadable};
use crate::service;
use crate::tables::Tables;
use crate::track;
use crate::verdict::{Drop, Pass, Verdict, VerdictWord};

/// Where a packet is: the tables as they stand for it, the interface it came in by, its link layer.
pub(super) struct Here<'a, T> {
    pub(super) tables: &'a T,
    pub(super) directory: &'a Directory,
    pub(super) half: &'a DirectoryHalf,
    pub(super) interface: &'a Interface,
    pub(super) link: Link,
}

impl<'a, T: Tables> Here<'a, T> {
    /// The place of a frame that came in by an attached interface; else its verdict.
    #[inline(always)]
    pub(super) fn of<P: Packet>(packet: &P, tables: &'a T, ingress: u32) -> Result<Self, Verdict> {
        let link = parse::link(packet).map_err(stranger)?;
        let (directory, half) = tables.directory().ok_or(Verdict::Passed(Pass::NoService))?;
        let interface = service::interface(half, ingress).ok_or(Verdict::Passed(Pass::NotAddressedToUs))?;
        Ok(Self { tables, directory, half, interface, link })
    }

    /// The second of the data plane's clock.
    #[inline(always)]
    pub(super) fn now(&self) -> u32 {
        track::now(self.directory, self.tables.jiffies())
    }
}

/// The verdict of a last stage, which learns where the packet is.
#[inline(always)]
pub(super) fn decide<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ingress: u32,
    stage: impl FnOnce(&mut P, &Here<'_, T>) -> Result<VerdictWord, VerdictWord>,
) -> Verdict {
    let word = match Here::of(packet, tables, ingress) {
        Ok(here) => stage(packet, &here).unwrap_or_else(|word| word),
        Err(verdict) => verdict.into(),
    };
    word.into()
}

/// The verdict on a frame of which it cannot be told whether it is for a VIP.
#[inline(always)]
pub(super) const fn stranger(why: Unreadable) -> Verdict {
    match why {
        Unreadable::Malformed => Verdict::Passed(Pass::NotIp),
        Unreadable::Split => Verdict::Passed(Pass::SplitHeaders),
    }
}

/// The verdict on a packet to a VIP whose further headers cannot be read.
#[inline(always)]
pub(super) const fn unreadable(why: Unreadable) -> Verdict {
    match why {
        Unreadable::Malformed => Verdict::Dropped(Drop::Malformed),
        Unreadable::Split => Verdict::Passed(Pass::SplitHeaders),
    }
}
