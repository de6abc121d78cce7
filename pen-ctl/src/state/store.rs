//! Keeps the desired state on disk: what was answered "ok" survives a power cut, and one controller owns it.

mod files;

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use files::{Files, RealFiles};

use super::desired::Desired;
use super::validate;
use crate::api::{ApiError, ErrorCode};

/// Version of the layout of `state.json`.
const FORMAT: u32 = 1;
const STATE_FILE: &str = "state.json";
const TEMPORARY_FILE: &str = "state.json.new";
const LOCK_FILE: &str = "lock";

/// Why the state cannot be had or kept: what, on what, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is not one this controller may use.
    #[error("state directory {}: {why}; {hint}", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// Another controller has it.
    #[error("state directory {} is in use by the controller with pid {pid}; stop that one, or use another --state-dir", .path.display())]
    InUse {
        /// Which.
        path: PathBuf,
        /// Whose.
        pid: String,
    },
    /// The file is not what this version writes. It is kept as it is.
    #[error("state file {}{}: {why}; it is kept as it is: {hint}", .path.display(), place(*.line, *.column))]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Line from 1; 0 = no place.
        line: usize,
        /// Column from 1.
        column: usize,
        /// Why.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// Writing failed; what was there before is still there.
    #[error("state file {} cannot be written: {source}; free space or mend the disk, then try again", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No randomness for a seed.
    #[error("no random numbers from the kernel: {0}")]
    Random(String),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match text.split_once("; ") {
            Some((message, hint)) => Self::new(ErrorCode::Storage, message, hint),
            None => Self::new(ErrorCode::Storage, text, ""),
        }
    }
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    /// Shared with the pins; `None` until there is to be a first pin.
    #[serde(with = "hex_id")]
    instance: Option<[u8; 16]>,
    /// What moved packets last.
    dataplane: Option<String>,
    /// SHA-256 of the file applied last.
    applied: Option<String>,
    desired: Desired,
}

/// Takes the lock of a state directory without reading what is in it: damaged state must not keep anyone from stopping.
/// The lock lasts as long as the file is open.
///
/// # Errors
/// The directory is somebody else's or not writable, or a controller holds the lock.
pub fn lock_unread(directory: &Path) -> Result<File, StoreError> {
    prepare(directory)?;
    lock(directory)
}

/// The desired state and what goes with it, in memory as on disk. Holds the lock for as long as it lives.
pub struct Store {
    directory: PathBuf,
    files: Box<dyn Files>,
    kept: Kept,
    fresh: bool,
    lock: File,
}

impl Store {
    /// Takes the lock of a state directory (made if missing, 0700) and reads what is in it.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, Box::new(RealFiles))
    }

    /// The same on a file system of the caller's choice.
    pub fn open_with(directory: &Path, files: Box<dyn Files>) -> Result<Self, StoreError> {
        prepare(directory)?;
        let lock = lock(directory)?;
        let path = directory.join(STATE_FILE);
        let found = files.read(&path).map_err(|error| StoreError::Directory {
            path: directory.to_owned(),
            why: format!("{STATE_FILE} cannot be read: {error}"),
            hint: "run as the user the state belongs to",
        })?;
        let fresh = found.is_none();
        let kept = match found {
            Some(bytes) => parse(&path, &bytes)?,
            None => Kept {
                format: FORMAT,
                instance: None,
                dataplane: None,
                applied: None,
                desired: Desired::new(random_seed()?),
            },
        };
        let mut store = Self { directory: directory.to_owned(), files, kept, fresh, lock };
        if fresh {
            store.write(store.kept.clone())?;
        }
        Ok(store)
    }

    /// What the administrator wants.
    pub fn desired(&self) -> &Desired {
        &self.kept.desired
    }

    /// Makes another desired state durable. When this fails the old one holds, here and on disk.
    pub fn replace(&mut self, desired: Desired) -> Result<(), StoreError> {
        self.write(Kept { desired, ..self.kept.clone() })
    }

    /// The same for the contents of a file, together with its digest.
    pub fn replace_from_file(&mut self, desired: Desired, digest: &str) -> Result<(), StoreError> {
        self.write(Kept { desired, applied: Some(digest.to_owned()), ..self.kept.clone() })
    }

    /// The digest of the file applied last.
    pub fn applied(&self) -> Option<&str> {
        self.kept.applied.as_deref()
    }

    /// Nothing was here before this start, or nothing was ever asked for: no reason to keep it over live pins.
    pub fn is_empty(&self) -> bool {
        let desired = &self.kept.desired;
        self.fresh
            || (self.kept.instance.is_none() && desired.services.is_empty() && desired.interfaces.is_empty())
    }

    /// The id shared with the pins, if there ever were any.
    pub fn instance(&self) -> Option<[u8; 16]> {
        self.kept.instance
    }

    /// The id shared with the pins; drawn and durable before this returns, and so before the first pin.
    pub fn ensure_instance(&mut self) -> Result<[u8; 16], StoreError> {
        if let Some(id) = self.kept.instance {
            return Ok(id);
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| StoreError::Random(error.to_string()))?;
        self.set_instance(id)?;
        Ok(id)
    }

    /// Takes the id of pins that this state adopts.
    pub fn set_instance(&mut self, id: [u8; 16]) -> Result<(), StoreError> {
        self.write(Kept { instance: Some(id), ..self.kept.clone() })
    }

    /// What moved packets last.
    pub fn dataplane(&self) -> Option<&str> {
        self.kept.dataplane.as_deref()
    }

    /// Remembers what moves packets; writes only when that changed.
    pub fn set_dataplane(&mut self, name: &str) -> Result<(), StoreError> {
        match self.kept.dataplane.as_deref() == Some(name) {
            true => Ok(()),
            false => self.write(Kept { dataplane: Some(name.to_owned()), ..self.kept.clone() }),
        }
    }

    /// Write, fsync, rename, fsync the directory: after each step the file is the old or the new one, whole.
    fn write(&mut self, kept: Kept) -> Result<(), StoreError> {
        let (path, temporary) = (self.directory.join(STATE_FILE), self.directory.join(TEMPORARY_FILE));
        let write = || {
            let mut text = serde_json::to_vec_pretty(&kept)?;
            text.push(b'\n');
            self.files.write(&temporary, &text)?;
            self.files.sync_file(&temporary)?;
            self.files.rename(&temporary, &path)?;
            self.files.sync_directory(&self.directory)
        };
        write().map_err(|source| StoreError::Write { path: path.clone(), source })?;
        self.kept = kept;
        Ok(())
    }
}

impl Drop for Store {
    /// Closing would not do: a child process that was forked a moment ago may share the lock until it execs.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("directory", &self.directory)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Kept, StoreError> {
    /// Read first: a newer layout need not fit ours.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    const RESTORE: &str = "restore it from a backup, or move it away to start empty";
    let unreadable = |error: serde_json::Error| StoreError::Unreadable {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        why: match error.classify() {
            serde_json::error::Category::Eof => "it ends in the middle".to_owned(),
            _ => {
                let text = error.to_string();
                let place = format!(" at line {} column {}", error.line(), error.column());
                text.trim_end_matches(place.as_str()).to_owned()
            }
        },
        hint: RESTORE,
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    let nowhere = |why, hint| StoreError::Unreadable { path: path.to_owned(), line: 0, column: 0, why, hint };
    if format != FORMAT {
        return Err(nowhere(
            format!("it has format {format}, and this pen knows {FORMAT}"),
            "run the pen that wrote it, or move it away to start empty",
        ));
    }
    let kept: Kept = serde_json::from_slice(bytes).map_err(unreadable)?;
    validate::desired(&kept.desired).map_err(|error| nowhere(error.message, RESTORE))?;
    Ok(kept)
}

/// Makes the directory, or checks that nobody else may write into it.
pub(crate) fn prepare(directory: &Path) -> Result<(), StoreError> {
    let refuse = |why: String, hint| StoreError::Directory { path: directory.to_owned(), why, hint };
    let make = || {
        let absolute = std::path::absolute(directory)?;
        let missing = absolute.ancestors().take_while(|path| !path.exists()).count();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&absolute)?;
        // The names of new directories must survive a power cut, too.
        absolute.ancestors().skip(1).take(missing).try_for_each(|parent| File::open(parent)?.sync_all())
    };
    make().map_err(|error: io::Error| {
        refuse(format!("cannot be made: {error}"), "run as root, or use another --state-dir")
    })?;
    let facts = std::fs::metadata(directory).map_err(|error| {
        refuse(format!("cannot be looked at: {error}"), "run as root, or use another --state-dir")
    })?;
    let ours = rustix::process::geteuid().as_raw();
    if facts.uid() != ours {
        let why = format!("belongs to user {}, and this is user {ours}", facts.uid());
        return Err(refuse(why, "run as that user, or use another --state-dir"));
    }
    if facts.mode() & 0o022 != 0 {
        let why = format!("others may write into it (mode {:04o})", facts.mode() & 0o7777);
        return Err(refuse(why, "make it 0700, or use another --state-dir"));
    }
    Ok(())
}

/// Takes the directory's lock, which the kernel drops with the process, and leaves our pid in it.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let refuse = |error: io::Error| StoreError::Directory {
        path: directory.to_owned(),
        why: format!("not writable: {error}"),
        hint: "run as the user the state belongs to, or use another --state-dir",
    };
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(LOCK_FILE))
        .map_err(refuse)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
            let pid = if read { pid.trim().to_owned() } else { "unknown".to_owned() };
            return Err(StoreError::InUse { path: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(refuse(error)),
    }
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(refuse)?;
    Ok(file)
}

fn random_seed() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Random(error.to_string()))
}

fn place(line: usize, column: usize) -> String {
    match line {
        0 => String::new(),
        _ => format!(":{line}:{column}"),
    }
}

/// serde form of an instance id: 32 hexadecimal digits.
mod hex_id {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &Option<[u8; 16]>, serializer: S) -> Result<S::Ok, S::Error> {
        id.map(|id| format!("{:032x}", u128::from_be_bytes(id))).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; 16]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        id.map(|id| Some(id.to_be_bytes()))
            .ok_or_else(|| D::Error::custom("instance id is not 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests;
