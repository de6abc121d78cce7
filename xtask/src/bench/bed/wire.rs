//! Pairs of interfaces between client and balancer, and live frames over them: out of the client's end, through the
//! program at the balancer's, and back to the client's, where they are counted.

use std::thread;
use std::time::{Duration, Instant};

use aya::maps::PerCpuArray;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, XdpMode};
use pen_ctl::dataplane::DataPlane as _;

use super::seat::{index, pair};
use super::{Bed, context, load, missing, program};
use crate::bench::BenchError;
use crate::bench::cases::Case;

/// Frames that the kernel sends at a time: no more than one round of NAPI takes, and a quarter of a veth's queue.
const BATCH: u32 = 64;
/// No frame is on its way any more that has not arrived for so long.
const QUIET: Duration = Duration::from_millis(100);

/// The client's end of a pair of interfaces, as frames leave by it.
pub(in crate::bench) struct Wire {
    context: Vec<u8>,
}

/// What became of live frames.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Sent {
    /// Time from sending the first to having counted the last, without what other processes had in between.
    pub(in crate::bench) time: Duration,
    /// How many came back.
    pub(in crate::bench) returned: u64,
    /// How many the balancer says that it forwarded meanwhile.
    pub(in crate::bench) forwarded: u64,
}

impl Bed {
    /// Joins client and balancer by one more pair, and attaches a floor to the balancer's end. The calling thread is in
    /// its namespace.
    pub(in crate::bench) fn attach_floor(&mut self, name: &str, interface: &str) -> Result<(), BenchError> {
        let balancer = self.lab.balancers.first().ok_or_else(|| missing("the balancer"))?;
        pair(&self.lab, balancer, interface)?;
        self.attach(name, interface)
    }

    /// Moves the calling thread to the client, and has its ends of these pairs count what comes back.
    pub(in crate::bench) fn move_to_client<const N: usize>(
        &mut self,
        interfaces: [&str; N],
    ) -> Result<[Wire; N], BenchError> {
        self.lab.client.namespace.enter();
        load(&mut self.bench, "sink")?;
        let mut wires = Vec::new();
        for interface in interfaces {
            self.attach("sink", interface)?;
            wires.push(Wire { context: context(index(interface)?) });
        }
        wires.try_into().map_err(|_| missing("an interface"))
    }

    /// Attaches a program of the benchmark to an interface of the namespace that the calling thread is in.
    fn attach(&mut self, name: &str, interface: &str) -> Result<(), BenchError> {
        let what = format!("attach {name} to {interface}");
        program(&mut self.bench, name)?.attach(interface, XdpMode::Driver).map_err(BenchError::of(&what))?;
        Ok(())
    }

    /// Sends so many live frames of a row, [`BATCH`] at a time, and waits until they are back, or lost.
    pub(in crate::bench) fn send(
        &mut self,
        case: &Case,
        wire: &Wire,
        packets: u32,
    ) -> Result<Sent, BenchError> {
        let (sunk, forwarded) = (self.sunk()?, self.forwarded()?);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&case.frame);
        options.ctx_in = Some(&wire.context);
        options.repeat = packets;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        let harness = program(&mut self.bench, "harness")?;
        let each = harness.test_run(options).map_err(BenchError::of(&format!("send row {}", case.name)))?;
        let returned = self.settled(sunk + u64::from(packets))? - sunk;
        Ok(Sent { time: each.duration * packets, returned, forwarded: self.forwarded()? - forwarded })
    }

    /// What has been counted once that is `expected`, or stays the same.
    fn settled(&self, expected: u64) -> Result<u64, BenchError> {
        let (mut last, mut since) = (self.sunk()?, Instant::now());
        while last < expected && since.elapsed() < QUIET {
            thread::sleep(Duration::from_millis(1));
            let now = self.sunk()?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    /// How many frames have come back to the client so far.
    fn sunk(&self) -> Result<u64, BenchError> {
        let counts = self.bench.map("bench_sunk").ok_or_else(|| missing("bench_sunk"))?;
        let counts = PerCpuArray::<_, u64>::try_from(counts).map_err(BenchError::of("map bench_sunk"))?;
        let each = counts.get(&0, 0).map_err(BenchError::of("read bench_sunk"))?;
        Ok(each.iter().sum())
    }

    /// How many frames the balancer has counted as forwarded so far.
    fn forwarded(&mut self) -> Result<u64, BenchError> {
        let counts = self.planes.iter_mut().map(|plane| Ok(plane.counters()?.forwarded().packets));
        counts
            .sum::<Result<u64, pen_ctl::dataplane::DataPlaneError>>()
            .map_err(BenchError::of("the counters"))
    }
}
