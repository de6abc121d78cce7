//! A packet's whole way, from its first byte to the verdict: the order of `docs/packet-path.md`.
//!
//! Plain packets, which nearly all are, are done with by [`plain`]. The others go from stage to stage: [`sort()`] decides or
//! says where the headers are; then [`answer()`] answers a question, [`serve()`] hands a flow's packet to a backend, [`quote()`]
//! finds the flow that an ICMP error is about, and [`follow()`] hands that, or a later fragment, to the backend of what it
//! belongs to. A stage learns of those before it only by a [`Place`], a word, so that the kernel can verify each by itself.

use crate::abi::{TrackKeyV4, TrackKeyV6};
use crate::packet::Packet;
use crate::plain::{self, Plain};
use crate::tables::Tables;
use crate::verdict::{Egress, Pass, Verdict};

mod answer;
mod flow;
mod follow;
mod here;
pub mod place;
mod quote;
mod serve;
mod sort;

pub use answer::answer;
pub use follow::follow;
pub use place::{Place, Sorted};
pub use quote::quote;
pub use serve::serve;
pub use sort::sort;

/// Decides what becomes of a frame that came in by the interface of kernel index `ingress`, and rewrites it
/// accordingly. A frame that passes or is dropped is unchanged.
#[inline(always)]
pub fn run<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: u32) -> Verdict {
    match plain::run(packet, tables, ingress) {
        Some(Plain::Forwarded(backend)) => Verdict::Forwarded { backend, egress: Egress::Same },
        Some(Plain::Stranger) => Verdict::Passed(Pass::NoService),
        Some(Plain::Refused(why)) => Verdict::Dropped(why),
        None => general(packet, tables, ingress),
    }
}

/// The same for every frame, by the long way.
pub fn general<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: u32) -> Verdict {
    let place = match sort(packet, tables, ingress) {
        Sorted::Decided(verdict) => return verdict,
        Sorted::Question(place) => return answer(packet, tables, ingress, place),
        Sorted::Flow(place) if place.v6 => return serve::<TrackKeyV6, _, _>(packet, tables, ingress, place),
        Sorted::Flow(place) => return serve::<TrackKeyV4, _, _>(packet, tables, ingress, place),
        Sorted::Later(place) => place,
        Sorted::Error(place) => match quote(packet, place) {
            Ok(place) => place,
            Err(verdict) => return verdict,
        },
    };
    if place.v6 {
        follow::<TrackKeyV6, _, _>(packet, tables, ingress, place)
    } else {
        follow::<TrackKeyV4, _, _>(packet, tables, ingress, place)
    }
}

#[cfg(test)]
mod tests;
