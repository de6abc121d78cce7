//! The states from before: recorded with each change, listed, brought back.

use super::Controller;
use super::file::Source;
use crate::api::configuration::{ConfigDocument, HistoryDocument, How, StateDetail, StateDocument};
use crate::api::{ApiError, Reply, Request};
use crate::config::export::to_toml;
use crate::state::difference;
use crate::state::revision::Revision;
use crate::state::store::{Cause, Entry, Note};
use crate::state::text;

impl Controller {
    /// Makes the state that holds the newest of the history, if it is another. That this failed is told by `status`:
    /// what was changed holds all the same.
    pub(super) fn record(&mut self, user: Option<u32>, cause: Cause) {
        let note = Note { time: self.clock.unix_seconds(), user, cause };
        let trouble = self.store.record(&note).err().map(|error| error.to_string());
        if let Some(trouble) = trouble.as_ref().filter(|_| trouble != self.history_trouble) {
            tracing::warn!("{trouble}");
        }
        self.history_trouble = trouble;
    }

    /// How a state comes about that this request makes.
    pub(super) fn cause(&self, request: &Request) -> Cause {
        match request {
            Request::Apply { file, .. } => Cause::Applied(file.clone()),
            Request::HistoryRestore { number, .. } => Cause::Restored(*number),
            Request::Reload => {
                let file = self.options.file.as_ref().map(|file| file.display().to_string());
                Cause::Applied(file.unwrap_or_default())
            }
            _ => Cause::Changed,
        }
    }

    /// The desired state as a file.
    pub(super) fn export(&self) -> Reply {
        Reply::Config(ConfigDocument {
            revision: self.revision(),
            toml: to_toml(self.store.desired(), Some(self.kind())),
        })
    }

    pub(super) fn history(&self) -> Reply {
        let (now, all) = (self.revision(), self.store.history());
        let document = |(index, (number, entry)): (usize, (u64, Result<Entry, String>))| match entry {
            Ok(entry) => state(&entry, index == 0 && Revision::of(&entry.desired) == now),
            Err(why) => damaged(number, why),
        };
        Reply::History(HistoryDocument { states: all.into_iter().enumerate().map(document).collect() })
    }

    pub(super) fn history_show(&self, number: u64) -> Result<Reply, ApiError> {
        let entry = self.store.earlier(number)?;
        let current = Revision::of(&entry.desired) == self.revision();
        Ok(Reply::State(Box::new(StateDetail {
            state: state(&entry, current),
            toml: to_toml(&entry.desired, None),
            differences: difference::between(self.store.desired(), &entry.desired),
        })))
    }

    /// Brings a state back, with the file that was applied then; a drain whose time was up meanwhile stays a drain.
    pub(super) fn history_restore(&mut self, number: u64, how: How) -> Result<Reply, ApiError> {
        let Entry { mut desired, applied, .. } = self.store.earlier(number)?;
        let now = self.clock.unix_seconds();
        for backend in desired.services.iter_mut().flat_map(|service| &mut service.backends) {
            backend.remove_at = backend.remove_at.filter(|at| *at > now);
        }
        self.replace_all(&format!("state {number}"), desired, Source::Earlier(applied), how)
    }
}

fn state(entry: &Entry, current: bool) -> StateDocument {
    let on_trial = if entry.on_trial { " on trial" } else { "" };
    StateDocument {
        number: entry.number,
        current,
        revision: Some(Revision::of(&entry.desired)),
        time: text::timestamp(entry.time),
        user: entry.user,
        cause: match &entry.cause {
            Cause::Found => "found at a start".to_owned(),
            Cause::Changed => "changed at run time".to_owned(),
            Cause::Applied(file) => format!("{} applied{on_trial}", file.escape_debug()),
            Cause::Restored(number) => format!("state {number} restored{on_trial}"),
            Cause::RolledBack(what) => format!("{} rolled back", what.escape_debug()),
        },
        changes: entry.changes,
        summary: entry.summary.clone(),
        damaged: None,
    }
}

fn damaged(number: u64, why: String) -> StateDocument {
    StateDocument {
        number,
        current: false,
        revision: None,
        time: String::new(),
        user: None,
        cause: String::new(),
        changes: 0,
        summary: String::new(),
        damaged: Some(why),
    }
}
