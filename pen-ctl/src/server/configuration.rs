//! The routes about the desired state as a whole: `config`, `trial`, `history`.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use serde::Deserialize;

use super::message::{Answer, Document, Insider, Number, Query, Text, Writer};
use super::routes::{Controller, ask, change};
use crate::api::configuration::How;
use crate::api::{Answered, Asked, Reply, Request};
use crate::controller::ControllerHandle;
use crate::state::text::optional_duration;

/// How to apply a file or restore a state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ApplyQuery {
    /// What messages call the file.
    file: Option<String>,
    dry_run: bool,
    #[serde(with = "optional_duration")]
    confirm: Option<std::time::Duration>,
}

impl ApplyQuery {
    fn how(&self) -> How {
        How { dry_run: self.dry_run, confirm: self.confirm }
    }
}

/// TOML, or the document if JSON is asked for.
pub(super) async fn export(State(controller): Controller, _: Insider, headers: HeaderMap) -> Answer {
    let Answered { reply, revision } = controller.ask(Request::Export.into()).await?;
    let accepted = headers.get(ACCEPT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match reply {
        Reply::Config(document) if !accepted.is_some_and(|accepted| accepted.contains("json")) => {
            Ok(Document::toml(document.toml).at(revision))
        }
        reply => Ok(Document::of(&reply)?.at(revision)),
    }
}

pub(super) async fn apply(
    State(controller): Controller,
    writer: Writer,
    Query(query): Query<ApplyQuery>,
    Text(text): Text,
) -> Answer {
    let how = query.how();
    let file = query.file.unwrap_or_else(|| "the configuration".to_owned());
    noted_elsewhere(&controller, writer, Request::Apply { file, text, how }).await
}

pub(super) async fn confirm(State(controller): Controller, writer: Writer) -> Answer {
    change(&controller, writer, Request::Confirm).await
}

pub(super) async fn roll_back(State(controller): Controller, writer: Writer) -> Answer {
    noted_elsewhere(&controller, writer, Request::RollBack).await
}

pub(super) async fn history(State(controller): Controller, _: Insider) -> Answer {
    ask(&controller, Request::History).await
}

pub(super) async fn history_show(
    State(controller): Controller,
    _: Insider,
    Number(number): Number,
) -> Answer {
    ask(&controller, Request::HistoryShow { number }).await
}

pub(super) async fn history_restore(
    State(controller): Controller,
    Number(number): Number,
    writer: Writer,
    Query(query): Query<ApplyQuery>,
) -> Answer {
    let how = query.how();
    noted_elsewhere(&controller, writer, Request::HistoryRestore { number, how }).await
}

/// Has something done that the controller notes itself, with more than is known here.
async fn noted_elsewhere(controller: &ControllerHandle, writer: Writer, request: Request) -> Answer {
    let Writer { peer, condition } = writer;
    let Answered { reply, revision } = controller.ask(Asked { request, user: peer.uid, condition }).await?;
    Ok(Document::of(&reply)?.at(revision))
}
