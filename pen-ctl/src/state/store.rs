//! Keeps the desired state on disk: what was answered "ok" survives a power cut, and one controller owns it.

mod directory;
mod error;
mod files;
mod history;
mod kept;

use std::cell::OnceCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) use directory::prepare;
pub use error::StoreError;
pub use files::{Files, RealFiles};
pub use history::{BURST_SECONDS, Cause, Entry, Note, STATES_BEFORE};
pub use kept::Trial;

use super::desired::Desired;
use super::revision::Revision;
use crate::metrics::timings::Timings;
use files::{NotPut, put};
use history::History;
use kept::Kept;

const STATE_FILE: &str = "state.json";

/// Takes the lock of a state directory without reading what is in it: damaged state must not keep anyone from stopping.
/// The lock lasts as long as the file is open.
///
/// # Errors
/// The directory is somebody else's or not writable, or a controller holds the lock.
pub fn lock_unread(directory: &Path) -> Result<File, StoreError> {
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
    timings: Timings,
    /// The name of the desired state in `kept`, once somebody asked for it.
    revision: OnceCell<Revision>,
    lock: File,
}

/// What became of a damaged state at a start that may go on without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What is the matter with it.
    pub why: String,
    /// Where it was put aside; `None` = there was no file.
    pub aside: Option<PathBuf>,
    /// The state of the history that took its place; `None` = none, nothing is wanted yet.
    pub from: Option<u64>,
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
        let directory = directory.to_owned();
        let mut store = Self {
            directory,
            files,
            kept,
            fresh,
            unsettled: None,
            history,
            timings: Timings::default(),
            revision: OnceCell::new(),
            lock,
        };
        if fresh {
            store.write(store.kept.clone())?;
        }
        Ok(store)
    }

    /// The same for a start that may go on without a damaged state: that is copied to `state.json.damaged-N`, and the
    /// newest state of the history takes its place, or, where there is none, an empty one if `or_empty`.
    ///
    /// # Errors
    /// As [`Store::open`]; the damaged state is as it was then.
    pub fn open_or_recover(
        directory: &Path,
        or_empty: bool,
    ) -> Result<(Self, Option<Recovered>), StoreError> {
        Self::open_or_recover_with(directory, or_empty, || Box::new(RealFiles))
    }

    /// The same on a file system of the caller's choice.
    pub fn open_or_recover_with(
        directory: &Path,
        or_empty: bool,
        files: impl Fn() -> Box<dyn Files>,
    ) -> Result<(Self, Option<Recovered>), StoreError> {
        let damage = match Self::open_with(directory, files()) {
            Err(damage @ StoreError::Unreadable { .. }) => damage,
            other => return Ok((other?, None)),
        };
        let files = files();
        let lock = directory::lock(directory)?;
        let history = History::open(files.as_ref(), directory);
        let newest = history.newest(files.as_ref());
        if newest.is_none() && !or_empty {
            return Err(damage);
        }
        let why = match damage {
            StoreError::Unreadable { path, line, column, why, .. } => {
                format!("{}{}: {why}", path.display(), error::place(line, column))
            }
            other => other.to_string(),
        };
        let aside = set_aside(files.as_ref(), directory)?;
        let from = newest.as_ref().map(|entry| entry.number);
        let kept = match newest {
            Some(entry) => Kept::of(entry.desired, entry.applied),
            None => Kept::empty(random_seed()?),
        };
        let directory = directory.to_owned();
        let mut store = Self {
            directory,
            files,
            kept,
            fresh: false,
            unsettled: None,
            history,
            timings: Timings::default(),
            revision: OnceCell::new(),
            lock,
        };
        store.write(store.kept.clone())?;
        Ok((store, Some(Recovered { why, aside, from })))
    }

    /// The desired state in a directory that nobody may be using: for looking, without the lock. `None` where there
    /// is none.
    pub fn peek(directory: &Path) -> Result<Option<Desired>, StoreError> {
        let Some(bytes) = read(&RealFiles, directory)? else { return Ok(None) };
        Ok(Some(Kept::parse(&directory.join(STATE_FILE), &bytes)?.desired))
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
        self.write(Kept { desired, ..self.kept.clone() })
    }

    /// The same for a change that is to outlive the trial that goes on: `before`, what a rollback brings, is replaced
    /// together with it.
    pub fn replace_beyond_trial(&mut self, desired: Desired, before: Desired) -> Result<(), StoreError> {
        let trial = self.kept.trial.clone().map(|trial| Trial { before, ..trial });
        self.write(Kept { desired, trial, ..self.kept.clone() })
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
        self.write(Kept { desired, applied, taken_back, trial, ..self.kept.clone() })
    }

    /// The same for an earlier state and the digest of the file that was applied last then.
    pub fn replace_by_earlier(
        &mut self,
        desired: Desired,
        applied: Option<String>,
        trial: Option<TrialTime>,
    ) -> Result<(), StoreError> {
        let trial = trial.map(|time| self.trial_from_now(time));
        self.write(Kept { trial, ..self.kept.back_to(desired, applied) })
    }

    fn trial_from_now(&self, TrialTime { what, until, seconds }: TrialTime) -> Trial {
        let Kept { desired, applied, .. } = self.kept.clone();
        Trial { what, until, seconds, before: desired, before_applied: applied }
    }

    /// What waits to be confirmed.
    pub fn trial(&self) -> Option<&Trial> {
        self.kept.trial.as_ref()
    }

    /// What is on trial stays.
    pub fn confirm(&mut self) -> Result<(), StoreError> {
        self.write(Kept { trial: None, ..self.kept.clone() })
    }

    /// Brings back the state from before what is on trial; gives what that was. It holds even where it cannot be written:
    /// a trial on disk whose time is up means the same.
    pub fn roll_back(&mut self) -> Option<Trial> {
        let trial = self.kept.trial.clone()?;
        let back = self.kept.rolled_back()?;
        if let Err(NotPut { source, .. }) = self.put(&back) {
            self.unsettled = Some(self.not_written(source).to_string());
        } else {
            self.unsettled = None;
        }
        self.keep(back);
        Some(trial)
    }

    /// Writes again what could not be written; says why if it still cannot.
    pub fn settle(&mut self) -> Option<&str> {
        if self.unsettled.is_some() {
            self.unsettled = match self.put(&self.kept) {
                Ok(()) => None,
                Err(NotPut { source, .. }) => Some(self.not_written(source).to_string()),
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
        let Kept { desired, applied, .. } = &self.kept;
        self.history
            .record(self.files.as_ref(), desired, applied.as_deref(), note)
            .map_err(StoreError::Record)
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

    /// Makes `kept` what holds, here and on disk; or nothing, when that fails: if the new file may be there, the old one
    /// is put back, and where not even that works, later ([`Store::settle`]).
    fn write(&mut self, kept: Kept) -> Result<(), StoreError> {
        match self.put(&kept) {
            Ok(()) => {
                self.keep(kept);
                self.unsettled = None;
                Ok(())
            }
            Err(NotPut { source, unsure }) => {
                let error = self.not_written(source);
                if unsure {
                    self.unsettled = Some(error.to_string());
                    self.settle();
                }
                Err(error)
            }
        }
    }

    fn put(&self, kept: &Kept) -> Result<(), NotPut> {
        let begun = Instant::now();
        let outcome = put(self.files.as_ref(), &self.directory, STATE_FILE, &kept.to_text());
        self.timings.state_written(begun.elapsed());
        outcome
    }

    fn not_written(&self, source: std::io::Error) -> StoreError {
        StoreError::Write { path: self.directory.join(STATE_FILE), source }
    }
}

/// How long a trial lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialTime {
    /// What is applied on trial.
    pub what: String,
    /// When it is rolled back, in Unix seconds.
    pub until: u64,
    /// How far off that is.
    pub seconds: u64,
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

fn read(files: &dyn Files, directory: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    files.read(&directory.join(STATE_FILE)).map_err(|error| StoreError::Directory {
        path: directory.to_owned(),
        why: format!("{STATE_FILE} cannot be read: {error}"),
        hint: "run as the user the state belongs to",
    })
}

/// Copies a damaged state file to a name that is free. It stays where it is until another takes its place, so that no
/// start between takes its absence for a beginning.
fn set_aside(files: &dyn Files, directory: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Some(bytes) = read(files, directory)? else { return Ok(None) };
    let copy = || {
        let names = files.names(directory)?;
        let free = |name: &String| !names.contains(name);
        let name = (1u32..).map(|number| format!("{STATE_FILE}.damaged-{number}")).find(free);
        let name = name.unwrap_or_default();
        put(files, directory, &name, &bytes).map_err(|error| error.source)?;
        Ok(directory.join(name))
    };
    let copied: std::io::Result<PathBuf> = copy();
    copied.map(Some).map_err(|source| StoreError::Write { path: directory.join(STATE_FILE), source })
}

fn random_seed() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Random(error.to_string()))
}

#[cfg(test)]
mod tests;
