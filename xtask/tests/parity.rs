//! Kernel and host agree: the same frames through the program (`BPF_PROG_TEST_RUN`) and through the pipeline on this
//! host, with the same tables, come to the same verdict, bytes and memory. Nothing is attached anywhere.
#![allow(clippy::unwrap_used, reason = "a test fails where what it needs is not there")]

mod parity {
    pub(crate) mod kernel;
}

use std::collections::BTreeMap;

use aya::EbpfLoader;
use parity::kernel::{Kernel, pin_to_one_cpu};
use pen_common::abi::{COUNTERS, Counter, Slot, Tracked, inserts, records};
use pen_common::host::frames::{self, Ethernet, kind};
use pen_common::host::golden::{self, FIRST_BUFFER};
use pen_common::host::random::Random;
use pen_common::host::sample::{self, INGRESS};
use pen_common::host::{Frame, HostTables, Lines, SplitFrame};
use pen_common::pipeline;
use pen_common::verdict::{Egress, Verdict, reasons};
use xtask::lab::needs;

const FRAMES: usize = 24_000;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// Both sides, and what the host side counted.
struct Both {
    kernel: Kernel,
    host: HostTables,
    counted: BTreeMap<u32, Counter>,
}

impl Both {
    fn new(kernel_tables: &HostTables, host: HostTables) -> Self {
        let mut kernel = Kernel::load(&mut EbpfLoader::new());
        kernel.install(kernel_tables);
        Self { kernel, host, counted: BTreeMap::new() }
    }

    /// The sample's world, without time: the kernel's clock cannot be set, so both stand at second 0.
    fn tables() -> HostTables {
        let mut tables = sample::tables().unwrap();
        tables.directory.clock_multiplier = 0;
        tables
    }

    /// Runs a frame through both; an error says what differs.
    fn run(&mut self, bytes: &[u8]) -> Result<Verdict, String> {
        // A test run puts no more into the first buffer than a page has room for.
        let first = bytes.len().min(FIRST_BUFFER);
        let mut split = SplitFrame { frame: Frame(bytes.to_vec()), first };
        let verdict = if first == bytes.len() {
            self.host.run(&mut split.frame, INGRESS)
        } else {
            pipeline::run(&mut split, &self.host, INGRESS)
        };
        let frame = split.frame;
        let counter = self.counted.entry(verdict.counter()).or_default();
        counter.packets += 1;
        counter.bytes += bytes.len() as u64;
        let expected = *counter;

        let (action, out) = self.kernel.run(bytes);
        let shown = &bytes[..bytes.len().min(200)];
        let differs = |what: &str| Err(format!("{what}\nhost: {verdict:?}\nframe: {shown:02x?}"));
        if action != action_of(verdict) {
            return differs(&format!("the kernel's action is {action}"));
        }
        if out != frame.0 {
            return differs(&format!(
                "the kernel makes of it: {out:02x?}\nthe host makes:        {:02x?}",
                frame.0
            ));
        }
        match self.kernel.counter(verdict.counter()) {
            counter if counter == expected => Ok(verdict),
            counter => differs(&format!("the kernel counts {counter:?} rather than {expected:?}")),
        }
    }

    /// What the two sides remember and have counted, in the end.
    fn assert_same_state(&mut self) {
        assert_eq!(self.kernel.taken(), self.host.taken.borrow().clone());
        assert_eq!(self.kernel.tracked(), self.host.tracked.borrow().clone());
        assert_eq!(self.kernel.fragments(), self.host.fragments.written());
        assert_eq!(self.kernel.refused(), self.host.refused.borrow().clone());
        let inserted =
            [records::INSERTED_V4, records::INSERTED_V6].map(|record| self.kernel.counter(record).packets);
        assert_eq!(inserted, self.host.inserted.get());
        for record in
            (0..COUNTERS).filter(|record| !(records::INSERTED_V4..=records::PUZZLES).contains(record))
        {
            let expected = self.counted.get(&record).copied().unwrap_or_default();
            assert_eq!(self.kernel.counter(record), expected, "record {record}");
        }
    }
}

fn action_of(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Forwarded { egress: Egress::Same, .. } | Verdict::Answered(_) => XDP_TX,
        Verdict::Forwarded { egress: Egress::Other(_), .. } => XDP_REDIRECT,
        Verdict::Passed(_) => XDP_PASS,
        Verdict::Dropped(_) => XDP_DROP,
    }
}

#[test]
fn kernel_and_host_agree_on_every_frame() {
    if !needs::met() {
        return;
    }
    // Who was refused last is noted by each CPU for itself.
    pin_to_one_cpu();
    let mut both = Both::new(&Both::tables(), Both::tables());
    let mut random = Random::new(1);
    for number in 0..FRAMES {
        // Some time passes, for the host's memories as for the kernel's.
        if number % 997 == 996 {
            forget_some(&mut both);
            fill_buckets(&mut both);
        }
        let frame = random.frame();
        if let Err(difference) = both.run(&frame) {
            panic!("frame {number}: {difference}");
        }
    }
    for case in golden::frames() {
        for frame in case.before.iter().chain([&case.frame]) {
            if let Err(difference) = both.run(frame) {
                panic!("{}: {difference}", case.name);
            }
        }
    }
    both.assert_same_state();

    let met = |index: u32| both.counted.contains_key(&index);
    let not_built_yet = ["too_big"];
    let missed: Vec<_> = reasons()
        .filter(|reason| !met(reason.index) && !not_built_yet.contains(&reason.name))
        .map(|reason| reason.name)
        .collect();
    assert!(missed.is_empty(), "no frame came to these verdicts: {missed:?}");
}

/// Makes some memories old, and some of another generation, on both sides.
fn forget_some(both: &mut Both) {
    let mut tracked = both.host.tracked.borrow_mut();
    for (number, (key, value)) in tracked.iter_mut().enumerate() {
        match number % 5 {
            0 => value.seen = 0u32.wrapping_sub(sample::TIMEOUT + 1),
            1 => value.seen = 0u32.wrapping_sub(sample::TIMEOUT),
            2 => *value = Tracked { generation: value.generation.wrapping_add(1), ..*value },
            _ => continue,
        }
        both.kernel.remember(key, *value);
    }
}

/// Fills all token buckets on both sides, long before the kernel's would be: its clock goes on, the host's does not.
fn fill_buckets(both: &mut Both) {
    for (table, lines) in &mut both.host.buckets {
        both.kernel.fill_buckets(*table, lines.written().into_keys());
        *lines = Lines::default();
    }
}

#[test]
fn golden_frames_come_to_what_they_should_in_the_kernel_too() {
    if !needs::met() {
        return;
    }
    let mut both = Both::new(&Both::tables(), Both::tables());
    for case in golden::frames() {
        for frame in &case.before {
            both.run(frame).unwrap();
        }
        let (verdict, _) = case.expected(&both.host);
        assert_eq!(both.run(&case.frame), Ok(verdict), "{}: {}", case.name, case.about);
    }
}

/// Kernel and host count turns alike, and newcomers get what their turn says: nobody else counts.
#[test]
fn newcomers_take_turns_and_nobody_else_does() {
    if !needs::met() {
        return;
    }
    let mut both = Both::new(&Both::tables(), Both::tables());
    let link = Ethernet { to: sample::OWN_MAC, from: sample::CLIENT_MAC, vlans: vec![] };
    let segment = |client: u8, bits: u8| {
        let mut segment = frames::tcp(40_000, sample::port::TURNS, b"");
        segment[13] = bits;
        let client = [192, 0, 2, client].into();
        link.frame(kind::IPV4, &frames::ipv4(client, sample::VIP4, 6, &[], 0, &segment))
    };
    let service = sample::service_index(false, sample::port::TURNS);
    let first = both.host.backends.iter().position(|backend| backend.service == service).unwrap() as u16;
    let mut turns = Vec::new();
    for client in 0..60 {
        // A flow from before: goes to its slot's owner, and takes nobody's turn.
        assert!(matches!(both.run(&segment(100 + client, 0x10)), Ok(Verdict::Forwarded { .. })));
        let verdict = both.run(&segment(client, 0x02)).unwrap();
        let Verdict::Forwarded { backend, .. } = verdict else { panic!("{verdict:?}") };
        turns.push(backend - first);
        assert_eq!(both.run(&segment(client, 0x02)).unwrap(), verdict, "the client is remembered");
    }
    assert_eq!(turns[..8], [0, 1, 2, 0, 0, 1, 2, 0]);
    assert_eq!(turns.iter().filter(|turn| **turn == 0).count(), 30);
    assert_eq!(both.kernel.taken(), BTreeMap::from([(service, 60)]));
    both.assert_same_state();
}

/// Kernel and host stop remembering at the same newcomer of a flood, and count alike.
#[test]
fn in_a_flood_both_stop_remembering_at_the_same_newcomer() {
    if !needs::met() {
        return;
    }
    const MOST: u32 = 50;
    let cpu = pin_to_one_cpu();
    let mut tables = Both::tables();
    sample::flood_from(&mut tables, MOST);
    let mut both = Both::new(&tables, tables.clone());
    let link = Ethernet { to: sample::OWN_MAC, from: sample::CLIENT_MAC, vlans: vec![] };
    for (number, port) in (0..).zip([sample::port::WEB, sample::port::DNS, sample::port::TURNS].repeat(40)) {
        let tcp = port != sample::port::DNS;
        let payload = if tcp { frames::tcp(number, port, b"") } else { frames::udp(number, port, b"") };
        let client = [192, 0, 2, number as u8].into();
        let packet = frames::ipv4(client, sample::VIP4, if tcp { 6 } else { 17 }, &[], 0, &payload);
        let frame = link.frame(kind::IPV4, &packet);
        assert!(matches!(both.run(&frame), Ok(Verdict::Forwarded { .. })), "newcomer {number}");
        let remembered = both.host.tracked.borrow().len() as u32;
        assert_eq!(remembered, MOST.min(u32::from(number) + 1), "newcomer {number}");
    }
    both.assert_same_state();
    let inserts = both.host.inserts.as_ref().unwrap();
    assert_eq!(both.kernel.inserts(cpu, 0), inserts.line(0).words());
    assert_eq!(both.kernel.inserts(cpu, 1), inserts.line(1).words());
    assert_eq!(inserts.line(0).words()[inserts::SUPPRESSED as usize], 120 - u64::from(MOST));
}

#[test]
fn a_wrong_slot_does_not_go_unnoticed() {
    if !needs::met() {
        return;
    }
    let mut broken = Both::tables();
    for slot in broken.slots.get_mut(&(sample::service_index(false, 80), 0)).unwrap().iter_mut() {
        *slot = Slot { owner: slot.owner ^ 1, ..*slot };
    }
    let mut both = Both::new(&broken, Both::tables());
    let mut random = Random::new(1);
    let caught = (0..1000).any(|_| both.run(&random.frame()).is_err());
    assert!(caught, "another backend in the kernel's table made no difference");
}

#[test]
fn what_is_rare_and_puzzling_is_logged_but_a_flood_of_it_is_not() {
    if !needs::met() {
        return;
    }
    let mut both = Both::new(&Both::tables(), Both::tables());
    let link = Ethernet { to: sample::OWN_MAC, from: sample::CLIENT_MAC, vlans: vec![] };
    let client = "192.0.2.1".parse().unwrap();
    for port in [sample::port::WEB, sample::port::RETIRED] {
        let mut segment = frames::tcp(40_000, port, b"");
        // To the first a header length that lies; the other's slots name a retired index.
        segment[12] = if port == sample::port::WEB { 0xf0 } else { 0x50 };
        let frame = link.frame(kind::IPV4, &frames::ipv4(client, sample::VIP4, 6, &[], 0, &segment));
        assert_eq!(both.kernel.logged(), 0, "an empty log to start with");
        for _ in 0..200 {
            both.run(&frame).unwrap();
        }
        let logged = both.kernel.logged();
        let cpus = aya::util::nr_cpus().unwrap();
        assert!((1..=8 * cpus).contains(&logged), "{logged} messages for 200 frames on {cpus} CPUs");
    }
}
