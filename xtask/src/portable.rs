//! `cargo xtask portable`: whether pen type-checks, without a warning, for systems that nobody here can run it on.
//!
//! Such a system's standard library is not to be had compiled; it is built from its sources, which Debian packages with
//! its compiler. Cargo checks again only what has changed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Args;

use crate::build_ebpf::root;
use crate::lab::needs;
use crate::test::Sum;

/// The systems that the proxy is written for, besides Linux, by rustc's names.
const TARGETS: [&str; 5] = [
    "x86_64-unknown-freebsd",
    "x86_64-unknown-openbsd",
    "x86_64-unknown-netbsd",
    "x86_64-unknown-illumos",
    "aarch64-apple-darwin",
];
/// What must be portable.
const PACKAGES: [&str; 2] = ["pen-common", "pen-ctl"];
/// Where Debian's compiler is.
const DISTRIBUTION: &str = "/usr/bin";
/// Where a compiler has the library's sources, from its sysroot.
const LIBRARY: &str = "lib/rustlib/src/rust/library/std";
/// What is needed, and how to get it.
const NEED: &str = "a Rust compiler in /usr/bin with its library's sources (apt-get install rustc cargo rust-src, \
                    or Debian 12's newer rustc-web cargo-web rust-web-src)";

/// What `cargo xtask portable` takes.
#[derive(Debug, Args)]
pub struct PortableArgs {
    /// For these targets, by rustc's names [default: FreeBSD, OpenBSD, NetBSD, illumos and macOS]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Checks, says how it went and how many passed and failed.
pub fn main(args: &PortableArgs) -> ExitCode {
    let sum = match args.targets.as_slice() {
        [] => run(),
        targets => check(&targets.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    sum.report()
}

/// Checks all targets.
pub fn run() -> Sum {
    check(&TARGETS)
}

/// Checks them one after the other: each keeps every processor busy. A target counts as one test.
fn check(targets: &[&str]) -> Sum {
    println!("\n== {} for other systems: cargo check", PACKAGES.join(" and "));
    let count = targets.len() as u64;
    if !has_toolchain() {
        println!("skipped: needs {NEED}");
        let skipped = Sum { passed: count, skipped: count, ..Sum::default() };
        return if needs::all_required() { Sum { failed: count, ..Sum::default() } } else { skipped };
    }
    let mut sum = Sum::default();
    for target in targets {
        let started = Instant::now();
        let passed = check_one(target);
        let (word, seconds) = (if passed { "ok" } else { "FAILED" }, started.elapsed().as_secs());
        println!("{target}: {word} ({seconds} s)");
        sum += Sum { passed: passed.into(), failed: (!passed).into(), ..Sum::default() };
    }
    sum
}

/// Whether everything is right for a target; what is not, cargo says.
fn check_one(target: &str) -> bool {
    let mut cargo = Command::new(tool("cargo"));
    cargo
        .current_dir(root())
        .args(["check", "--quiet", "--locked", "--target", target])
        .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
        .args(["-Z", "build-std=std,panic_abort", "--target-dir"])
        .arg(root().join("target/portable"))
        // A stable compiler that may build its own library.
        .env("RUSTC", tool("rustc"))
        .env("RUSTC_BOOTSTRAP", "1")
        // In pen's own crates: not in the library, as flags for the compiler would.
        .arg("-Zwarnings")
        .env("CARGO_BUILD_WARNINGS", "deny")
        // ring's C and assembly: nothing is linked, and nobody here has a compiler for all of these systems.
        .env("TARGET_CC", "true")
        .env("TARGET_AR", "true")
        .stdin(Stdio::null());
    // What `cargo xtask` itself was started with would bring in another toolchain, or build everything anew.
    for inherited in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTDOC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(inherited);
    }
    match cargo.status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("{} does not start: {error}", tool("cargo").display());
            false
        }
    }
}

/// Whether the compiler is there, with the sources of its library.
fn has_toolchain() -> bool {
    let sysroot = Command::new(tool("rustc")).args(["--print", "sysroot"]).output().ok();
    let sysroot = sysroot.and_then(|output| String::from_utf8(output.stdout).ok());
    sysroot.is_some_and(|sysroot| Path::new(sysroot.trim()).join(LIBRARY).is_dir()) && tool("cargo").exists()
}

fn tool(name: &str) -> PathBuf {
    Path::new(DISTRIBUTION).join(name)
}
