//! What is decided about a plain packet is what the long way decides about it, to the last byte and memory.

use std::collections::{BTreeMap, HashMap};

use crate::abi::{Refused, Slot, Tracked, inserts};
use crate::host::random::Random;
use crate::host::sample::{self, INGRESS};
use crate::host::{Frame, HostKey, HostTables, Lines, SplitFrame};
use crate::packet::Packet;
use crate::pipeline;
use crate::tables::{Line, Tables, WORDS};
use crate::verdict::{Drop, Egress, Pass, Verdict};

use super::Plain;

const FRAMES: usize = 20_000;

fn verdict(plain: Plain) -> Verdict {
    match plain {
        Plain::Forwarded(backend) => Verdict::Forwarded { backend, egress: Egress::Same },
        Plain::Stranger => Verdict::Passed(Pass::NoService),
        Plain::Refused(why) => Verdict::Dropped(why),
    }
}

/// All that packets write.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    tracked: HashMap<HostKey, Tracked>,
    taken: BTreeMap<u16, u64>,
    inserted: [u64; 2],
    fragments: LinesWritten,
    buckets: BTreeMap<u32, LinesWritten>,
    inserts: Option<LinesWritten>,
    refused: BTreeMap<u32, Refused>,
}

type Words = [u64; WORDS as usize];
type LinesWritten = BTreeMap<u32, Words>;

impl Written {
    fn of(tables: &HostTables) -> Self {
        Self {
            tracked: tables.tracked.borrow().clone(),
            taken: tables.taken.borrow().clone(),
            inserted: tables.inserted.get(),
            fragments: tables.fragments.written(),
            buckets: tables.buckets.iter().map(|(table, lines)| (*table, lines.written())).collect(),
            inserts: tables.inserts.as_ref().map(Lines::written),
            refused: tables.refused.borrow().clone(),
        }
    }

    /// Writes it into tables in which nothing else was written since but by one short way: that adds lines to no table
    /// but those of buckets and inserts.
    fn restore(&self, tables: &HostTables) {
        tables.tracked.replace(self.tracked.clone());
        tables.refused.replace(self.refused.clone());
        for (table, lines) in &tables.buckets {
            restore(lines, &self.buckets[table]);
        }
        if let (Some(lines), Some(before)) = (&tables.inserts, &self.inserts) {
            restore(lines, before);
        }
    }
}

/// Has lines be what they were before.
fn restore(lines: &Lines, before: &LinesWritten) {
    for (number, now) in lines.written() {
        let before = before.get(&number).copied().unwrap_or_default();
        for index in (0..WORDS).filter(|&index| now[index as usize] != before[index as usize]) {
            lines.line(number).set_word(index, before[index as usize]);
        }
    }
}

/// What both ways say of a frame, each from the same memory; `None` where only the long one knows.
fn both<P: Packet + Clone + PartialEq + std::fmt::Debug>(tables: &HostTables, frame: &P) -> Option<Verdict> {
    let before = Written::of(tables);
    tables.puzzles.borrow_mut().clear();
    let mut by_short = frame.clone();
    let said = super::run(&mut by_short, tables, INGRESS);
    assert!(tables.puzzles.borrow().is_empty(), "puzzled");
    let after = Written::of(tables);
    let Some(said) = said else {
        assert_eq!(by_short, *frame, "changed and not decided");
        assert_eq!(after, before, "{frame:?}: written and not decided");
        return None;
    };
    before.restore(tables);
    assert_eq!(Written::of(tables), before, "not as before");
    let mut by_long = frame.clone();
    let expected = pipeline::general(&mut by_long, tables, INGRESS);
    assert_eq!((verdict(said), &by_short), (expected, &by_long), "{frame:?}");
    assert_eq!(Written::of(tables), after, "{frame:?}");
    assert!(tables.puzzles.borrow().is_empty(), "puzzled, and decided the short way");
    Some(expected)
}

#[test]
fn plain_packets_come_to_what_the_long_way_says_and_most_are_plain() {
    let tables = sample::tables().unwrap();
    let mut random = Random::new(7);
    let (mut forwarded, mut strangers, mut denied, mut limited) = (0, 0, 0, 0);
    for _ in 0..FRAMES {
        let frame = Frame(random.frame());
        match both(&tables, &frame) {
            Some(Verdict::Forwarded { .. }) => forwarded += 1,
            Some(Verdict::Dropped(Drop::Denied)) => denied += 1,
            Some(Verdict::Dropped(Drop::RateLimited)) => limited += 1,
            Some(_) => strangers += 1,
            // Whoever is remembered by the long way is plain when he comes again.
            None => drop(tables.run(&mut frame.clone(), INGRESS)),
        }
        if random.once_in(1_000) {
            tables.pass_seconds(100);
        }
        if random.once_in(2_000) {
            tables.tracked.borrow_mut().clear();
        }
    }
    assert!(denied > 20 && limited > 3, "denied {denied}, limited {limited}");
    assert!(forwarded > FRAMES / 100, "only {forwarded}");
    assert!(strangers > FRAMES / 100, "only {strangers}");
}

#[test]
fn newcomers_in_a_flood_are_plain_and_come_to_what_the_long_way_says() {
    let mut tables = sample::tables().unwrap();
    let mut random = Random::new(10);
    let all_backends = tables.backends.len();
    // Slots in all phases, some of whose owners are anybody.
    for slot in tables.slots.values_mut().flat_map(|slots| slots.iter_mut().step_by(3)) {
        let owner = random.below(all_backends) as u16;
        let open = slot.given_to(owner, 0, sample::TRANSITION);
        let closing = open.at(2 * sample::TRANSITION, None, sample::TRANSITION);
        *slot = random.pick(&[open, closing, Slot::owned_by(owner)]);
    }
    let (mut newcomers, mut others) = (0, 0);
    for frame in 0..FRAMES {
        if frame % 500 == 0 {
            tables.inserts = Some(Lines::default());
            tables.tracked.borrow_mut().clear();
            tables.directory.flood_in_all = random.pick(&[2, 6, u32::MAX]);
        }
        if random.once_in(50) {
            // In a flood it may be decided that there are none.
            tables.directory.flood_per_cpu = random.pick(&[0, 1, 2, 4]);
        }
        if random.once_in(100) {
            tables.pass_seconds(1);
        }
        let suppressed = |tables: &HostTables| tables.own_inserts().unwrap().word(inserts::SUPPRESSED);
        let before = suppressed(&tables);
        let frame = Frame(random.frame());
        let decided = both(&tables, &frame);
        if decided.is_none() {
            tables.run(&mut frame.clone(), INGRESS);
        }
        match (suppressed(&tables) - before, decided) {
            (0, _) => {}
            (_, Some(_)) => newcomers += 1,
            // Behind options, to a service for every port, to a backend elsewhere, with a limit of flows …
            (_, None) => others += 1,
        }
    }
    assert!(newcomers > FRAMES / 50 && others > 0, "plain {newcomers}, not {others}");
}

#[test]
fn what_is_not_in_the_first_buffer_is_left_to_the_long_way() {
    let tables = sample::tables().unwrap();
    let mut random = Random::new(8);
    let mut decided = 0;
    for _ in 0..FRAMES / 4 {
        let frame = Frame(random.frame());
        let first = random.below(frame.0.len() + 1);
        decided += usize::from(both(&tables, &SplitFrame { frame, first }).is_some());
    }
    assert!(decided > 0);
}

#[test]
fn of_a_filter_that_says_nothing_nothing_is_believed() {
    let mut tables = sample::tables().unwrap();
    let mut random = Random::new(9);
    let frames: Vec<Frame> = (0..2_000).map(|_| Frame(random.frame())).collect();
    let with: Vec<_> = frames.iter().map(|frame| both(&tables, frame)).collect();
    for half in &mut tables.directory.halves {
        (half.no_vip, half.no_backend) = ([0; 4], [0; 2]);
    }
    let without: Vec<_> = frames.iter().map(|frame| both(&tables, frame)).collect();
    assert_eq!(with, without);
}
