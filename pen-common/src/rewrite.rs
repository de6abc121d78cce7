//! Changes frames: new MACs for a backend, or a question turned into its own answer.
//!
//! Each function either does all of its work or, where the frame is too short for it, says so before it touched anything.

use crate::abi::{Address, MAC_MASK};
use crate::mac;
use crate::packet::Packet;
use crate::parse::{ICMPV6, IPV4_HEADER, IPV6_HEADER, IpHeader};

/// TTL and hop limit of answers (RFC 1700's default).
const HOPS: u8 = 64;
/// Length of a neighbor advertisement with its one option (RFC 4861, 4.4 and 4.6.1).
const ADVERTISEMENT: usize = 32;

/// The frame ends before what should be changed, or could not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort;

/// Gives a frame new MACs.
#[inline(always)]
pub fn macs<P: Packet>(packet: &mut P, destination: u64, source: u64) -> Result<(), TooShort> {
    let header = packet.bytes_mut::<12>(0).ok_or(TooShort)?;
    // As a word of eight bytes and one of four: two stores.
    let [a, b, c, d, e, f, g, h] = (destination & MAC_MASK | source << 48).to_le_bytes();
    let [i, j, k, l] = ((source >> 16) as u32).to_le_bytes();
    *header = [a, b, c, d, e, f, g, h, i, j, k, l];
    Ok(())
}

/// Turns an ARP request at offset `at` into the reply that `mac` has the address asked for (RFC 826).
#[inline(always)]
pub fn arp_reply<P: Packet>(packet: &mut P, at: usize, mac: u64) -> Result<(), TooShort> {
    let body = packet.bytes_mut::<28>(at).ok_or(TooShort)?;
    let [.., sa, sb, sc, sd, se, sf, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = *body;
    let [a, b, c, d, e, f] = mac::bytes(mac);
    *body =
        [0, 1, 8, 0, 6, 4, 0, 2, a, b, c, d, e, f, t0, t1, t2, t3, sa, sb, sc, sd, se, sf, s0, s1, s2, s3];
    let asker = mac::word([sa, sb, sc, sd, se, sf]);
    macs(packet, asker, mac)
}

/// Turns an ICMP echo request into its reply (RFC 792); the IPv4 header has no options.
#[inline(always)]
pub fn echo_v4<P: Packet>(packet: &mut P, at: usize) -> Result<(), TooShort> {
    let icmp = packet.bytes_mut::<4>(at + IPV4_HEADER).ok_or(TooShort)?;
    reply_type(icmp, 0);
    let header = packet.bytes_mut::<IPV4_HEADER>(at).ok_or(TooShort)?;
    let before = u16::from_ne_bytes([header[8], header[9]]);
    header[8] = HOPS;
    let after = u16::from_ne_bytes([header[8], header[9]]);
    let checksum = adjusted(u16::from_ne_bytes([header[10], header[11]]), before, after);
    let [s0, s1, s2, s3, d0, d1, d2, d3] =
        [header[12], header[13], header[14], header[15], header[16], header[17], header[18], header[19]];
    [header[10], header[11]] = checksum.to_ne_bytes();
    [header[12], header[13], header[14], header[15]] = [d0, d1, d2, d3];
    [header[16], header[17], header[18], header[19]] = [s0, s1, s2, s3];
    swap_macs(packet)
}

/// Turns an ICMPv6 echo request into its reply (RFC 4443, 4.2); the IPv6 header has no extensions.
#[inline(always)]
pub fn echo_v6<P: Packet>(packet: &mut P, at: usize) -> Result<(), TooShort> {
    let icmp = packet.bytes_mut::<4>(at + IPV6_HEADER).ok_or(TooShort)?;
    reply_type(icmp, 129);
    let source = *packet.bytes::<16>(at + 8).ok_or(TooShort)?;
    let destination = *packet.bytes::<16>(at + 24).ok_or(TooShort)?;
    *packet.bytes_mut::<16>(at + 8).ok_or(TooShort)? = destination;
    *packet.bytes_mut::<16>(at + 24).ok_or(TooShort)? = source;
    *packet.bytes_mut::<1>(at + 7).ok_or(TooShort)? = [HOPS];
    swap_macs(packet)
}

/// Turns a neighbor solicitation into the advertisement that `mac` has the address asked for (RFC 4861, 7.2.4).
///
/// To the asker, or to all nodes when it does not have its address yet (duplicate address detection). What
/// followed the solicitation's fixed part gives way to the one option of an advertisement.
///
/// # Errors
/// The frame is in several buffers, or has no room for its answer: it is as it was.
#[inline(always)]
pub fn advertise<P: Packet>(packet: &mut P, header: &IpHeader, asker: u64, mac: u64) -> Result<(), TooShort> {
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    let detects_duplicates = header.source == Address::default();
    let message = header.at + IPV6_HEADER;
    let length = message + ADVERTISEMENT;
    let whole = packet.len();
    if !packet.holds(whole) || (whole != length && !packet.resize(length)) {
        return Err(TooShort);
    }
    let fixed = packet.bytes_mut::<8>(header.at).ok_or(TooShort)?;
    [fixed[4], fixed[5]] = (ADVERTISEMENT as u16).to_be_bytes();
    fixed[7] = 255;
    // From place to place in the frame: nothing is held for long, and the kernel's stack is small.
    let asker_address = *packet.bytes::<16>(header.at + 8).ok_or(TooShort)?;
    let to = if detects_duplicates { ALL_NODES } else { asker_address };
    *packet.bytes_mut::<16>(header.at + 24).ok_or(TooShort)? = to;
    let target = *packet.bytes::<16>(message + 8).ok_or(TooShort)?;
    *packet.bytes_mut::<16>(header.at + 8).ok_or(TooShort)? = target;
    let flags = if detects_duplicates { OVERRIDE } else { SOLICITED | OVERRIDE };
    *packet.bytes_mut::<8>(message).ok_or(TooShort)? = [136, 0, 0, 0, flags, 0, 0, 0];
    let [a, b, c, d, e, f] = mac::bytes(mac);
    *packet.bytes_mut::<8>(message + 24).ok_or(TooShort)? = [2, 1, a, b, c, d, e, f];

    let covered = packet.bytes::<{ 32 + ADVERTISEMENT }>(header.at + 8).ok_or(TooShort)?;
    let sum = Sum::pseudo_header(ADVERTISEMENT).bytes(covered);
    *packet.bytes_mut::<2>(message + 2).ok_or(TooShort)? = (!sum.folded()).to_ne_bytes();
    let to_mac = if detects_duplicates { mac::word(ALL_NODES_MAC) } else { asker };
    macs(packet, to_mac, mac)
}

/// Sends a frame back where it came from.
#[inline(always)]
fn swap_macs<P: Packet>(packet: &mut P) -> Result<(), TooShort> {
    let header = packet.bytes_mut::<12>(0).ok_or(TooShort)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header;
    *header = [g, h, i, j, k, l, a, b, c, d, e, f];
    Ok(())
}

/// Changes the type of an ICMP message, and its checksum with it.
#[inline(always)]
const fn reply_type(icmp: &mut [u8; 4], reply: u8) {
    let [kind, code, c0, c1] = *icmp;
    let before = u16::from_ne_bytes([kind, code]);
    let after = u16::from_ne_bytes([reply, code]);
    let [c0, c1] = adjusted(u16::from_ne_bytes([c0, c1]), before, after).to_ne_bytes();
    *icmp = [reply, code, c0, c1];
}

/// A checksum after one of the words it covers changed (RFC 1624, equation 3).
///
/// Where that gives +0 the message may be nothing but zeros (an echo reply without data, identifier and sequence),
/// of which only −0 is the checksum; everywhere else both stand for the same.
#[inline(always)]
const fn adjusted(checksum: u16, before: u16, after: u16) -> u16 {
    let sum = !checksum as u32 + !before as u32 + after as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// A one's complement sum in the machine's byte order (RFC 1071, 2B: byte order does not matter).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds four bytes.
    #[inline(always)]
    pub(crate) const fn word(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds bytes, a multiple of four of them.
    #[inline(always)]
    pub(crate) fn bytes<const N: usize>(self, bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(4)) };
        let (words, _) = bytes.as_chunks::<4>();
        words.iter().fold(self, |sum, word| sum.word(u32::from_ne_bytes(*word)))
    }

    /// The sum of an ICMPv6 message's pseudo-header without its addresses (RFC 8200, 8.1).
    #[inline(always)]
    pub(crate) const fn pseudo_header(length: usize) -> Self {
        Self(0).word((length as u32).to_be()).word(u32::from_ne_bytes([0, 0, 0, ICMPV6]))
    }

    /// The sum as 16 bits.
    #[inline(always)]
    pub(crate) const fn folded(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checksum(bytes: &[u8]) -> u16 {
        let mut sum: u32 =
            bytes.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// Every identifier and sequence: the reply's checksum must satisfy a receiver who sums everything up.
    #[test]
    fn the_echo_reply_checksum_is_right_for_every_identifier() {
        for (request, reply) in [(8u8, 0u8), (128, 129)] {
            for identifier in 0..=u16::MAX {
                for rest in [[0, 0, 0, 0], [0, 1, 0xff, 0xff], [0xff, 0xff, 0xf7, 0xff]] {
                    let [i0, i1] = identifier.to_be_bytes();
                    let mut message = [request, 0, 0, 0, i0, i1, rest[0], rest[1], rest[2], rest[3]];
                    let [c0, c1] = checksum(&message).to_be_bytes();
                    (message[2], message[3]) = (c0, c1);
                    let mut head = [request, 0, c0, c1];
                    reply_type(&mut head, reply);
                    message[..4].copy_from_slice(&head);
                    assert_eq!(checksum(&message), 0, "identifier {identifier}, rest {rest:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn sums_fold_as_the_plain_one_does(bytes: [u8; 32], more: [u8; 8]) {
            let sum = Sum::default().bytes(&bytes).bytes(&more).folded();
            let all: Vec<u8> = bytes.into_iter().chain(more).collect();
            prop_assert_eq!((!sum).to_ne_bytes(), checksum(&all).to_be_bytes());
        }
    }
}
