//! `cargo xtask ci`: what `.ci/run` does once the tools are there. Nothing that a machine lacks is forgiven.

use std::process::ExitCode;

use crate::build_ebpf;
use crate::fuzz;
use crate::portable;
use crate::test::{self, Sum, step};

/// Format, lints, the objects, other systems, all tests, a minute of each fuzz target; each step that fails counts
/// as one failed test.
pub fn main() -> ExitCode {
    let mut sum = step("format", "fmt --all --check");
    sum += step("lints", "clippy --quiet --workspace --all-targets -- --deny warnings");
    sum += objects();
    sum += portable::run();
    sum += test::run();
    sum += fuzz::run();
    sum.report()
}

/// Builds the committed objects again. Another compiler makes other bytes, which is worth saying, no more: that
/// the sources are those of the committed objects is a test.
fn objects() -> Sum {
    println!("\n== the committed eBPF objects, built again");
    match build_ebpf::check() {
        Ok(_) => Sum::default(),
        Err(error) => {
            println!("build-ebpf: {error}");
            Sum { failed: 1, ..Sum::default() }
        }
    }
}
