//! The stage of questions: turns each into its answer where it stands.

use super::here::Here;
use super::place::Place;
use crate::packet::Packet;
use crate::parse;
use crate::rewrite::{self, TooShort};
use crate::tables::Tables;
use crate::verdict::{Answer, Drop, Pass, Verdict};

/// What is asked, in the place of a protocol: for the MAC of an IPv4 VIP.
pub(super) const ARP: u8 = 0;
/// For the MAC of an IPv6 VIP.
pub(super) const NDP: u8 = 1;
/// An ICMP echo.
pub(super) const ECHO_V4: u8 = 2;
/// An ICMPv6 echo.
pub(super) const ECHO_V6: u8 = 3;

/// Answers a question, which begins where the link layer ends; sorting found that it is one.
#[inline(always)]
pub fn answer<P: Packet, T: Tables>(packet: &mut P, tables: &T, ingress: u32, question: Place) -> Verdict {
    let here = match Here::of(packet, tables, ingress) {
        Ok(here) => here,
        Err(verdict) => return verdict,
    };
    let (at, asker, mac) = (here.link.payload, here.link.source, here.interface.master_mac);
    match question.protocol {
        ARP => match rewrite::arp_reply(packet, at, mac) {
            Ok(()) => Verdict::Answered(Answer::Arp),
            Err(TooShort) => Verdict::Passed(Pass::NotIp),
        },
        NDP => match parse::ipv6(packet, at).map(|header| rewrite::advertise(packet, &header, asker, mac)) {
            Ok(Ok(())) => Verdict::Answered(Answer::Ndp),
            _ => Verdict::Passed(Pass::NotForUsProtocol),
        },
        ECHO_V4 => echoed(rewrite::echo_v4(packet, at)),
        _ => echoed(rewrite::echo_v6(packet, at)),
    }
}

#[inline(always)]
fn echoed(done: Result<(), TooShort>) -> Verdict {
    match done {
        Ok(()) => Verdict::Answered(Answer::IcmpEcho),
        Err(TooShort) => Verdict::Dropped(Drop::Malformed),
    }
}
