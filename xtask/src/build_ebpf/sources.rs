//! The hash over all that goes into the eBPF objects: tells when the committed ones are stale.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::BuildError;

/// Directories and files that go into the objects; what is only for tests and for hosts is left out below.
const SOURCES: [&str; 5] = [
    "pen-common/src",
    "pen-common/Cargo.toml",
    "pen-ebpf/src",
    "pen-ebpf/Cargo.toml",
    "xtask/src/build_ebpf/toolchain.rs",
];
/// Files and directories that no eBPF build sees.
const LEFT_OUT: [&str; 4] = ["tests.rs", "tests", "host.rs", "host"];

/// What stands beside the committed objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// [`hash`] of the sources they were built from.
    pub hash: String,
    /// What built them.
    pub toolchain: String,
}

impl Record {
    /// Reads it.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(root: &Path) -> Result<Self, BuildError> {
        let path = root.join("pen-ebpf/prebuilt/sources.sha256");
        let text = fs::read_to_string(&path).map_err(|source| BuildError::File { path, source })?;
        let (hash, toolchain) = text.split_once("  ").unwrap_or((&text, ""));
        Ok(Self { hash: hash.trim().to_owned(), toolchain: toolchain.trim().to_owned() })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.hash, self.toolchain)
    }
}

/// Hashes the sources, and the locked versions of the crates that the objects are built from.
///
/// # Errors
/// Where something cannot be read.
pub fn hash(root: &Path) -> Result<String, BuildError> {
    let mut files = BTreeSet::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    let mut hasher = Sha256::new();
    for path in &files {
        let contents = fs::read(path).map_err(|source| BuildError::File { path: path.clone(), source })?;
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy();
        absorb(&mut hasher, name.as_bytes());
        absorb(&mut hasher, &contents);
    }
    for entry in locked(root)? {
        absorb(&mut hasher, entry.as_bytes());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Adds a piece, its length first, so that pieces cannot run into each other.
fn absorb(hasher: &mut Sha256, piece: &[u8]) {
    hasher.update((piece.len() as u64).to_le_bytes());
    hasher.update(piece);
}

/// All files at or below a path.
fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), BuildError> {
    let failed = |source| BuildError::File { path: path.to_owned(), source };
    if path.file_name().is_some_and(|name| LEFT_OUT.iter().any(|left_out| name == *left_out)) {
        return Ok(());
    }
    if !path.is_dir() {
        files.insert(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed)? {
        collect(&entry.map_err(failed)?.path(), files)?;
    }
    Ok(())
}

/// Names, versions and checksums of all crates that pen-ebpf depends on, through any number of others.
fn locked(root: &Path) -> Result<BTreeSet<String>, BuildError> {
    let path = root.join("Cargo.lock");
    let text = fs::read_to_string(&path).map_err(|source| BuildError::File { path, source })?;
    let lock: toml::Table = toml::from_str(&text).map_err(|error| BuildError::Lock(error.to_string()))?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let packages = packages.ok_or_else(|| BuildError::Lock("no packages".to_owned()))?;
    let mut by_name: BTreeMap<&str, Vec<&toml::Value>> = BTreeMap::new();
    for package in packages {
        by_name.entry(field(package, "name")).or_default().push(package);
    }
    let (mut wanted, mut found) = (vec!["pen-ebpf"], BTreeSet::new());
    while let Some(wish) = wanted.pop() {
        // "name", or "name version" where the lock holds several versions.
        let (name, version) = wish.split_once(' ').unwrap_or((wish, ""));
        for package in by_name.get(name).into_iter().flatten() {
            let matches = version.is_empty() || version == field(package, "version");
            let entry = format!("{name} {} {}", field(package, "version"), field(package, "checksum"));
            if matches && found.insert(entry) {
                let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
                wanted.extend(dependencies.into_iter().flatten().filter_map(toml::Value::as_str));
            }
        }
    }
    Ok(found)
}

/// A text field of a package; empty where it has none.
fn field<'a>(package: &'a toml::Value, name: &str) -> &'a str {
    package.get(name).and_then(toml::Value::as_str).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build_ebpf::root;

    #[test]
    fn the_committed_objects_were_built_from_these_sources() {
        let record = Record::read(root()).unwrap();
        assert_eq!(
            record.hash,
            hash(root()).unwrap(),
            "the committed eBPF objects are stale: run `cargo xtask build-ebpf` and commit what it writes"
        );
    }

    #[test]
    fn every_crate_of_the_object_counts_and_no_other() {
        let locked = locked(root()).unwrap();
        assert!(locked.iter().any(|entry| entry.starts_with("aya-ebpf-bindings ")));
        assert!(!locked.iter().any(|entry| entry.starts_with("tokio ")));
    }
}
