//! The configuration file's part in the desired state: which of the two wins.

use std::path::Path;

use super::Controller;
use super::change::changed;
use crate::api::event::Kind;
use crate::api::{ApiError, Reply};
use crate::config::{self, Config};
use crate::journal::Note;
use crate::state::store::Store;

/// Applies a file at the start of a controller if it is other than the one applied last; else durable state
/// stands, with all that was changed at run time. Says whether it did.
///
/// # Errors
/// The file cannot be read or is wrong, or the state cannot be written: nothing changed.
pub fn apply_at_start(store: &mut Store, path: &Path) -> Result<bool, ApiError> {
    let config = Config::parse(&path.display().to_string(), &config::read(path)?)?;
    if store.applied() == Some(config.digest()) {
        return Ok(false);
    }
    let desired = config.onto(store.desired())?;
    store.replace_from_file(desired, config.digest(), None)?;
    Ok(true)
}

impl Controller {
    /// Makes a file's text the desired state.
    pub(super) fn apply_text(&mut self, file: &str, text: &str) -> Result<Reply, ApiError> {
        let config = Config::parse(file, text)?;
        let desired = config.onto(self.store.desired())?;
        self.check_memory(&desired)?;
        self.open_door(&desired)?;
        let same = desired == *self.store.desired();
        if !same || self.store.applied() != Some(config.digest()) {
            self.store.replace_from_file(desired, config.digest(), None)?;
        }
        let outcome = if same { "nothing changed" } else { "the desired state changed" };
        let message = format!("configuration {} applied: {outcome}", file.escape_debug());
        self.journal().note(Note::new(Kind::Applied, message));
        self.reconcile();
        Ok(match changed(!same) {
            Reply::Changed(document) => {
                Reply::Changed(crate::api::document::ChangeDocument { warnings: self.warnings(), ..document })
            }
            other => other,
        })
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
        self.apply_text(&path.display().to_string(), &text)
    }

    /// Whether the controller's own file is other than the one applied last.
    pub(super) fn file_differs(&self) -> bool {
        let Some(path) = &self.options.file else { return false };
        config::read(path).map_or(true, |text| self.store.applied() != Some(&config::digest(&text)))
    }

    /// What to say of the controller's own file if it is other than the one applied last: what SIGHUP would do.
    pub(super) fn file_warning(&self) -> Option<String> {
        let path = self.options.file.as_ref()?;
        let name = path.display().to_string();
        let checked = config::read(path).and_then(|text| Config::parse(&name, &text));
        match checked {
            Ok(config) if self.store.applied() == Some(config.digest()) => None,
            Ok(_) => Some(format!(
                "{name} is not what was last applied; SIGHUP to the controller applies it, what was asked at run time \
                 stands until then"
            )),
            Err(error) => Some(format!("{error}; it cannot be applied so, what runs stays as it is")),
        }
    }
}
