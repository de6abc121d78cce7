//! The configuration file's part in the desired state: which of the two wins.

use std::path::Path;

use super::Controller;
use crate::api::configuration::{AppliedDocument, How};
use crate::api::event::Kind;
use crate::api::{ApiError, Reply};
use crate::config::{self, Config};
use crate::dataplane;
use crate::journal::Note;
use crate::named_files;
use crate::own_address;
use crate::shut_out;
use crate::state::desired::Desired;
use crate::state::store::{self, Cause, Store};
use crate::state::{difference, validate};

/// Where a desired state comes from, and so what is remembered beside it.
pub(super) enum Source {
    /// A file with this digest.
    File(String),
    /// The history, from when the file with this digest was the last.
    Earlier(Option<String>),
}

/// Whether a start applies a file: one that is other than the one applied last, that was not taken back since, and
/// only while nothing is on trial.
pub fn applies_at_start(store: &Store, digest: &str) -> bool {
    store.trial().is_none() && ![store.applied(), store.taken_back()].contains(&Some(digest))
}

/// Applies a file at the start of a controller, see [`applies_at_start`]; else durable state stands, with all that was
/// changed at run time. Says whether it did. `now` in Unix seconds.
///
/// # Errors
/// The file cannot be read or is wrong, or the state cannot be written: nothing changed.
pub fn apply_at_start(
    store: &mut Store,
    path: &Path,
    kind: dataplane::Kind,
    now: u64,
) -> Result<bool, ApiError> {
    let name = path.display().to_string();
    let config = Config::parse_for(&name, &config::read(path)?, Some(kind))?;
    if !applies_at_start(store, config.digest()) {
        return Ok(false);
    }
    let desired = config.onto(store.desired())?;
    validate::desired(&desired, kind)?;
    store.replace_from_file(desired, config.digest(), None)?;
    // The history lags behind if this fails; the controller tries again and says so.
    let _ = store.record(&store::Note { time: now, user: None, cause: Cause::Applied(name) });
    Ok(true)
}

impl Controller {
    /// Makes a file's text the desired state.
    pub(super) fn apply_text(&mut self, file: &str, text: &str, how: How) -> Result<Reply, ApiError> {
        let config = Config::parse_for(file, text, Some(self.kind()))?;
        let desired = config.onto(self.store.desired())?;
        let mut reply = self.replace_all(file, desired, Source::File(config.digest().to_owned()), how)?;
        if let (Reply::Applied(document), Some(warning)) = (&mut reply, self.other_plane(&config)) {
            document.warnings.push(warning);
        }
        Ok(reply)
    }

    /// Makes another desired state the one that holds: for good, on trial, or only to see what would be other.
    pub(super) fn replace_all(
        &mut self,
        what: &str,
        desired: Desired,
        source: Source,
        how: How,
    ) -> Result<Reply, ApiError> {
        validate::desired(&desired, self.kind())?;
        own_address::refuse(self.store.desired(), &desired, &self.seen.links)?;
        self.check_memory(&desired)?;
        let changed = desired != *self.store.desired();
        let differences = difference::between(self.store.desired(), &desired);
        let trial = how.confirm.map(|time| self.trial_time(what, time)).transpose()?;
        let mut document =
            AppliedDocument { changed, dry_run: how.dry_run, differences, trial: None, warnings: Vec::new() };
        if how.dry_run {
            document.warnings = self.foreseen(&desired);
            return Ok(Reply::Applied(Box::new(document)));
        }
        self.open_door(&desired)?;
        // Nothing to try where nothing changes.
        let trial = trial.filter(|_| changed);
        match source {
            Source::File(digest) if changed || self.store.applied() != Some(&digest) => {
                self.store.replace_from_file(desired, &digest, trial)?;
            }
            Source::Earlier(applied) if changed => self.store.replace_by_earlier(desired, applied, trial)?,
            _ => {}
        }
        self.begin_trial();
        let outcome = match (&document.changed, self.trial_document()) {
            (false, _) => "nothing changed".to_owned(),
            (true, None) => "the desired state changed".to_owned(),
            (true, Some(trial)) => format!("on trial until {}", trial.until),
        };
        let message = format!("configuration {} applied: {outcome}", what.escape_debug());
        self.journal().note(Note { user: self.user, ..Note::new(Kind::Applied, message) });
        self.reconcile();
        document.trial = self.trial_document();
        document.warnings = self.warnings();
        Ok(Reply::Applied(Box::new(document)))
    }

    /// What to say of a file that wants something else to move packets.
    fn other_plane(&self, config: &Config) -> Option<String> {
        let wanted = config.dataplane().kind().filter(|wanted| *wanted != self.kind())?;
        Some(format!(
            "dataplane = \"{wanted}\" is not in force: this controller runs the data plane {}; start it with `run \
             --dataplane {wanted}`",
            self.kind()
        ))
    }

    /// What somebody should know before this state takes the place of the one that holds.
    fn foreseen(&self, desired: &Desired) -> Vec<String> {
        let absent = desired.interfaces.iter().filter(|one| !self.knows_interface(&one.name));
        let absent = absent
            .map(|one| format!("interface {} does not exist: it is attached when it appears", one.name));
        let empty = desired.services.iter().filter(|service| service.backends.is_empty());
        let empty = empty.map(|service| format!("service {}: it has no backends", service.name));
        let tables = (desired.tracking_clients != self.store.desired().tracking_clients).then(|| {
            "tracking_clients is other: the tables in use keep their size until the pins are made anew (`run --discard`, \
             which forgets clients)"
                .to_owned()
        });
        let own = own_address::warnings(&desired.services, &self.seen.links);
        let files = named_files::warnings(&desired.services);
        let shut_out = shut_out::warnings(&desired.services);
        absent.chain(empty).chain(tables).chain(own).chain(files).chain(shut_out).collect()
    }

    /// Applies the controller's own file again, whether or not it differs.
    pub(super) fn reload(&mut self) -> Result<Reply, ApiError> {
        let Some(path) = self.options.file.clone() else {
            return Err(ApiError::invalid(
                "this controller was started without a file",
                "start it with `run -c FILE`",
            ));
        };
        let text = config::read(&path)?;
        self.apply_text(&path.display().to_string(), &text, How::default())
    }
}
