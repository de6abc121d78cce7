//! The state directory: made, checked, locked.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::StoreError;
use crate::held_lock::HeldLock;

const LOCK_FILE: &str = "lock";

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

/// Takes the directory's lock, which the kernel drops with the process, and leaves our pid in it. Where nothing can be
/// written any more (a file system full, or remounted read-only after an error of its disk), a lock file that is
/// there is locked all the same: what was wanted can go on, and changes are refused when they come.
pub(super) fn lock(directory: &Path) -> Result<HeldLock, StoreError> {
    let refuse = |error: io::Error| StoreError::Directory {
        path: directory.to_owned(),
        why: format!("not writable: {error}"),
        hint: match cannot_take_more(&error) {
            true => {
                "free space or mend the disk (`dmesg` says what is wrong with it), or use another --state-dir"
            }
            false => "run as the user the state belongs to, or use another --state-dir",
        },
    };
    let path = directory.join(LOCK_FILE);
    let mut writable = std::fs::OpenOptions::new();
    writable.write(true).create(true).truncate(false).mode(0o600);
    let note = match writable.open(&path) {
        Err(error) if cannot_take_more(&error) && path.exists() => None,
        opened => Some(opened.map_err(refuse)?),
    };
    // What holds the lock is not open for writing: the file system may be remounted read-only meanwhile.
    let held = match HeldLock::take(File::open(&path).map_err(refuse)?) {
        Ok(held) => held,
        Err((mut file, TryLockError::WouldBlock)) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
            let pid = if read { pid.trim().to_owned() } else { "unknown".to_owned() };
            return Err(StoreError::InUse { path: directory.to_owned(), pid });
        }
        Err((_, TryLockError::Error(error))) => return Err(refuse(error)),
    };
    if let Some(mut note) = note {
        match note.set_len(0).and_then(|()| writeln!(note, "{}", std::process::id())) {
            Err(error) if !cannot_take_more(&error) => return Err(refuse(error)),
            _ => {}
        }
    }
    Ok(held)
}

/// Whether the lock's file was removed, or is another one by now.
pub(super) fn is_gone(directory: &Path, lock: &HeldLock) -> bool {
    let id = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
    match (std::fs::metadata(directory.join(LOCK_FILE)), lock.file().metadata()) {
        (Ok(there), Ok(held)) => id(there) != id(held),
        (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
        (_, Err(_)) => false,
    }
}

/// Whether the file system is the matter, not who asks.
fn cannot_take_more(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}
