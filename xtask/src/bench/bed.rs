//! Where the benchmark runs: a network namespace, pins of its own, the real data plane, and the harness.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, ProgramArray};
use aya::programs::{ProgramFd, ProgramInfo, TestRun as _, TestRunOptions, Xdp};
use pen_common::bench::{Plan, RESTORED};
use pen_ctl::dataplane::xdp::{OpenOptions, Policy, XdpPlane};
use pen_ctl::dataplane::{
    Affinity, AttachMode, BackendAddress, BackendPath, BackendTarget, DataPlane as _, HealthStatus,
    InterfaceTarget, Mac, Member, OnEmpty, Operation, Protocol, Scheduler, ServiceKey, ServiceSettings,
    Tracking,
};
use rustix::net::netdevice::name_to_index;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::BenchError;
use super::cases::{self, CLIENT_V4, Case, MANY, Program};
use crate::lab::{self, Lab};

/// The floor programs and the harness.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../pen-ebpf/prebuilt/pen-bench.o"));
const BACKENDS: u8 = 4;
const INTERFACE: &str = "eth0";

/// [`Plan`] in words, as aya takes it.
type PlanWords = [u64; size_of::<Plan>() / 8];
/// `pen_common::bench::FloorKey` in words.
type FloorKeyWords = [u32; 4];

/// All that the benchmark works with; dropping it removes everything it made.
pub(super) struct Bed {
    bench: Ebpf,
    programs: BTreeMap<Program, ProgramFd>,
    plan: Array<MapData, PlanWords>,
    target: ProgramArray<MapData>,
    context: Vec<u8>,
    our_mac: Mac,
    // Kept for what they hold, dropped in this order.
    _plane: XdpPlane,
    _lab: Lab,
}

impl Bed {
    /// Makes it, and moves the calling thread into its namespace and onto `cpu`.
    pub(super) fn make(cpu: usize) -> Result<Self, BenchError> {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus).map_err(BenchError::of(&format!("pin to CPU {cpu}")))?;

        let lab = Lab::build(&lab::Plan { prefix: "pen-bench", balancers: 1, backends: 0, clients: 1 })?;
        let pins = lab.mount_bpffs("bpffs")?.join("pen");
        let balancer = lab.balancers.first().ok_or_else(|| missing("the balancer"))?;
        balancer.namespace.enter();
        let our_mac = Mac(balancer.mac);
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(BenchError::of("open a socket"))?;
        let ifindex = name_to_index(&socket, INTERFACE).map_err(BenchError::of(INTERFACE))?;

        let mut plane = XdpPlane::open(&OpenOptions {
            dir: pins.clone(),
            instance: [0xbe; 16],
            tracking_clients: cases::TRACKED_CLIENTS,
            policy: Policy::Adopt,
        })
        .map_err(BenchError::of("open the data plane"))?;
        for operation in furnish(ifindex, our_mac) {
            plane.apply(&operation).map_err(BenchError::of("furnish the data plane"))?;
        }

        let mut bench = Ebpf::load(OBJECT).map_err(BenchError::of("load the floor programs"))?;
        let mut programs = BTreeMap::new();
        for (program, name) in [(Program::F0, "f0"), (Program::F1, "f1"), (Program::F2, "f2")] {
            programs.insert(program, load(&mut bench, name)?);
        }
        let pen = pins.join("progs/xdp");
        let pen = ProgramInfo::from_pin(&pen)
            .and_then(|info| info.fd())
            .map_err(BenchError::of("the pinned program"))?;
        programs.insert(Program::Pen, pen);
        load(&mut bench, "harness")?;
        fill_floor(&mut bench)?;
        Ok(Self {
            programs,
            plan: Array::try_from(take(&mut bench, "bench_plan")?)
                .map_err(BenchError::of("map bench_plan"))?,
            target: ProgramArray::try_from(take(&mut bench, "bench_target")?)
                .map_err(BenchError::of("map bench_target"))?,
            context: context(ifindex),
            our_mac,
            bench,
            _plane: plane,
            _lab: lab,
        })
    }

    /// MAC that frames for the balancer carry.
    pub(super) fn our_mac(&self) -> [u8; 6] {
        self.our_mac.0
    }

    /// Makes the harness call a row's program.
    pub(super) fn aim(&mut self, case: &Case) -> Result<(), BenchError> {
        let Some(program) = self.programs.get(&case.program) else { return Ok(()) };
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
        options.ctx_in = Some(&self.context);
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

/// The services that the rows are about.
fn furnish(ifindex: u32, mac: Mac) -> Vec<Operation> {
    let target =
        InterfaceTarget { ifindex, mac, master_mac: None, mode: AttachMode::Native, announce: false };
    let mut operations =
        vec![Operation::SetSeed(1), Operation::Attach { name: INTERFACE.to_owned(), target }];
    for vip in cases::TRACKED {
        operations.extend(service(vip, Affinity::Client, Tracking::Full, 0, ifindex));
    }
    for vip in cases::BY_SLOT {
        operations.extend(service(vip, Affinity::None, Tracking::Off, 0, ifindex));
    }
    operations.extend(service(cases::ON_VLAN, Affinity::Client, Tracking::Full, cases::VLAN, ifindex));
    operations
}

fn service(
    address: IpAddr,
    affinity: Affinity,
    tracking: Tracking,
    vlan: u16,
    ifindex: u32,
) -> Vec<Operation> {
    let key = ServiceKey { address: address.into(), port: 80, protocol: Protocol::Tcp };
    let settings = ServiceSettings {
        affinity,
        scheduler: Scheduler::Maglev,
        tracking,
        tracking_timeout: Duration::ZERO,
        transition: Duration::from_secs(600),
        on_empty: OnEmpty::Drop,
        proxy: None,
    };
    let backends: Vec<BackendAddress> =
        (1..=BACKENDS).map(|number| backend(address, number).into()).collect();
    let mut operations = vec![Operation::SetService { key, settings }];
    for (number, &address) in (1..).zip(&backends) {
        let mac = Mac([2, 0, 0, 0, 1, number]);
        let path = BackendPath { mac, ifindex, vlan, inner_vlan: 0, local: false };
        let target = BackendTarget {
            path: Some(path),
            usable: true,
            serving: true,
            health: HealthStatus::Up,
            health_since: 0,
            proxy: None,
        };
        operations.push(Operation::SetBackend { key, address, target });
    }
    let members = backends.iter().map(|&address| Member { address, weight: 1 }).collect();
    operations.push(Operation::SetTable { key, members });
    operations
}

/// The address of a backend of the same family as the VIP.
fn backend(vip: IpAddr, number: u8) -> IpAddr {
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, number).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)).into(),
    }
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
