//! Where the benchmark runs: a network namespace, pins of its own, the real data plane, and the harness.

mod seat;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use pen_common::bench::{Plan, RESTORED};
use pen_ctl::dataplane::xdp::XdpPlane;
use pen_ctl::dataplane::{DataPlane as _, Operation};
use rustix::thread::CapabilitySet;

use super::cases::{self, CLIENT_V4, Case, MANY, Program};
use super::cpu::pin;
use super::{BenchError, rights};
use crate::lab::{self, Lab};
pub(super) use seat::Seat;
use seat::Taken;
pub(super) use wire::{Sent, Wire};

/// The floor programs and the harness.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../pen-ebpf/prebuilt/pen-bench.o"));
const BACKENDS: u8 = 4;

/// [`Plan`] in words, as aya takes it.
type PlanWords = [u64; size_of::<Plan>() / 8];
/// `pen_common::bench::FloorKey` in words.
type FloorKeyWords = [u32; 4];

/// All that the benchmark works with; dropping it removes everything it made.
pub(super) struct Bed {
    bench: Ebpf,
    programs: BTreeMap<Program, ProgramFd>,
    contexts: BTreeMap<Program, Vec<u8>>,
    plan: Array<MapData, PlanWords>,
    target: ProgramArray<MapData>,
    our_mac: [u8; 6],
    refused: BTreeMap<Program, BenchError>,
    // Dropped in this order.
    planes: Vec<XdpPlane>,
    lab: Lab,
}

impl Bed {
    /// Makes it with one copy of the balancer's program, and moves the calling thread into its namespace and onto
    /// `cpu`.
    pub(super) fn make(cpu: usize) -> Result<Self, BenchError> {
        Self::with_seats(cpu, &[Seat::PLAIN])
    }

    /// The same with these copies of the balancer's program.
    pub(super) fn with_seats(cpu: usize, seats: &[Seat]) -> Result<Self, BenchError> {
        pin(cpu)?;
        let lab = Lab::build(&lab::Plan { prefix: "pen-bench", balancers: 1, backends: 0, clients: 1 })?;
        let pins = lab.mount_bpffs("bpffs")?;
        let balancer = lab.balancers.first().ok_or_else(|| missing("the balancer"))?;
        let our_mac = balancer.mac;
        balancer.namespace.enter();

        let mut bench = Ebpf::load(OBJECT).map_err(BenchError::of("load the floor programs"))?;
        let mut programs = BTreeMap::new();
        for (program, name) in [(Program::F0, "f0"), (Program::F1, "f1"), (Program::F2, "f2")] {
            programs.insert(program, load(&mut bench, name)?);
        }
        load(&mut bench, "harness")?;
        fill_floor(&mut bench)?;
        let mut bed = Self {
            programs,
            contexts: BTreeMap::new(),
            plan: Array::try_from(take(&mut bench, "bench_plan")?)
                .map_err(BenchError::of("map bench_plan"))?,
            target: ProgramArray::try_from(take(&mut bench, "bench_target")?)
                .map_err(BenchError::of("map bench_target"))?,
            our_mac,
            refused: BTreeMap::new(),
            bench,
            planes: Vec::new(),
            lab,
        };
        for (number, seat) in seats.iter().enumerate() {
            bed.seat(seat, &pins.join(format!("pen{number}")))?;
        }
        Ok(bed)
    }

    /// Gives the balancer's program a seat, or notes that the kernel refuses it there.
    fn seat(&mut self, seat: &Seat, pins: &Path) -> Result<(), BenchError> {
        let balancer = self.lab.balancers.first().ok_or_else(|| missing("the balancer"))?;
        match Taken::take(seat, &self.lab, balancer, pins) {
            Ok(taken) => {
                self.programs.insert(seat.program, taken.program);
                self.contexts.insert(seat.program, context(taken.ifindex));
                self.planes.push(taken.plane);
            }
            Err(refused @ BenchError::NoPrivilege { .. }) if seat.may_be_refused => {
                self.refused.insert(seat.program, refused);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Loads a floor once more, on a thread that has these capabilities alone.
    pub(super) fn add_floor(
        &mut self,
        program: Program,
        name: &str,
        kept: CapabilitySet,
    ) -> Result<(), BenchError> {
        let floor = rights::with(kept, || {
            let mut bench = Ebpf::load(OBJECT).map_err(BenchError::of("load the floor programs"))?;
            // Filling takes the maps out of the object: a program holds its own once it is loaded.
            let floor = load(&mut bench, name)?;
            fill_floor(&mut bench)?;
            Ok(floor)
        })?;
        self.programs.insert(program, floor);
        Ok(())
    }

    /// Why the kernel refused a program, where it did.
    pub(super) fn refusal(&self, program: Program) -> Option<&BenchError> {
        self.refused.get(&program)
    }

    /// MAC that frames for the balancer carry.
    pub(super) fn our_mac(&self) -> [u8; 6] {
        self.our_mac
    }

    /// Says what a flood is: more newcomers a second than this on a CPU; 0 = nothing is.
    pub(super) fn set_flood(&mut self, per_cpu: u32) -> Result<(), BenchError> {
        let set = |plane: &mut XdpPlane| plane.apply(&Operation::SetFlood(per_cpu));
        self.planes.iter_mut().try_for_each(set).map_err(BenchError::of("say what a flood is"))
    }

    /// Makes the harness call a row's program.
    pub(super) fn aim(&mut self, case: &Case) -> Result<(), BenchError> {
        let program = self.programs.get(&case.program).ok_or_else(|| missing(case.name))?;
        self.target.set(0, program, 0).map_err(BenchError::of("aim the harness"))
    }

    /// Makes the harness prepare a row's frames, from one client to the next by `stride`.
    pub(super) fn plan(&mut self, case: &Case, stride: u32) -> Result<(), BenchError> {
        let word = |at: usize| {
            case.frame[at..at + 4].iter().rev().fold(0_u32, |word, &byte| word << 8 | u32::from(byte))
        };
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let made = match case.clients {
            0 => self.plan.get(&0, 0).map_err(BenchError::of("read the plan"))?[RESTORED / 8 + 2],
            _ => 0,
        };
        let mut words: PlanWords = [0; size_of::<PlanWords>() / 8];
        for (at, slot) in words[..RESTORED / 8].iter_mut().enumerate() {
            *slot = pair(word(8 * at), word(8 * at + 4));
        }
        words[RESTORED / 8] = pair(word(case.client_at as usize), case.client_at);
        words[RESTORED / 8 + 1] = pair(case.clients.wrapping_sub(1), stride);
        words[RESTORED / 8 + 2] = made;
        self.plan.set(0, words, 0).map_err(BenchError::of("write the plan"))
    }

    /// Sends so many frames of a row; gives the time of one.
    pub(super) fn shoot(&mut self, case: &Case, packets: u32) -> Result<Duration, BenchError> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&case.frame);
        // The floors do not care where a frame comes in.
        let context = self.contexts.get(&case.program).or_else(|| self.contexts.values().next());
        options.ctx_in = context.map(Vec::as_slice);
        options.repeat = packets;
        let harness = program(&mut self.bench, "harness")?;
        let result = harness.test_run(options).map_err(BenchError::of(&format!("run row {}", case.name)))?;
        if result.return_value != case.action {
            let (got, want) = (result.return_value, case.action);
            return Err(BenchError::WrongPath { row: case.name.to_owned(), got, want });
        }
        Ok(result.duration)
    }
}

/// `struct xdp_md` (linux/bpf.h) of frames that come in by this interface.
fn context(ifindex: u32) -> Vec<u8> {
    let [data, data_end, data_meta] = [0, super::frames::LENGTH as u32, 0];
    let [rx_queue, egress] = [0, 0];
    [data, data_end, data_meta, ifindex, rx_queue, egress]
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect()
}

/// F2's table: every client of the `_131k` rows, in order.
fn fill_floor(bench: &mut Ebpf) -> Result<(), BenchError> {
    let IpAddr::V4(vip) = cases::TRACKED[0] else { return Ok(()) };
    let wire = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    let ports = u32::from(40_000_u16.to_be()) | u32::from(80_u16.to_be()) << 16;
    let mut flows: HashMap<_, FloorKeyWords, u32> =
        HashMap::try_from(take(bench, "floor_flows")?).map_err(BenchError::of("map floor_flows"))?;
    for client in 0..MANY {
        let key = [wire(CLIENT_V4) ^ client.to_be(), wire(vip), ports, 6];
        flows.insert(key, client % u32::from(BACKENDS), 0).map_err(BenchError::of("fill floor_flows"))?;
    }
    let mut macs: Array<_, u64> =
        Array::try_from(take(bench, "floor_macs")?).map_err(BenchError::of("map floor_macs"))?;
    for number in 0..u32::from(BACKENDS) {
        macs.set(number, 0x0100_0000_0002 | u64::from(number) << 40, 0)
            .map_err(BenchError::of("fill floor_macs"))?;
    }
    Ok(())
}

fn take(bench: &mut Ebpf, name: &str) -> Result<Map, BenchError> {
    bench.take_map(name).ok_or_else(|| missing(name))
}

/// Loads one of the object's programs.
fn load(bench: &mut Ebpf, name: &str) -> Result<ProgramFd, BenchError> {
    let program = program(bench, name)?;
    program.load().map_err(BenchError::of(&format!("load {name}")))?;
    let fd = program.fd().map_err(BenchError::of(name))?;
    fd.try_clone().map_err(BenchError::of(name))
}

fn program<'a>(bench: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, BenchError> {
    let program = bench.program_mut(name).ok_or_else(|| missing(name))?;
    program.try_into().map_err(BenchError::of(name))
}

fn missing(name: &str) -> BenchError {
    BenchError::Failed { what: name.to_owned(), why: "it is missing from the benchmark".to_owned() }
}
