//! A start that goes on without a damaged state: it is kept aside, and the newest of the history takes its place.

use std::path::{Path, PathBuf};

use super::files::{Files, RealFiles, put};
use super::history::History;
use super::kept::Kept;
use super::{STATE_FILE, Store, StoreError, directory, error, random_seed, read};

/// What became of a damaged state at a start that may go on without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What is the matter with it.
    pub why: String,
    /// Where it was put aside; `None` = there was no file.
    pub aside: Option<PathBuf>,
    /// The state of the history that took its place; `None` = none, nothing is wanted yet.
    pub from: Option<u64>,
    /// A newer state of the history that was passed over: it was on trial.
    pub passed_over: Option<u64>,
}

impl Store {
    /// [`Store::open`] for a start that may go on without a damaged state: that is copied to `state.json.damaged-N`, and the
    /// newest state of the history that was for good takes its place, or, where there is none, an empty one if `or_empty`.
    /// What was on trial counts as taken back. Where all that is left was on trial, the newest of that is taken.
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
        let chosen = history.newest_for_good(files.as_ref()).or_else(|| newest.clone());
        if chosen.is_none() && !or_empty {
            return Err(damage);
        }
        let why = match damage {
            StoreError::Unreadable { path, line, column, why, .. } => {
                format!("{}{}: {why}", path.display(), error::place(line, column))
            }
            other => other.to_string(),
        };
        let aside = set_aside(files.as_ref(), directory)?;
        let from = chosen.as_ref().map(|entry| entry.number);
        let over = newest.filter(|entry| entry.on_trial && Some(entry.number) != from);
        let passed_over = over.as_ref().map(|entry| entry.number);
        let kept = match chosen {
            Some(entry) => {
                let taken_back = over.and_then(|over| over.applied);
                let taken_back = taken_back.filter(|file| entry.applied.as_ref() != Some(file));
                Kept { taken_back, ..Kept::of(entry.desired, entry.applied) }
            }
            None => Kept::empty(random_seed()?),
        };
        let mut store = Self::holding(directory, files, kept, history, lock);
        store.write(store.kept.clone())?;
        Ok((store, Some(Recovered { why, aside, from, passed_over })))
    }
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
