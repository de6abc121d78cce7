//! What must hold of any row of frames in the sample's world; the fuzz target and the replay of its corpus share it.

use std::collections::{BTreeMap, BTreeSet};

use pen_common::abi::{Address, entry_kind, vip_flags};
use pen_common::host::golden::FIRST_BUFFER;
use pen_common::host::sample::{self, INGRESS};
use pen_common::host::{Frame, HostTables, Lines, SplitFrame};
use pen_common::mac;
use pen_common::packet::Packet;
use pen_common::pipeline;
use pen_common::plain::{self, Plain};
use pen_common::verdict::{Answer, Drop, Egress, Verdict};

use super::input::{Step, steps};

/// Newcomers of a second that are no flood yet.
const FEW: u32 = 4;

/// The sample's world, twice: in one of them everybody goes the long way.
pub(crate) struct World {
    short: HostTables,
    long: HostTables,
    /// Jiffies at which both begin.
    start: u64,
    /// VIPs, and whether pen answers for them.
    vips: BTreeMap<Address, bool>,
    /// The VIP of each service.
    services: BTreeMap<u16, Address>,
    /// MACs of attached interfaces, as words.
    ours: BTreeSet<u64>,
}

/// A frame whose bytes can be looked at, whatever it is made of.
trait Bytes: Packet + Clone {
    fn all(&self) -> &[u8];
}

impl Bytes for Frame {
    fn all(&self) -> &[u8] {
        &self.0
    }
}

impl Bytes for SplitFrame {
    fn all(&self) -> &[u8] {
        &self.frame.0
    }
}

impl World {
    /// The world before anything happened.
    pub(crate) fn new() -> Self {
        let mut tables = sample::tables().expect("the sample's services fit");
        sample::flood_from(&mut tables, FEW);
        let half = &tables.directory.halves[tables.directory.active as usize & 1];
        let of_kind = |kind| half.entries.iter().filter(move |entry| entry.kind == kind);
        let vips = of_kind(entry_kind::VIP).map(|vip| (vip.address, vip.flags & vip_flags::ANNOUNCE != 0));
        let services = of_kind(entry_kind::SERVICE).map(|entry| (entry.service, entry.address));
        let attached = half.interfaces.iter().filter(|interface| interface.ifindex != 0);
        let ours = attached.flat_map(|interface| [interface.word, interface.master_mac]);
        Self {
            start: tables.jiffies.get(),
            vips: vips.collect(),
            services: services.collect(),
            ours: ours.map(|word| word & pen_common::abi::MAC_MASK).collect(),
            long: tables.clone(),
            short: tables,
        }
    }

    /// Sends the frames of an input, one after the other.
    ///
    /// # Panics
    /// A frame is changed that may not be, or otherwise than it may; both ways do not agree; or a flow moves on its own.
    pub(crate) fn check(&mut self, input: &[u8]) {
        for tables in [&mut self.short, &mut self.long] {
            forget(tables, self.start);
        }
        for step in steps(input) {
            for tables in [&self.short, &self.long] {
                tables.pass_seconds(step.seconds.into());
            }
            let Step { first, again, frame, .. } = step;
            let first = first.or((frame.len() > FIRST_BUFFER).then_some(FIRST_BUFFER));
            match first {
                Some(first) => self.send(&SplitFrame { frame: Frame(frame.to_vec()), first }, again),
                None => self.send(&Frame(frame.to_vec()), again),
            }
        }
        assert_eq!(self.short.fragments.written(), self.long.fragments.written());
        let newcomers = |tables: &HostTables| tables.inserts.as_ref().map(Lines::written);
        assert_eq!(newcomers(&self.short), newcomers(&self.long));
        let tokens = |tables: &HostTables| tables.buckets.values().map(Lines::written).collect::<Vec<_>>();
        assert_eq!(tokens(&self.short), tokens(&self.long));
    }

    /// A frame, and the same once more: whoever was given a backend keeps it.
    fn send<P: Bytes>(&self, frame: &P, again: bool) {
        let verdict = self.send_once(frame);
        if again && let Verdict::Forwarded { .. } = verdict {
            let second = self.send_once(frame);
            let same = second == verdict || second == Verdict::Dropped(Drop::RateLimited);
            assert!(same, "{verdict:?}, then {second:?}");
        }
    }

    /// By both ways, which must agree on everything.
    fn send_once<P: Bytes>(&self, frame: &P) -> Verdict {
        let mut by_long = frame.clone();
        let mut by_short = frame.clone();
        let verdict = match plain::run(&mut by_short, &self.short, INGRESS) {
            Some(plain) => verdict_of(plain),
            None => {
                assert_eq!(by_short.all(), frame.all(), "changed and not decided");
                self.assert_same();
                pipeline::general(&mut by_short, &self.short, INGRESS)
            }
        };
        assert_eq!(pipeline::general(&mut by_long, &self.long, INGRESS), verdict);
        assert_eq!(by_long.all(), by_short.all(), "{verdict:?}");
        self.assert_same();
        self.judge(frame.all(), by_short.all(), verdict);
        verdict
    }

    /// Both worlds remember and counted the same.
    fn assert_same(&self) {
        let (short, long) = (&self.short, &self.long);
        assert_eq!(short.tracked, long.tracked);
        assert_eq!(short.taken, long.taken);
        assert_eq!(short.inserted, long.inserted);
        assert_eq!(short.refused, long.refused);
        assert_eq!(short.puzzles, long.puzzles);
    }

    /// What a verdict says of the bytes that went in and came out.
    fn judge(&self, before: &[u8], after: &[u8], verdict: Verdict) {
        match verdict {
            Verdict::Passed(_) | Verdict::Dropped(_) => assert_eq!(before, after, "{verdict:?}"),
            Verdict::Forwarded { backend, egress } => {
                assert_eq!(before[12..], after[12..], "{verdict:?}");
                let backend = &self.short.backends[usize::from(backend)];
                let vip = destination(before).expect("only IP is forwarded");
                assert_eq!(self.services.get(&backend.service), Some(&vip), "{verdict:?}");
                assert_eq!(mac_at(after, 0), backend.mac(), "{verdict:?}");
                assert!(self.ours.contains(&mac_at(before, 0)) && self.ours.contains(&mac_at(after, 6)));
                let way =
                    if backend.ifindex == INGRESS { Egress::Same } else { Egress::Other(backend.ifindex) };
                assert_eq!(egress, way);
            }
            Verdict::Answered(answer) => {
                let Asked { vip, back } = asked(before, answer).expect("what is asked is there");
                let announced = self.vips.get(&vip).copied();
                let may = announced == Some(true) || announced.is_some() && answer == Answer::IcmpEcho;
                assert!(may, "{verdict:?} for {vip:?}");
                assert!(self.ours.contains(&mac_at(after, 6)), "{verdict:?}");
                assert_eq!(mac_at(after, 0), back, "{verdict:?}");
            }
        }
    }
}

fn verdict_of(plain: Plain) -> Verdict {
    match plain {
        Plain::Forwarded(backend) => Verdict::Forwarded { backend, egress: Egress::Same },
        Plain::Stranger => Verdict::Passed(pen_common::verdict::Pass::NoService),
        Plain::Refused(why) => Verdict::Dropped(why),
    }
}

/// Makes undone what frames did to a world.
fn forget(tables: &mut HostTables, start: u64) {
    tables.jiffies.set(start);
    tables.inserted.set([0; 2]);
    tables.tracked.get_mut().clear();
    tables.taken.get_mut().clear();
    tables.refused.get_mut().clear();
    tables.puzzles.get_mut().clear();
    tables.fragments = Lines::default();
    tables.buckets.values_mut().for_each(|lines| *lines = Lines::default());
    tables.inserts = tables.inserts.take().map(|_| Lines::default());
}

fn mac_at(frame: &[u8], at: usize) -> u64 {
    mac::word(frame[at..].first_chunk().copied().expect("a MAC"))
}

/// Where a frame's network layer begins, behind at most two tags, and its EtherType.
fn network(frame: &[u8]) -> Option<(u16, &[u8])> {
    let mut rest = frame.get(12..)?;
    for _ in 0..3 {
        let (kind, behind) = rest.split_first_chunk::<2>()?;
        match u16::from_be_bytes(*kind) {
            0x8100 | 0x88a8 => rest = behind.get(2..)?,
            kind => return Some((kind, behind)),
        }
    }
    None
}

fn v4_at(bytes: &[u8], at: usize) -> Option<Address> {
    bytes.get(at..)?.first_chunk().map(|octets| Address::v4(u32::from_ne_bytes(*octets)))
}

fn v6_at(bytes: &[u8], at: usize) -> Option<Address> {
    bytes.get(at..)?.first_chunk().map(|octets: &[u8; 16]| Address::from(*octets))
}

/// Whom an IP packet is for.
fn destination(frame: &[u8]) -> Option<Address> {
    match network(frame)? {
        (0x0800, packet) => v4_at(packet, 16),
        (0x86dd, packet) => v6_at(packet, 24),
        _ => None,
    }
}

/// A question.
struct Asked {
    /// The address that the answer speaks for.
    vip: Address,
    /// The MAC that the answer goes to.
    back: u64,
}

/// What a frame asks that was answered in this way.
fn asked(frame: &[u8], answer: Answer) -> Option<Asked> {
    const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    let sender = mac_at(frame, 6);
    Some(match (answer, network(frame)?) {
        (Answer::Arp, (0x0806, packet)) => Asked { vip: v4_at(packet, 24)?, back: mac_at(packet, 8) },
        (Answer::Ndp, (0x86dd, packet)) => {
            // Who has no address yet is told with everybody else (RFC 4861, 7.2.4).
            let nobody = v6_at(packet, 8)? == Address::default();
            Asked { vip: v6_at(packet, 40 + 8)?, back: if nobody { mac::word(ALL_NODES) } else { sender } }
        }
        (Answer::IcmpEcho, _) => Asked { vip: destination(frame)?, back: sender },
        _ => return None,
    })
}
