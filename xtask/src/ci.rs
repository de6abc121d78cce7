//! `cargo xtask ci`: what `.ci/run` does once the tools are there. Nothing that a machine lacks is forgiven.

use std::process::ExitCode;

use crate::test::{self, Sum, step};

/// Format, lints, the object, all tests; each step that fails counts as one failed test.
pub fn main() -> ExitCode {
    let mut sum = Sum::default();
    for (heading, words) in [
        ("format", "fmt --all --check"),
        ("lints", "clippy --quiet --workspace --all-targets -- --deny warnings"),
        ("the committed BPF object, built again", "xtask build-ebpf --check"),
    ] {
        sum += step(heading, words);
    }
    sum += test::run();
    sum.report()
}
