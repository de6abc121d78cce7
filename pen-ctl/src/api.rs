//! What is asked of the controller, and what it answers. The command line and the HTTP API are two ways to say it.

pub mod configuration;
pub mod document;
pub mod event;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dataplane::BackendAddress;
use crate::metrics::Snapshot;
use crate::state::desired::InterfaceSpec;
use crate::state::revision::{Condition, Revision};
use crate::state::spec::{BackendSpec, ServiceSpec};
use crate::tracked::View;
use configuration::{AppliedDocument, ConfigDocument, HistoryDocument, How, StateDetail};
use document::{
    BackendDocument, BackendList, ChangeDocument, InterfaceList, ServiceDocument, ServiceList, StatusDocument,
};

/// A request with who asks and on what condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// The user id of whoever asks; `None` = not known, or the controller itself.
    pub user: Option<u32>,
    /// Which desired state it may be done to; else it is refused with [`ErrorCode::Changed`].
    pub condition: Condition,
}

impl From<Request> for Asked {
    fn from(request: Request) -> Self {
        Self { request, user: None, condition: Condition::Any }
    }
}

/// An answer with the desired state that it was given in.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The answer.
    pub reply: Reply,
    /// Which desired state there is now.
    pub revision: Revision,
}

/// Something asked of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Everything there is to see: [`Reply::Status`].
    Status,
    /// Add a service (`name` and `vip` needed): [`Reply::Service`].
    ServiceAdd(ServiceSpec),
    /// Change what `spec` says of a service; its backends are left alone: [`Reply::Service`].
    ServiceSet {
        /// Which.
        name: String,
        /// What.
        spec: ServiceSpec,
    },
    /// Remove a service and its backends: [`Reply::Changed`].
    ServiceRemove {
        /// Which.
        name: String,
    },
    /// All services: [`Reply::Services`].
    ServiceList,
    /// One service: [`Reply::Service`].
    ServiceShow {
        /// Which.
        name: String,
    },
    /// Add a backend (`address` needed): [`Reply::Backend`].
    BackendAdd {
        /// To which service.
        service: String,
        /// What.
        spec: BackendSpec,
    },
    /// Change what `spec` says of a backend: [`Reply::Backend`].
    BackendSet {
        /// Of which service.
        service: String,
        /// Which.
        address: BackendAddress,
        /// What.
        spec: BackendSpec,
    },
    /// Remove a backend: [`Reply::Changed`].
    BackendRemove {
        /// Of which service.
        service: String,
        /// Which.
        address: BackendAddress,
    },
    /// Drain a backend and remove it when nobody is left on it, or after a time: [`Reply::Backend`].
    BackendDrain {
        /// Of which service.
        service: String,
        /// Which.
        address: BackendAddress,
        /// After how long it is removed whoever is left.
        within: Duration,
    },
    /// Backends of one service, or of all: [`Reply::Backends`].
    BackendList {
        /// Of which service.
        service: Option<String>,
    },
    /// What questions about clients are answered from, off the controller's task: [`Reply::Clients`].
    Clients,
    /// What metrics are written from, off the controller's task: [`Reply::Metrics`].
    Metrics,
    /// Attach to interfaces, all or none: [`Reply::Interfaces`], once packets would flow.
    Attach(Vec<InterfaceSpec>),
    /// Detach from interfaces; those not attached are no error: [`Reply::Changed`].
    Detach(Interfaces),
    /// Interfaces attached or meant to be: [`Reply::Interfaces`].
    InterfaceList,
    /// Replace services and backends by those of a file: [`Reply::Applied`].
    Apply {
        /// What the file is called, for messages.
        file: String,
        /// Its contents: TOML.
        text: String,
        /// For good, on trial, or not at all.
        how: How,
    },
    /// Keep what is on trial: [`Reply::Changed`].
    Confirm,
    /// Take back what is on trial: [`Reply::Changed`].
    RollBack,
    /// The desired state as a file: [`Reply::Config`].
    Export,
    /// The states that are kept: [`Reply::History`].
    History,
    /// One of them: [`Reply::State`].
    HistoryShow {
        /// Which.
        number: u64,
    },
    /// Make one of them the desired state: [`Reply::Applied`].
    HistoryRestore {
        /// Which.
        number: u64,
        /// For good, on trial, or not at all.
        how: How,
    },
    /// Read the controller's own file again and apply it (SIGHUP): [`Reply::Applied`].
    Reload,
    /// End the controller; forwarding goes on unless `detach`: [`Reply::Changed`], after which it ends.
    Stop {
        /// Detach from all interfaces first; the next run attaches them again.
        detach: bool,
    },
}

/// Which interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// Every one.
    All,
    /// These.
    Named(Vec<String>),
}

/// What the controller answers; serialized, it is the document within.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<StatusDocument>),
    /// All services.
    Services(ServiceList),
    /// One service.
    Service(Box<ServiceDocument>),
    /// Several backends.
    Backends(BackendList),
    /// One backend.
    Backend(Box<BackendDocument>),
    /// Interfaces.
    Interfaces(InterfaceList),
    /// To [`Request::Clients`]: no document, and never sent as one.
    #[serde(skip_serializing)]
    Clients(View),
    /// To [`Request::Metrics`]: no document, and never sent as one.
    #[serde(skip_serializing)]
    Metrics(Box<Snapshot>),
    /// Something was changed, or was already so.
    Changed(ChangeDocument),
    /// A desired state took the place of another, or would.
    Applied(Box<AppliedDocument>),
    /// The desired state as a file.
    Config(ConfigDocument),
    /// The states that are kept.
    History(HistoryDocument),
    /// One of them.
    State(Box<StateDetail>),
}

/// Why a request was not done. Nothing has changed, unless the message says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}{hint}", if .hint.is_empty() { "" } else { "; " })]
pub struct ApiError {
    /// What kind of refusal it is.
    pub code: ErrorCode,
    /// What failed, and on what.
    pub message: String,
    /// What to do; may be empty.
    #[serde(default)]
    pub hint: String,
}

/// The body of an answer that is an error: `{"error":{"code","message","hint"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDocument {
    /// The error.
    pub error: ApiError,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not well formed, or says something that cannot be.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// It adds something that is already there.
    Exists,
    /// The desired state is not the one that the request was made for.
    Changed,
    /// It is part of the design but not built yet.
    NotSupported,
    /// Whoever asks may not do this.
    Denied,
    /// The data plane or the kernel refused it.
    Refused,
    /// The state could not be made durable.
    Storage,
    /// More is asked than is answered at a time; later it may be.
    Busy,
    /// Something that should not happen.
    Internal,
    /// No controller answers.
    NoController,
}

impl ErrorCode {
    /// The HTTP status that goes with it (RFC 9110, section 15).
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Exists | Self::Refused => 409,
            Self::Changed => 412,
            Self::NotSupported => 422,
            Self::Storage | Self::Internal => 500,
            Self::Busy | Self::NoController => 503,
        }
    }

    /// The exit status of a command that ends with it.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::NoController => 3,
            _ => 1,
        }
    }
}

impl ApiError {
    /// An error with a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }

    /// A request that cannot be.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message, hint)
    }
}

impl From<crate::state::text::TextError> for ApiError {
    fn from(error: crate::state::text::TextError) -> Self {
        let line = error.to_string();
        let (message, hint) = split_hint(&line);
        Self::invalid(message, hint)
    }
}

/// The same for a line with a name in it that is not quoted, such as a path, and may say anything, too.
pub(crate) fn split_hint_behind<'line>(line: &'line str, name: &str) -> (&'line str, &'line str) {
    let behind = line.find(name).map_or(0, |start| start + name.len());
    let (message, hint) = split_hint(&line[behind..]);
    (&line[..behind + message.len()], hint)
}

/// The message of a line and the hint behind it. What somebody typed stands in quotes, and may say anything.
pub(crate) fn split_hint(line: &str) -> (&str, &str) {
    let mut open = None;
    for (at, letter) in line.char_indices() {
        match open {
            Some(quote) if letter == quote => open = None,
            Some(_) => {}
            None if matches!(letter, '`' | '"') => open = Some(letter),
            None => {
                if let Some(hint) = line[at..].strip_prefix("; ") {
                    return (&line[..at], hint);
                }
            }
        }
    }
    (line, "")
}

/// The key of an object whose value alone brings about the same complaint, unless that names it already.
fn key_at_fault<T: serde::de::DeserializeOwned>(body: &[u8], complaint: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let (key, _) = object.into_iter().find(|(key, value)| {
        let alone = serde_json::Map::from_iter([(key.clone(), value.clone())]);
        let error = serde_json::from_value::<T>(alone.into()).err();
        error.is_some_and(|error| error.to_string() == complaint)
    })?;
    let serde_names_none =
        ["invalid type", "unknown variant"].iter().any(|start| complaint.starts_with(start));
    (serde_names_none || !complaint.contains(key.as_str())).then_some(key)
}

/// What serde says of a word that is none of those there are, in words for people.
pub(crate) fn plain(complaint: &str) -> String {
    complaint.replacen("unknown variant `", "unknown value `", 1)
}

/// Reads a request's JSON body; errors are in words for people.
pub fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => {
                let text = text.trim_end_matches(place.as_str());
                let key = key_at_fault::<T>(body, text).map(|key| format!("{key}: ")).unwrap_or_default();
                crate::state::text::TextError(format!("{key}{}", plain(text))).into()
            }
            _ => ApiError::invalid(format!("the request is not JSON: {text}"), "send a JSON object"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::spec::ServiceSpec;
    use crate::state::store::StoreError;

    #[test]
    fn a_hint_begins_behind_what_was_typed() {
        let error = ApiError::from("10.0.0.11; rm".parse::<BackendAddress>().unwrap_err());
        assert_eq!(
            error.message,
            "backend address `10.0.0.11; rm` is neither an IP address, with or without a port, nor the path of a Unix socket"
        );
        assert!(error.hint.starts_with("write it as "), "{}", error.hint);
        let path = std::path::PathBuf::from("/var/lib/a; b");
        let error = ApiError::from(StoreError::InUse { path, pid: "7".to_owned() });
        assert!(
            error.message.ends_with("/var/lib/a; b is in use by the controller with pid 7"),
            "{}",
            error.message
        );
        assert_eq!(error.hint, "stop that one, or use another --state-dir");
        let error = decode::<ServiceSpec>(br#"{"vip": "10.0.0.1; or so"}"#).unwrap_err();
        assert_eq!(error.message, "vip: `10.0.0.1; or so` is not a service address: no protocol");
        let error = decode::<ServiceSpec>(br#"{"affinity": "a; b"}"#).unwrap_err();
        assert!(error.message.contains("expected one of") && error.hint.is_empty(), "{error:?}");
    }
}
