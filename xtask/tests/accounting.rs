//! Every packet is counted once: of frames by chance, what went in, what the kernel's program did with it (its actions), and
//! what its counters say are the same numbers, exactly; and the pipeline on this host comes to the same, record by record.
//!
//! `PEN_ACCOUNT_FRAMES` says how many frames (`cargo xtask account`). Nothing is attached anywhere.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

#[path = "parity/kernel.rs"]
#[allow(dead_code, reason = "the parity test uses all of it")]
mod kernel;

use std::collections::BTreeMap;

use aya::EbpfLoader;
use kernel::Kernel;
use pen_common::abi::{COUNTER_BACKENDS, COUNTERS, Counter, records, service_flags};
use pen_common::host::random::Random;
use pen_common::host::sample::{self, INGRESS};
use pen_common::host::{Frame, HostTables};
use pen_common::verdict::{Kind, reasons};
use xtask::lab::needs;

/// Frames where nobody says how many.
const FRAMES: u64 = 200_000;
/// How many frames, by its name in the environment.
const HOW_MANY: &str = "PEN_ACCOUNT_FRAMES";

/// What the kernel does with a frame, by the number that a program returns (linux/bpf.h, `enum xdp_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Drop = 1,
    Pass = 2,
    Tx = 3,
    Redirect = 4,
}

impl Action {
    fn of(number: u32) -> Self {
        let all = [Self::Drop, Self::Pass, Self::Tx, Self::Redirect];
        all.into_iter().find(|action| *action as u32 == number).unwrap()
    }

    /// What becomes of the frames that count in a record.
    fn of_record(record: u32, tables: &HostTables) -> Self {
        if let Some(backend) = record.checked_sub(COUNTER_BACKENDS) {
            let same = tables.backends[backend as usize].ifindex == INGRESS;
            return if same { Self::Tx } else { Self::Redirect };
        }
        match reasons().find(|reason| reason.index == record).unwrap().kind {
            Kind::Answered => Self::Tx,
            Kind::Passed => Self::Pass,
            Kind::Dropped => Self::Drop,
        }
    }
}

/// Packets and bytes, by whatever.
type Counts<K> = BTreeMap<K, Counter>;

fn add<K: Ord>(counts: &mut Counts<K>, key: K, packets: u64, bytes: u64) {
    let counter = counts.entry(key).or_default();
    counter.packets += packets;
    counter.bytes += bytes;
}

fn sum<K>(counts: &Counts<K>) -> (u64, u64) {
    counts.values().fold((0, 0), |(packets, bytes), one| (packets + one.packets, bytes + one.bytes))
}

/// The records that tell verdicts, of those that anything counted in.
fn verdicts(kernel: &Kernel) -> Counts<u32> {
    let others = records::INSERTED_V4..=records::PUZZLES;
    let all = (0..COUNTERS).filter(|record| !others.contains(record));
    all.map(|record| (record, kernel.counter(record))).filter(|(_, counter)| counter.packets > 0).collect()
}

/// As many frames as were asked for.
fn how_many() -> u64 {
    std::env::var(HOW_MANY).map_or(FRAMES, |frames| frames.parse().unwrap())
}

#[test]
fn every_frame_is_counted_once_and_acted_upon_as_it_is_counted() {
    if !needs::met() {
        return;
    }
    // The kernel's clock cannot be set: both stand at second 0.
    let mut host = sample::tables().unwrap();
    host.directory.clock_multiplier = 0;
    // Token buckets fill by that clock, whatever the second: here nobody is limited.
    for entry in host.directory.halves.iter_mut().flat_map(|half| &mut half.entries) {
        entry.flags &= !(service_flags::LIMITS_PACKETS | service_flags::LIMITS_FLOWS);
    }
    let mut kernel = Kernel::load(&mut EbpfLoader::new());
    kernel.install(&host);
    let (mut random, frames) = (Random::new(5), how_many());
    let (mut sent, mut by_host, mut by_action) = (0, Counts::new(), Counts::new());
    for _ in 0..frames {
        let frame = random.frame();
        let bytes = frame.len() as u64;
        sent += bytes;
        let (action, _) = kernel.run(&frame);
        add(&mut by_action, Action::of(action), 1, bytes);
        let verdict = host.run(&mut Frame(frame), INGRESS);
        add(&mut by_host, verdict.counter(), 1, bytes);
    }

    let counted = verdicts(&kernel);
    assert_eq!(sum(&counted), (frames, sent), "what went in, and what the kernel's counters say");
    assert_eq!(counted, by_host, "the kernel's records, and the host's");
    let mut expected = Counts::new();
    for (record, counter) in &counted {
        add(&mut expected, Action::of_record(*record, &host), counter.packets, counter.bytes);
    }
    assert_eq!(by_action, expected, "what the program returned, and what it counted");
    report(frames, sent, &counted, &by_action);
}

/// The numbers, for whoever asks for them (`--nocapture`).
fn report(frames: u64, bytes: u64, counted: &Counts<u32>, by_action: &Counts<Action>) {
    println!("{frames} frames of {bytes} bytes in all, each counted once:");
    for reason in reasons() {
        let Counter { packets, .. } = counted.get(&reason.index).copied().unwrap_or_default();
        println!("  {:<10}{:<24}{packets:>12}", reason.kind.name(), reason.name);
    }
    let backends: Counts<u32> = counted.range(COUNTER_BACKENDS..).map(|(k, v)| (*k, *v)).collect();
    println!("  forwarded to {:<21}{:>12}", format!("{} backends", backends.len()), sum(&backends).0);
    for (action, Counter { packets, .. }) in by_action {
        println!("  XDP_{:<30}{packets:>12}", format!("{action:?}").to_uppercase());
    }
}
