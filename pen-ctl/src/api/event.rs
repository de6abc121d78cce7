//! What happened to a controller, as it tells it: kinds, one event, several events.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dataplane::BackendAddress;
use crate::state::text::TextError;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A backend gets newcomers from now on.
    Serving,
    /// A backend gets no newcomers any more, or for another reason than before.
    NotServing,
    /// What checks say of a backend changed.
    Health,
    /// An administrator changed something.
    Change,
    /// An interface was attached, detached, or waits for something.
    Interface,
    /// A backend is being emptied before it is removed, or has been.
    Drain,
    /// A configuration file became the desired state.
    Applied,
    /// What a file had changed was taken back.
    RolledBack,
    /// The controller started: it built, adopted, took over or discarded.
    Started,
    /// The controller ends.
    Ending,
    /// Newcomers come too fast to be remembered, or do so no longer.
    Flood,
    /// Something somebody should look at.
    Trouble,
}

impl Kind {
    /// Every kind, in the order they are told of.
    pub const ALL: [Kind; 12] = [
        Kind::Serving,
        Kind::NotServing,
        Kind::Health,
        Kind::Change,
        Kind::Interface,
        Kind::Drain,
        Kind::Applied,
        Kind::RolledBack,
        Kind::Started,
        Kind::Ending,
        Kind::Flood,
        Kind::Trouble,
    ];

    /// As documents, filters and people write it: `not_serving`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Serving => "serving",
            Kind::NotServing => "not_serving",
            Kind::Health => "health",
            Kind::Change => "change",
            Kind::Interface => "interface",
            Kind::Drain => "drain",
            Kind::Applied => "applied",
            Kind::RolledBack => "rolled_back",
            Kind::Started => "started",
            Kind::Ending => "ending",
            Kind::Flood => "flood",
            Kind::Trouble => "trouble",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let known = Kind::ALL.map(Kind::name).join(", ");
            TextError(format!("unknown kind of event `{}`; known are {known}", text.escape_debug()))
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDocument {
    /// Counts up from 1 while a controller runs; the next controller starts anew.
    pub id: u64,
    /// When (RFC 3339, UTC, milliseconds).
    pub time: String,
    /// What kind of thing.
    pub kind: Kind,
    /// Of `serving` and `not_serving`: whether that is new; if not, only the reason is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// What, in words.
    pub message: String,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendAddress>,
    /// The interface it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Id of the user who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
}

/// Events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// Names the run of the controller that these ids belong to.
    pub start: String,
    /// Oldest first.
    pub events: Vec<EventDocument>,
}

/// Told in place of events that are kept no longer, to a reader who fell behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedDocument {
    /// How many events, of whatever kind.
    pub missed: u64,
}

/// Which events somebody wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only about this service.
    pub service: Option<String>,
    /// Only of these kinds; empty = all.
    pub kinds: BTreeSet<Kind>,
}

impl Filter {
    /// Whether it lets an event through.
    pub fn wants(&self, event: &EventDocument) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.service.as_ref().is_none_or(|name| event.service.as_ref() == Some(name))
    }
}

/// How far somebody has heard: `START-ID`, the `id:` of a server-sent event, or an id alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The run of the controller that the id belongs to; `None` = whichever runs.
    pub start: Option<String>,
    /// The last event heard; 0 = none.
    pub id: u64,
}

impl FromStr for Position {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (start, id) = match text.rsplit_once('-') {
            Some((start, id)) => (Some(start.to_owned()), id),
            None => (None, text),
        };
        let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let id = digits.then(|| id.parse().ok()).flatten();
        id.map(|id| Position { start, id }).ok_or_else(|| {
            TextError(format!("`{}` is not the id of an event; write 17 or START-17", text.escape_debug()))
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Some(start) => write!(f, "{start}-{}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_and_read_alike_everywhere() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        }
        let wrong = "not-serving".parse::<Kind>().unwrap_err().to_string();
        assert!(wrong.contains("not_serving"), "{wrong}");
    }

    #[test]
    fn a_position_is_an_id_with_or_without_its_start() {
        for text in ["0", "17", "5f3a-17"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for text in ["", "-", "a", "a-", "+1", "a-+1", "99999999999999999999"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
