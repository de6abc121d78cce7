//! `cargo xtask bench --as-unit`: what the capabilities of the shipped unit, and those less CAP_PERFMON, cost a packet.
//!
//! The kernel rewrites a program against speculation (Spectre) that somebody loads without CAP_PERFMON, and then it is
//! slower; some programs it refuses. So the balancer's program is loaded once as root, once with what the unit in
//! `pen-ctl/systemd/pen.service` gives, and once with that less CAP_PERFMON.

use rustix::thread::CapabilitySet;

use super::bed::{Bed, Seat};
use super::cases::{self, Case, Program};
use super::report::{Refused, Report};
use super::{BenchError, rights};

/// Who measures what the shipped unit's capabilities cost.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Options {
    /// Measure the program as the capabilities of the shipped unit load it, and without CAP_PERFMON, beside root's
    #[arg(long, conflicts_with_all = ["proxy", "health"])]
    pub(super) as_unit: bool,
}

/// Measures and prints what it found.
pub(super) fn main(options: &super::Options) -> Result<(), BenchError> {
    let unit = rights::of_the_unit()?;
    let less = unit.difference(CapabilitySet::PERFMON);
    let as_unit = Seat { program: Program::AsUnit, capabilities: Some(unit), ..Seat::at("unit0") };
    let no_perfmon = Seat {
        program: Program::NoPerfmon,
        capabilities: Some(less),
        may_be_refused: true,
        ..Seat::at("less0")
    };
    let mut bed = Bed::with_seats(options.cpu, &[Seat::PLAIN, as_unit, no_perfmon])?;
    bed.add_floor(Program::F2NoPerfmon, "f2", less)?;
    let (cases, refused) = accepted(&bed);
    let mut report = Report::new(&super::interleaved(&mut bed, &cases, options)?);
    report.refused = refused;
    super::print(
        options,
        &report,
        "_as_unit: loaded with the capabilities of pen-ctl/systemd/pen.service; _no_perfmon: with those less\n\
         CAP_PERFMON, without which the kernel hardens a program against speculation, or refuses it; others: as root.",
    )
}

/// The rows whose program the kernel accepted, and the others.
fn accepted(bed: &Bed) -> (Vec<Case>, Vec<Refused>) {
    let (mut cases, mut refused) = (Vec::new(), Vec::new());
    for case in cases::as_unit(bed.our_mac()) {
        match bed.refusal(case.program) {
            Some(why) => refused.push(Refused { name: case.name.to_owned(), why: why.to_string() }),
            None => cases.push(case),
        }
    }
    (cases, refused)
}
