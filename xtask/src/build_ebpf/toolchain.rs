//! Finds what builds eBPF objects: a compiler with its library's sources, bpf-linker, llvm-objcopy.
//!
//! rustup's nightly with `rust-src` where present, else the distribution's compiler and library sources (a stable
//! one, told by `RUSTC_BOOTSTRAP` to build the library too).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::BuildError;

/// Where the distribution's compiler is.
const DISTRIBUTION: &str = "/usr/bin";
/// How to get the tools, where they are missing.
const HINT: &str = "get a compiler with `rustup toolchain install nightly --component rust-src` \
                    (or `apt-get install rustc cargo rust-src`), then `cargo install bpf-linker` and \
                    `apt-get install llvm`";

/// A complete set of tools.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// Bring in rustup's nightly; else the distribution's compiler.
    nightly: bool,
    /// The directory that holds the compiler's `lib/rustlib`.
    sysroot: PathBuf,
    /// llvm-objcopy.
    pub(super) objcopy: PathBuf,
}

impl Toolchain {
    /// Finds one.
    pub(super) fn find() -> Result<Self, BuildError> {
        let missing = |tool: &str| BuildError::Missing { tool: tool.to_owned(), hint: HINT };
        let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]));
        let distribution = sysroot(&mut Command::new(Path::new(DISTRIBUTION).join("rustc")));
        let (nightly, sysroot) = [(true, nightly), (false, distribution)]
            .into_iter()
            .find_map(|(nightly, sysroot)| {
                sysroot.filter(|at| library(at).join("core").is_dir()).map(|at| (nightly, at))
            })
            .ok_or_else(|| missing("a Rust compiler with its library's sources"))?;
        if output(Command::new("bpf-linker").arg("--version")).is_none() {
            return Err(missing("bpf-linker"));
        }
        let objcopy = objcopy().ok_or_else(|| missing("llvm-objcopy"))?;
        Ok(Self { nightly, sysroot, objcopy })
    }

    /// A cargo that uses this compiler and can build the library.
    pub(super) fn cargo(&self) -> Command {
        // What `cargo xtask` itself was started with would override the choice.
        let mut cargo = if self.nightly {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo"]).env_remove("RUSTC");
            cargo
        } else {
            let mut cargo = Command::new(Path::new(DISTRIBUTION).join("cargo"));
            cargo.env("RUSTC", Path::new(DISTRIBUTION).join("rustc")).env("RUSTC_BOOTSTRAP", "1");
            cargo
        };
        cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTDOC");
        cargo
    }

    /// The compiler's flags. Paths of this machine are replaced, so that the object does not depend on them.
    pub(super) fn flags(&self, root: &Path) -> Vec<String> {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
            .unwrap_or_default();
        let mut flags = vec![
            // Kernels from 5.12 on know these instructions; 6.1 is the oldest that pen means to run on.
            "-Ctarget-cpu=v3".to_owned(),
            "-Copt-level=3".to_owned(),
            "-Ccodegen-units=1".to_owned(),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            // One load for a word of a packet rather than one for each byte: x86 and ARM kernels allow that.
            "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned(),
        ];
        for (from, to) in [(root, "/pen"), (home, "/cargo"), (library(&self.sysroot), "/library")] {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
        flags
    }

    /// The versions that an object depends on, in one line.
    pub(super) fn versions(&self) -> Result<String, BuildError> {
        let rustc = if self.nightly {
            output(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))
        } else {
            output(Command::new(Path::new(DISTRIBUTION).join("rustc")).arg("--version"))
        };
        let linker = output(Command::new("bpf-linker").arg("--version"));
        match (rustc, linker) {
            (Some(rustc), Some(linker)) => Ok(format!("{rustc}, {linker}")),
            _ => Err(BuildError::Failed("rustc --version".to_owned())),
        }
    }
}

/// Where a compiler's library sources are, if it has them.
fn library(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust/library")
}

/// The directory that a compiler lives in.
fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    output(rustc.args(["--print", "sysroot"])).map(PathBuf::from)
}

/// The first llvm-objcopy, newest version first.
fn objcopy() -> Option<PathBuf> {
    let versions = (14..=30).rev();
    let numbered = versions.flat_map(|version| {
        [format!("llvm-objcopy-{version}"), format!("/usr/lib/llvm-{version}/bin/llvm-objcopy")]
    });
    numbered
        .chain(["llvm-objcopy".to_owned()])
        .find(|name| output(Command::new(name).arg("--version")).is_some())
        .map(PathBuf::from)
}

/// What a tool prints, trimmed; `None` where it is not there or fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}
