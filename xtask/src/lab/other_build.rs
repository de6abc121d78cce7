//! Another build of pen from the same sources, for tests of upgrade and rollback: another version number, and an
//! eBPF object whose program does the same with other instructions.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Result};

/// What the other build says its version is.
pub const VERSION: &str = "999.0.0";
/// What its binary is called in the target directory.
const BINARY: &str = "pen-ctl-other";

/// Builds it beside `pen_ctl`, the one of this build, from a copy of the sources; gives the path of its binary.
pub fn build(pen_ctl: &Path) -> Result<PathBuf> {
    let failed = |e| Error::io("copy the sources for another build", e);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binary = pen_ctl.with_file_name(BINARY);
    let target =
        binary.parent().and_then(Path::parent).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let copy = target.join("other-build");
    fs::create_dir_all(&copy).map_err(failed)?;
    for entry in fs::read_dir(&sources).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != "target" && name != ".git" {
            copy_changed(&sources.join(&name), &copy.join(&name)).map_err(failed)?;
        }
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What it depends on is taken from this build: only pen itself is compiled again.
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--offline", "--package", "pen-ctl", "--bin", BINARY, "--target-dir"])
        .arg(target)
        .arg("--manifest-path")
        .arg(copy.join("Cargo.toml"))
        .status();
    if built.is_ok_and(|status| status.success()) {
        return Ok(binary);
    }
    Err(Error::Failed { what: "build another pen-ctl".to_owned(), why: "see above".to_owned() })
}

/// Copies a file or a directory with what makes it another build; leaves files alone that are right already, so
/// that cargo sees what changed.
fn copy_changed(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        return fs::read_dir(from)?.try_for_each(|entry| {
            let name = entry?.file_name();
            copy_changed(&from.join(&name), &to.join(&name))
        });
    }
    let contents = changed(from, fs::read(from)?);
    if fs::read(to).is_ok_and(|there| there == contents) { Ok(()) } else { fs::write(to, contents) }
}

/// What a source file says in the other build.
fn changed(path: &Path, contents: Vec<u8>) -> Vec<u8> {
    let text = || String::from_utf8_lossy(&contents).into_owned();
    if path.ends_with("pen-ctl/Cargo.toml") {
        let binary = format!("\n[[bin]]\nname = \"{BINARY}\"\npath = \"src/main.rs\"\n");
        return (text() + &binary).into_bytes();
    }
    if path.ends_with("../Cargo.toml") {
        let own = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
        return text().replace(own, &format!("version = \"{VERSION}\"")).into_bytes();
    }
    if path.extension() == Some(OsStr::new("o")) { with_other_instructions(contents) } else { contents }
}

/// An eBPF object (64-bit little-endian ELF) that does the same: where an instruction sets a whole register to a
/// constant that is not negative, another sets its lower half, which clears the upper (RFC 9669, 4.1).
fn with_other_instructions(mut object: Vec<u8>) -> Vec<u8> {
    const LOAD_IMMEDIATE_64: u8 = 0x18;
    const MOVE_64: u8 = 0xb7;
    const MOVE_32: u8 = 0xb4;
    for (start, end) in code_sections(&object) {
        let mut instructions = object[start..end].chunks_exact_mut(8);
        while let Some(instruction) = instructions.next() {
            match instruction[0] {
                // Its second half is no instruction.
                LOAD_IMMEDIATE_64 => drop(instructions.next()),
                MOVE_64 if instruction[7] < 0x80 => instruction[0] = MOVE_32,
                _ => {}
            }
        }
    }
    object
}

/// Where the sections with instructions are: `SHF_EXECINSTR` in the ELF specification's section headers.
fn code_sections(object: &[u8]) -> Vec<(usize, usize)> {
    const EXECUTABLE: usize = 4;
    let number = |at: usize, bytes: usize| {
        object[at..at + bytes].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (headers, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let each = (0..count).map(|index| headers + index * size);
    let code = each.filter(|header| number(header + 8, 8) & EXECUTABLE != 0);
    code.map(|header| (number(header + 0x18, 8), number(header + 0x18, 8) + number(header + 0x20, 8)))
        .collect()
}
