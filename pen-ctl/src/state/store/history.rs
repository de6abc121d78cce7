//! The desired states from before, each in a file of its own: `history/NUMBER.json`. Whatever is wrong with one of
//! them, or with all, keeps nobody from starting or changing anything.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{Files, LARGEST, put};
use super::kept::complaint;
use crate::state::desired::Desired;
use crate::state::difference;
use crate::state::revision::Revision;
use crate::state::validate;

/// States kept beside the one that holds now.
pub const STATES_BEFORE: usize = 10;
/// Changes at run time by the same user, each at most so many seconds after the one before, make one state.
pub const BURST_SECONDS: u64 = 600;

const DIRECTORY: &str = "history";
const FORMAT: u32 = 1;

/// A state of the history: what came of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    format: u32,
    /// Counts from 1 and is never used twice while the history lasts.
    pub number: u64,
    /// When it came about, in Unix seconds; of several changes, the last.
    pub time: u64,
    /// The user id of whoever made it so, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// How it came about.
    pub cause: Cause,
    /// How many changes it holds.
    pub changes: u64,
    /// What is other than in the state before, in a few words.
    pub summary: String,
    /// SHA-256 of the file that was applied last then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// It waited to be confirmed, and nobody did as long as it held: no start goes on from it by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_trial: bool,
    /// The state.
    pub desired: Desired,
}

/// How a state came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A controller found it when it started.
    Found,
    /// It was changed at run time.
    Changed,
    /// This file was applied.
    Applied(String),
    /// The state of that number was restored.
    Restored(u64),
    /// What was applied on trial was not confirmed.
    RolledBack(String),
}

/// What is known of a change when it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Now, in Unix seconds.
    pub time: u64,
    /// Who made it.
    pub user: Option<u32>,
    /// How it came about.
    pub cause: Cause,
}

/// What is known of an entry without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    revision: Revision,
    on_trial: bool,
}

impl Known {
    fn of(entry: &Entry) -> Self {
        Self { revision: Revision::of(&entry.desired), on_trial: entry.on_trial }
    }
}

/// A state that is to be in the history.
#[derive(Clone, Debug)]
pub(super) struct Present<'a> {
    /// The state.
    pub(super) desired: &'a Desired,
    /// Its name.
    pub(super) revision: Revision,
    /// SHA-256 of the file that was applied last.
    pub(super) applied: Option<&'a str>,
    /// It waits to be confirmed.
    pub(super) on_trial: bool,
}

/// What the history is known to hold.
#[derive(Debug)]
pub(super) struct History {
    directory: PathBuf,
    /// Bytes that a file may have.
    pub(super) largest: u64,
    /// By number; or why it cannot be read.
    entries: BTreeMap<u64, Result<Known, String>>,
    /// The two newest, once they were needed: to read them with each change takes longer than the change.
    recent: BTreeMap<u64, Entry>,
}

impl History {
    /// Looks up what is there. What cannot be read is there, too: as a number and a reason.
    pub(super) fn open(files: &dyn Files, state_directory: &Path) -> Self {
        let (directory, entries, recent) =
            (state_directory.join(DIRECTORY), BTreeMap::new(), BTreeMap::new());
        let mut history = Self { directory, largest: LARGEST, entries, recent };
        let names = files.names(&history.directory).unwrap_or_default();
        for number in names.iter().filter_map(|name| number_in(name)) {
            let known = history.read(files, number).map(|entry| Known::of(&entry));
            history.entries.insert(number, known);
        }
        history
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Numbers, the newest first.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.entries.keys().rev().copied()
    }

    /// Reads one, by the rules that the state obeys; else says why it cannot be had.
    pub(super) fn read(&self, files: &dyn Files, number: u64) -> Result<Entry, String> {
        let path = self.directory.join(file_name(number));
        let found =
            files.read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let bytes = found.ok_or_else(|| format!("{} is not there", path.display()))?;
        let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| {
            format!("{}:{}:{}: {}", path.display(), error.line(), error.column(), complaint(&error))
        })?;
        let wrong = |why: String| format!("{}: {why}", path.display());
        if entry.format != FORMAT || entry.number != number {
            return Err(wrong(format!("it is number {} in format {}", entry.number, entry.format)));
        }
        // It may be from when something else moved packets.
        validate::fits(&entry.desired).map_err(|error| wrong(error.message))?;
        Ok(entry)
    }

    /// The newest that can be read.
    pub(super) fn newest(&self, files: &dyn Files) -> Option<Entry> {
        self.numbers().find_map(|number| self.read(files, number).ok())
    }

    /// The newest that can be read of those that were for good.
    pub(super) fn newest_for_good(&self, files: &dyn Files) -> Option<Entry> {
        self.numbers().filter_map(|number| self.read(files, number).ok()).find(|entry| !entry.on_trial)
    }

    /// Makes a state the newest of the history, unless it is that already; what is too old is removed. Several changes
    /// at run time in a row make one state.
    pub(super) fn record(&mut self, files: &dyn Files, present: Present, note: &Note) -> io::Result<()> {
        let Present { desired, revision, applied, on_trial } = present;
        let known = Known { revision, on_trial };
        if let Some((number, Ok(newest))) = self.entries.last_key_value()
            && newest.revision == known.revision
        {
            return match newest.on_trial == on_trial {
                true => Ok(()),
                false => self.mark(files, *number, on_trial),
            };
        }
        let newest = self.entries.keys().next_back().copied();
        let before =
            newest.and_then(|newest| self.entries.range(..newest).next_back()).map(|(number, _)| *number);
        for number in [before, newest].into_iter().flatten() {
            self.recall(files, number, desired);
        }
        let recent = |number: Option<u64>| number.and_then(|number| self.recent.get(&number));
        let (number, changes, base) = match (recent(newest), recent(before)) {
            (Some(last), Some(before)) if last.on_trial == on_trial && continues(last, note) => {
                if before.desired == *desired {
                    let (last, before, was_on_trial) = (last.number, before.number, before.on_trial);
                    self.remove(files, last)?;
                    return match was_on_trial == on_trial {
                        true => Ok(()),
                        false => self.mark(files, before, on_trial),
                    };
                }
                (last.number, last.changes + 1, Some(&before.desired))
            }
            (last, _) => (newest.map_or(1, |newest| newest + 1), 1, last.map(|last| &last.desired)),
        };
        let entry = Entry {
            format: FORMAT,
            number,
            time: note.time,
            user: note.user,
            cause: note.cause.clone(),
            changes,
            summary: match base {
                Some(base) => difference::summary(&difference::between(base, desired)),
                None => "the first state of the history".to_owned(),
            },
            applied: applied.map(str::to_owned),
            on_trial,
            desired: desired.clone(),
        };
        self.write(files, &entry)?;
        self.entries.insert(number, Ok(known));
        self.keep(entry);
        self.prune(files)
    }

    /// Reads one into `recent`, where it is not yet, unless it cannot be read. Lists that it has in common with a state take
    /// no room of their own.
    fn recall(&mut self, files: &dyn Files, number: u64, like: &Desired) {
        if !self.recent.contains_key(&number)
            && let Ok(mut entry) = self.read(files, number)
        {
            entry.desired.share_lists(like);
            self.keep(entry);
        }
    }

    fn keep(&mut self, entry: Entry) {
        self.recent.insert(entry.number, entry);
        while self.recent.len() > 2 {
            self.recent.pop_first();
        }
    }

    /// What was on trial was confirmed, or the other way round.
    fn mark(&mut self, files: &dyn Files, number: u64, on_trial: bool) -> io::Result<()> {
        let entry = self.read(files, number).map_err(io::Error::other)?;
        let entry = Entry { on_trial, ..entry };
        self.write(files, &entry)?;
        self.entries.insert(number, Ok(Known::of(&entry)));
        self.recent.remove(&number);
        Ok(())
    }

    fn write(&self, files: &dyn Files, entry: &Entry) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(entry)?;
        text.push(b'\n');
        if text.len() as u64 > self.largest {
            let name = file_name(entry.number);
            return Err(io::Error::other(format!(
                "{name} would have {} bytes, more than any state",
                text.len()
            )));
        }
        let known = files.names(&self.directory)?;
        if known.is_empty() {
            files.make_directory(&self.directory)?;
            if let Some(parent) = self.directory.parent() {
                files.sync_directory(parent)?;
            }
        }
        put(files, &self.directory, &file_name(entry.number), &text).map_err(|error| error.source)
    }

    /// What was done in a burst was undone in it.
    fn remove(&mut self, files: &dyn Files, number: u64) -> io::Result<()> {
        files.remove(&self.directory.join(file_name(number)))?;
        self.entries.remove(&number);
        self.recent.remove(&number);
        files.sync_directory(&self.directory)
    }

    /// Removes the oldest. One that cannot be removed stays and is said, and the next oldest goes: the history keeps its
    /// size.
    fn prune(&mut self, files: &dyn Files) -> io::Result<()> {
        let too_many = self.entries.len().saturating_sub(STATES_BEFORE + 1);
        let oldest: Vec<u64> =
            self.entries.keys().take(self.entries.len().saturating_sub(1)).copied().collect();
        let (mut removed, mut trouble) = (0, Ok(()));
        for number in oldest {
            if removed == too_many {
                break;
            }
            let path = self.directory.join(file_name(number));
            match files.remove(&path) {
                Ok(()) => {
                    self.entries.remove(&number);
                    removed += 1;
                }
                Err(error) => {
                    let why = format!("{} is too old and cannot be removed: {error}", path.display());
                    trouble = Err(io::Error::new(error.kind(), why));
                }
            }
        }
        trouble
    }
}

fn continues(last: &Entry, note: &Note) -> bool {
    let soon = note.time.saturating_sub(last.time) <= BURST_SECONDS;
    last.cause == Cause::Changed && note.cause == Cause::Changed && last.user == note.user && soon
}

fn file_name(number: u64) -> String {
    format!("{number}.json")
}

/// The number in a name, if it is one of ours.
fn number_in(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".json")?.parse().ok()?;
    // One that leaves no number for the next was never given.
    (file_name(number) == name && number < u64::MAX).then_some(number)
}
