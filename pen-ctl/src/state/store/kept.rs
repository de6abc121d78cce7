//! What `state.json` holds, and how it is read: whole and by the rules, or not at all.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::api::plain;
use crate::dataplane::Kind;
use crate::state::desired::Desired;
use crate::state::validate;

/// Version of the layout of `state.json`.
const FORMAT: u32 = 1;
/// What to do about a file that is damaged or gone.
pub(super) const RECOVER: &str = "pen-ctl run --adopt sets it aside and goes on from the newest state in the history, with \
                                  -c FILE from that file; or restore it from a backup";
/// What to do about a file of another version.
const OTHER_VERSION: &str = "run the pen that wrote it; pen-ctl run --adopt sets it aside and goes on from the newest state in \
                             the history, with -c FILE from that file";

/// What the file holds. A field that is new is optional and left out while it says nothing: the version before can
/// then still read what it knows, and refuses what it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) format: u32,
    /// Shared with the pins; `None` until there is to be a first pin.
    #[serde(with = "hex_id")]
    pub(super) instance: Option<[u8; 16]>,
    /// What moved packets last.
    pub(super) dataplane: Option<String>,
    /// SHA-256 of the file applied last.
    pub(super) applied: Option<String>,
    /// SHA-256 of a file that was taken back after it was applied: a start does not apply it by itself again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) taken_back: Option<String>,
    /// What was applied on trial waits to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trial: Option<Trial>,
    pub(super) desired: Desired,
}

/// Something applied that is rolled back unless it is confirmed in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What was applied: a file's name, or a state of the history.
    pub what: String,
    /// When it is rolled back, in Unix seconds.
    pub until: u64,
    /// How long it was given, in seconds: a clock that is set back does not prolong it beyond that.
    pub seconds: u64,
    /// The desired state from before.
    pub before: Desired,
    /// The digest of the file applied last before.
    pub before_applied: Option<String>,
}

impl Kept {
    /// Nothing wanted, nothing pinned.
    pub(super) fn empty(seed: u64) -> Self {
        Self::of(Desired::new(seed), None)
    }

    /// This is wanted, and nothing pinned.
    pub(super) fn of(desired: Desired, applied: Option<String>) -> Self {
        Self {
            format: FORMAT,
            instance: None,
            dataplane: None,
            applied,
            taken_back: None,
            trial: None,
            desired,
        }
    }

    /// What moved packets last, as far as that is known.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.dataplane.as_deref().and_then(|name| name.parse().ok())
    }

    /// The state from before what is on trial, if anything is.
    pub(super) fn rolled_back(&self) -> Option<Self> {
        let trial = self.trial.clone()?;
        let back = self.back_to(trial.before, trial.before_applied);
        Some(Self { trial: None, ..back })
    }

    /// An earlier state, with the file that was applied then. The file applied since must not come back by itself.
    pub(super) fn back_to(&self, desired: Desired, applied: Option<String>) -> Self {
        let since = self.applied.clone().filter(|_| self.applied != applied);
        let taken_back = since.or_else(|| self.taken_back.clone());
        Self { desired, applied, taken_back, ..self.clone() }
    }

    /// As it stands in the file.
    pub(super) fn to_text(&self) -> Vec<u8> {
        // Strings, numbers and lists: cannot fail.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads a file's contents; `path` is for messages.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        /// Read first: a newer layout need not fit ours.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(|error| unreadable(path, &error))?;
        if format != FORMAT {
            let why = format!("it has format {format}, and this pen knows {FORMAT}");
            return Err(nowhere(path, why, OTHER_VERSION));
        }
        let kept: Self = serde_json::from_slice(bytes).map_err(|error| unreadable(path, &error))?;
        let states = kept.trial.iter().map(|trial| &trial.before).chain([&kept.desired]);
        for desired in states {
            // By the rules of either data plane: while one takes over from the other, its file may stand beside the
            // other's name. A start asks for the rules of the one that it takes.
            validate::fits(desired).map_err(|error| nowhere(path, error.message, RECOVER))?;
        }
        Ok(kept)
    }
}

/// A file that is there, or should be, and says nothing that can be used.
pub(super) fn nowhere(path: &Path, why: String, hint: &'static str) -> StoreError {
    StoreError::Unreadable { path: path.to_owned(), line: 0, column: 0, why, hint }
}

fn unreadable(path: &Path, error: &serde_json::Error) -> StoreError {
    let why = complaint(error);
    let hint = if why.starts_with("unknown ") { OTHER_VERSION } else { RECOVER };
    StoreError::Unreadable { path: path.to_owned(), line: error.line(), column: error.column(), why, hint }
}

/// What is wrong with a JSON text, without the place.
pub(super) fn complaint(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends in the middle".to_owned(),
        _ => {
            let text = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            plain(text.trim_end_matches(place.as_str()))
        }
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
