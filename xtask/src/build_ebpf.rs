//! `cargo xtask build-ebpf`: builds the eBPF objects that are committed beside their sources.
//!
//! Whoever only builds pen needs none of this: the objects are in `pen-ebpf/prebuilt/`, and a test says when the
//! sources have moved on. The build does not depend on where the clone is; it does depend on the compiler, so
//! which one was used is noted beside the hash.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use clap::Args;

pub mod sources;
mod toolchain;

use toolchain::Toolchain;

/// The objects: the balancer's, that of health checks along the DSR path, and the one that only the benchmark loads.
const OBJECTS: [&str; 3] = ["pen", "pen-probe", "pen-bench"];
/// Rust's BPF target, little-endian.
const TARGET: &str = "bpfel-unknown-none";

/// What `cargo xtask build-ebpf` takes.
#[derive(Debug, Args)]
pub struct BuildEbpfArgs {
    /// Only say whether a rebuild differs from the committed objects (exit status 1: it does)
    #[arg(long)]
    pub check: bool,
}

/// Why the objects could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A tool is missing.
    #[error("{tool} is missing; {hint}")]
    Missing {
        /// Which.
        tool: String,
        /// How to get it.
        hint: &'static str,
    },
    /// A tool could not be started.
    #[error("cannot run {tool}: {source}")]
    Start {
        /// Which.
        tool: String,
        /// Why.
        source: io::Error,
    },
    /// A tool ran and failed; it has said why.
    #[error("{0} failed; what it said is above")]
    Failed(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `Cargo.lock` is not what cargo writes.
    #[error("Cargo.lock: {0}; let `cargo check` write it anew")]
    Lock(String),
}

/// Builds the objects, or says whether that would change them.
pub fn main(args: &BuildEbpfArgs) -> ExitCode {
    let built = if args.check { check() } else { build().map(|()| true) };
    match built {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: build-ebpf: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The directory of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where the committed objects are.
fn prebuilt() -> PathBuf {
    root().join("pen-ebpf/prebuilt")
}

/// Builds all objects and puts them, their hash and their makers' versions where they are committed.
fn build() -> Result<(), BuildError> {
    let toolchain = Toolchain::find()?;
    for name in OBJECTS {
        let path = prebuilt().join(format!("{name}.o"));
        let object = compile(&toolchain, name)?;
        fs::write(&path, &object).map_err(|source| BuildError::File { path: path.clone(), source })?;
        println!("{}: {} bytes", path.strip_prefix(root()).unwrap_or(&path).display(), object.len());
    }
    let path = prebuilt().join("sources.sha256");
    let record = sources::Record { hash: sources::hash(root())?, toolchain: toolchain.versions()? };
    fs::write(&path, record.to_string()).map_err(|source| BuildError::File { path, source })
}

/// Whether rebuilt objects are the committed ones; says so for each.
pub fn check() -> Result<bool, BuildError> {
    let toolchain = Toolchain::find()?;
    let mut same = true;
    for name in OBJECTS {
        let path = prebuilt().join(format!("{name}.o"));
        let committed = fs::read(&path).map_err(|source| BuildError::File { path, source })?;
        let equal = committed == compile(&toolchain, name)?;
        println!("{name}.o: a rebuild {} the committed object", if equal { "is" } else { "differs from" });
        same &= equal;
    }
    if !same {
        let committed = sources::Record::read(root())?.toolchain;
        println!("the committed objects were built by {committed}; here: {}", toolchain.versions()?);
    }
    Ok(same)
}

/// Builds one object and takes the debug information out, except what the kernel reads (BTF).
fn compile(toolchain: &Toolchain, name: &str) -> Result<Vec<u8>, BuildError> {
    let directory = root().join("target/ebpf");
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(root())
        .args(["build", "--release", "--package", "pen-ebpf", "--bin", name, "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&directory)
        .env("CARGO_ENCODED_RUSTFLAGS", toolchain.flags(root()).join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env_remove("RUSTFLAGS");
    run(&mut cargo, "cargo")?;
    let built = directory.join(TARGET).join("release").join(name);
    let stripped = built.with_extension("stripped");
    let mut objcopy = Command::new(&toolchain.objcopy);
    run(objcopy.arg("--strip-debug").arg(&built).arg(&stripped), "llvm-objcopy")?;
    fs::read(&stripped).map_err(|source| BuildError::File { path: stripped, source })
}

/// Runs a tool to its end.
fn run(command: &mut Command, tool: &str) -> Result<(), BuildError> {
    let status = command.status().map_err(|source| BuildError::Start { tool: tool.to_owned(), source })?;
    if status.success() { Ok(()) } else { Err(BuildError::Failed(tool.to_owned())) }
}
