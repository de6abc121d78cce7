//! Keeps the desired state on disk: what was answered "ok" survives a power cut, and one controller owns it.

mod directory;
mod error;
mod files;
mod history;
mod kept;
mod recovery;
mod trials;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) use directory::prepare;
pub use error::StoreError;
pub use files::{Files, RealFiles};
pub use history::{BURST_SECONDS, Cause, Entry, Note, STATES_BEFORE};
pub use kept::Trial;
pub use recovery::Recovered;
pub use trials::TrialTime;

use super::desired::Desired;
use super::revision::Revision;
use crate::dataplane::Kind;
use crate::held_lock::HeldLock;
use crate::metrics::timings::Timings;
use files::{LARGEST, NotPut, put};
use history::{History, Present};
use kept::Kept;

const STATE_FILE: &str = "state.json";
/// Bytes that what is asked for leaves free in a file: for what pen itself adds, as the id of the pins, or a note in the
/// history. Where the state is as large as it may be, none of that fails.
const ROOM: u64 = 64 << 10;

/// Takes the lock of a state directory without reading what is in it: damaged state must not keep anyone from stopping.
///
/// # Errors
/// The directory is somebody else's or not writable, or a controller holds the lock.
pub fn lock_unread(directory: &Path) -> Result<HeldLock, StoreError> {
    prepare(directory)?;
    directory::lock(directory)
}

/// The desired state and what goes with it, in memory as on disk. Holds the lock for as long as it lives.
pub struct Store {
    directory: PathBuf,
    files: Box<dyn Files>,
    kept: Kept,
    fresh: bool,
    /// The file may say something else than `kept`, because writing failed: it is to be written again.
    unsettled: Option<String>,
    history: History,
    /// Bytes that a file may have.
    largest: u64,
    timings: Timings,
    /// The name of the desired state in `kept`, once somebody asked for it.
    revision: OnceCell<Revision>,
    lock: HeldLock,
}

impl Store {
    /// Takes the lock of a state directory (made if missing, 0700) and reads what is in it.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, Box::new(RealFiles))
    }

    /// The same on a file system of the caller's choice.
    pub fn open_with(directory: &Path, files: Box<dyn Files>) -> Result<Self, StoreError> {
        prepare(directory)?;
        let lock = directory::lock(directory)?;
        let history = History::open(files.as_ref(), directory);
        let path = directory.join(STATE_FILE);
        let (kept, fresh) = match read(files.as_ref(), directory)? {
            Some(bytes) => (Kept::parse(&path, &bytes)?, false),
            None if history.is_empty() => (Kept::empty(random_seed()?), true),
            None => {
                let why = "it is gone, although there is a history of states beside it".to_owned();
                return Err(kept::nowhere(&path, why, kept::RECOVER));
            }
        };
        let mut store = Self::holding(directory, files, kept, history, lock);
        store.fresh = fresh;
        if fresh {
            store.write(store.kept.clone())?;
        }
        Ok(store)
    }

    /// With this in memory, whatever is on disk.
    fn holding(
        directory: &Path,
        files: Box<dyn Files>,
        kept: Kept,
        history: History,
        lock: HeldLock,
    ) -> Self {
        let (timings, revision) = (Timings::default(), OnceCell::new());
        let directory = directory.to_owned();
        let (fresh, unsettled, largest) = (false, None, LARGEST);
        Self { directory, files, kept, fresh, unsettled, history, largest, timings, revision, lock }
    }

    /// The desired state in a directory that nobody may be using, and what moved packets last: for looking, without
    /// the lock. `None` where there is none.
    pub fn peek(directory: &Path) -> Result<Option<(Desired, Option<Kind>)>, StoreError> {
        let Some(bytes) = read(&RealFiles, directory)? else { return Ok(None) };
        let kept = Kept::parse(&directory.join(STATE_FILE), &bytes)?;
        let kind = kept.kind();
        Ok(Some((kept.desired, kind)))
    }

    /// The name of what the administrator wants.
    pub fn revision(&self) -> Revision {
        self.revision.get_or_init(|| Revision::of(&self.kept.desired)).clone()
    }

    fn keep(&mut self, kept: Kept) {
        self.kept = kept;
        self.revision = OnceCell::new();
    }

    /// Where it writes down how long it takes to make a state durable.
    pub fn measure(&mut self, timings: Timings) {
        self.timings = timings;
    }

    /// What the administrator wants.
    pub fn desired(&self) -> &Desired {
        &self.kept.desired
    }

    /// Makes another desired state durable. When this fails the old one holds, here and on disk.
    pub fn replace(&mut self, desired: Desired) -> Result<(), StoreError> {
        self.write_asked(Kept { desired, ..self.kept.clone() })
    }

    /// The same for the contents of a file, together with its digest; on trial until `trial` says.
    pub fn replace_from_file(
        &mut self,
        desired: Desired,
        digest: &str,
        trial: Option<TrialTime>,
    ) -> Result<(), StoreError> {
        let taken_back = self.kept.taken_back.clone().filter(|taken_back| taken_back != digest);
        let applied = Some(digest.to_owned());
        let trial = trial.map(|time| self.trial_from_now(time));
        self.write_asked(Kept { desired, applied, taken_back, trial, ..self.kept.clone() })
    }

    /// The same for an earlier state and the digest of the file that was applied last then.
    pub fn replace_by_earlier(
        &mut self,
        desired: Desired,
        applied: Option<String>,
        trial: Option<TrialTime>,
    ) -> Result<(), StoreError> {
        let trial = trial.map(|time| self.trial_from_now(time));
        self.write_asked(Kept { trial, ..self.kept.back_to(desired, applied) })
    }

    /// Writes again what could not be written; says why if it still cannot.
    pub fn settle(&mut self) -> Option<&str> {
        if self.unsettled.is_some() {
            self.unsettled = match self.put(&self.kept.to_text()) {
                Ok(()) => None,
                Err(NotPut { source, .. }) => Some(self.lags_behind(&source)),
            };
        }
        self.unsettled()
    }

    /// Why the file may say something else than what holds, if that is so.
    pub fn unsettled(&self) -> Option<&str> {
        self.unsettled.as_deref()
    }

    /// The digest of the file applied last.
    pub fn applied(&self) -> Option<&str> {
        self.kept.applied.as_deref()
    }

    /// The digest of a file that was applied and taken back since.
    pub fn taken_back(&self) -> Option<&str> {
        self.kept.taken_back.as_deref()
    }

    /// Makes the state that holds the newest of the history; does nothing if it is.
    ///
    /// # Errors
    /// It could not be written: the state holds all the same, and the next time records what is other by then.
    pub fn record(&mut self, note: &Note) -> Result<(), StoreError> {
        let revision = self.revision();
        let Kept { desired, applied, trial, .. } = &self.kept;
        let (applied, on_trial) = (applied.as_deref(), trial.is_some());
        let present = Present { desired, revision, applied, on_trial };
        self.history.record(self.files.as_ref(), present, note).map_err(StoreError::Record)
    }

    /// The states of the history, the newest first; of those that cannot be read, the number and why.
    pub fn history(&self) -> Vec<(u64, Result<Entry, String>)> {
        let read = |number| (number, self.history.read(self.files.as_ref(), number));
        self.history.numbers().map(read).collect()
    }

    /// A state of the history.
    pub fn earlier(&self, number: u64) -> Result<Entry, StoreError> {
        match self.history.numbers().any(|known| known == number) {
            true => self.history.read(self.files.as_ref(), number).map_err(StoreError::History),
            false => Err(StoreError::History(format!("there is no state {number} in the history"))),
        }
    }

    /// Whether there is a state in a directory, good or not.
    pub fn exists(directory: &Path) -> bool {
        directory.join(STATE_FILE).exists()
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
    pub fn dataplane(&self) -> Option<Kind> {
        self.kept.kind()
    }

    /// Remembers what moves packets; writes only when that changed.
    pub fn set_dataplane(&mut self, kind: Kind) -> Result<(), StoreError> {
        match self.kept.kind() == Some(kind) {
            true => Ok(()),
            false => self.write(Kept { dataplane: Some(kind.name().to_owned()), ..self.kept.clone() }),
        }
    }

    /// [`Store::write`] of what somebody asked for: it leaves [`ROOM`].
    fn write_asked(&mut self, kept: Kept) -> Result<(), StoreError> {
        self.write_within(kept, self.largest.saturating_sub(ROOM))
    }

    /// Makes `kept` what holds, here and on disk; or nothing, when that fails: if the new file may be there, the old one
    /// is put back, and where not even that works, later ([`Store::settle`]).
    fn write(&mut self, kept: Kept) -> Result<(), StoreError> {
        self.write_within(kept, self.largest)
    }

    /// The same, unless the file would have more than `most` bytes: it could not be read again.
    fn write_within(&mut self, kept: Kept, most: u64) -> Result<(), StoreError> {
        self.keep_lock()?;
        let text = kept.to_text();
        let bytes = text.len() as u64;
        if bytes > most {
            let (path, on_trial) = (self.directory.join(STATE_FILE), kept.trial.is_some());
            return Err(StoreError::TooLarge { path, bytes, most, on_trial });
        }
        match self.put(&text) {
            Ok(()) => {
                self.keep(kept);
                self.unsettled = None;
                Ok(())
            }
            Err(NotPut { source, unsure }) => {
                if unsure {
                    self.unsettled = Some(self.lags_behind(&source));
                    self.settle();
                }
                Err(self.not_written(source))
            }
        }
    }

    /// Takes the lock anew where somebody removed its file: it keeps nobody away any more. Another controller that was
    /// faster has the directory now.
    fn keep_lock(&mut self) -> Result<(), StoreError> {
        if directory::is_gone(&self.directory, &self.lock) {
            self.lock = directory::lock(&self.directory)?;
        }
        Ok(())
    }

    fn put(&self, text: &[u8]) -> Result<(), NotPut> {
        let begun = Instant::now();
        let outcome = put(self.files.as_ref(), &self.directory, STATE_FILE, text);
        self.timings.state_written(begun.elapsed());
        outcome
    }

    /// What holds without being on disk.
    fn lags_behind(&self, source: &std::io::Error) -> String {
        let path = self.directory.join(STATE_FILE);
        format!(
            "state file {} lags behind what holds, it cannot be written: {source}; it is tried again: free space or mend \
             the disk",
            path.display()
        )
    }

    fn not_written(&self, source: std::io::Error) -> StoreError {
        StoreError::Write { path: self.directory.join(STATE_FILE), source }
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

fn read(files: &dyn Files, directory: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    files.read(&directory.join(STATE_FILE)).map_err(|error| StoreError::Directory {
        path: directory.to_owned(),
        why: format!("{STATE_FILE} cannot be read: {error}"),
        hint: not_read(&error),
    })
}

/// What to do about a state file that cannot be read.
fn not_read(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{IsADirectory, Other, PermissionDenied};
    match error.kind() {
        PermissionDenied => "run as the user the state belongs to",
        // Too large, or no file.
        IsADirectory | Other => {
            "move it out of there; `pen-ctl run --adopt` then goes on from the newest state in the history, with -c FILE from \
             that file"
        }
        _ => "mend the disk (`dmesg` says what is wrong with it), or restore the directory from a backup",
    }
}

fn random_seed() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Random(error.to_string()))
}

#[cfg(test)]
mod tests;
