//! What must hold of any row of frames in the kernel's program and in the pipeline on this host; the fuzz target and the replay
//! of its corpus share it.

use std::collections::{BTreeSet, HashMap};

use aya::EbpfLoader;
use pen_common::abi::{Counter, records, service_flags};
use pen_common::host::golden::FIRST_BUFFER;
use pen_common::host::sample::{self, INGRESS};
use pen_common::host::{Frame, HostTables, Lines, SplitFrame};
use pen_common::pipeline;
use pen_common::verdict::{Egress, Verdict};

use super::input::steps;
use super::kernel::{Kernel, pin_to_one_cpu};

/// Fewer bytes than an Ethernet header the kernel does not take for a frame (`bpf_prog_test_run_xdp`).
const SHORTEST: usize = 14;
/// Newcomers that are no flood yet.
const FEW: u32 = 4;
/// Entries of each tracking table: far more than the frames of an input make.
const TRACKED: u32 = 4096;

/// The sample's world, in the kernel and on this host.
pub(crate) struct Both {
    kernel: Kernel,
    host: HostTables,
    /// The CPU that the program runs on.
    cpu: usize,
    /// What the kernel must have counted so far, by record.
    counted: HashMap<u32, Counter>,
    /// The records that an input's frames were counted in.
    touched: BTreeSet<u32>,
}

impl Both {
    /// Both, before anything happened. Needs root.
    pub(crate) fn new() -> Self {
        // The kernel's clock cannot be set: both stand at second 0, and what is remembered gets older instead.
        let mut host = sample::tables().unwrap();
        host.directory.clock_multiplier = 0;
        // Token buckets fill by that clock, whatever the second: here nobody is limited.
        for entry in host.directory.halves.iter_mut().flat_map(|half| &mut half.entries) {
            entry.flags &= !(service_flags::LIMITS_PACKETS | service_flags::LIMITS_FLOWS);
        }
        sample::flood_from(&mut host, FEW);
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("track_v4", TRACKED).map_max_entries("track_v6", TRACKED);
        let mut kernel = Kernel::load(&mut loader);
        kernel.install(&host);
        let cpu = pin_to_one_cpu();
        Self { kernel, host, cpu, counted: HashMap::new(), touched: BTreeSet::new() }
    }

    /// Runs the frames of an input through both, one after the other.
    ///
    /// # Panics
    /// They do not come to the same actions, bytes, counts and memories.
    pub(crate) fn check(&mut self, input: &[u8]) {
        for step in steps(input).filter(|step| step.frame.len() >= SHORTEST) {
            self.grow_older(step.seconds);
            self.run(step.frame);
            if step.again {
                self.run(step.frame);
            }
        }
        self.counted_the_same();
        self.newcomers_the_same();
        self.remembered_the_same();
        self.forget();
    }

    fn run(&mut self, bytes: &[u8]) {
        let mut frame = SplitFrame { frame: Frame(bytes.to_vec()), first: bytes.len().min(FIRST_BUFFER) };
        let verdict = if frame.first == bytes.len() {
            self.host.run(&mut frame.frame, INGRESS)
        } else {
            pipeline::run(&mut frame, &self.host, INGRESS)
        };
        let (action, out) = self.kernel.run(bytes);
        assert_eq!(action, action_of(verdict), "{verdict:?}");
        assert_eq!(out, frame.frame.0, "{verdict:?}");
        let counted = self.counted.entry(verdict.counter()).or_default();
        counted.packets += 1;
        counted.bytes += bytes.len() as u64;
        self.touched.insert(verdict.counter());
    }

    /// The kernel counted what this host did in an input's records.
    fn counted_the_same(&mut self) {
        for record in std::mem::take(&mut self.touched) {
            assert_eq!(self.kernel.counter(record), self.counted[&record], "record {record}");
        }
    }

    /// Both counted the same newcomers, and noted the same ones.
    fn newcomers_the_same(&mut self) {
        let lines = self.host.inserts.as_ref().map(Lines::written).unwrap_or_default();
        for (line, words) in lines {
            assert_eq!(self.kernel.inserts(self.cpu, line), words, "newcomers, line {line}");
        }
    }

    /// The kernel inserted as many as this host, ever, and remembers each as this host does: so it remembers nothing else. To
    /// read its tables through, nearly empty as they are, would take longer than all the rest.
    fn remembered_the_same(&self) {
        let inserted =
            [records::INSERTED_V4, records::INSERTED_V6].map(|record| self.kernel.counter(record).packets);
        assert_eq!(inserted, self.host.inserted.get());
        for (key, value) in self.host.tracked.borrow().iter() {
            assert_eq!(self.kernel.remembered(key), Some(*value), "{key:?}");
        }
    }

    /// Has all memories been used so many seconds longer ago.
    fn grow_older(&mut self, seconds: u32) {
        if seconds == 0 {
            return;
        }
        for (key, value) in self.host.tracked.borrow_mut().iter_mut() {
            value.seen = value.seen.wrapping_sub(seconds);
            self.kernel.remember(key, *value);
        }
    }

    /// Puts both back in order.
    fn forget(&mut self) {
        self.kernel.forget(&self.host);
        self.host.tracked.get_mut().clear();
        self.host.taken.get_mut().clear();
        self.host.puzzles.get_mut().clear();
        self.host.fragments = Lines::default();
        self.host.inserts = Some(Lines::default());
    }
}

/// What a program returns for a verdict (linux/bpf.h, `enum xdp_action`).
fn action_of(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Dropped(_) => 1,
        Verdict::Passed(_) => 2,
        Verdict::Forwarded { egress: Egress::Same, .. } | Verdict::Answered(_) => 3,
        Verdict::Forwarded { egress: Egress::Other(_), .. } => 4,
    }
}
