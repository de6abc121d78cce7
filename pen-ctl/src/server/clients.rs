//! Questions about clients: answered beside the controller's task, two at a time, for as long as somebody waits. Forgetting
//! is finished once it is begun.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::connection::Ending;
use super::intake::AnswerTime;
use super::message::{Answer, Client, Document, Insider, Query, Writer};
use super::routes::Controller;
use crate::api::event::Kind;
use crate::api::{ApiError, Asked, ErrorCode, Reply, Request};
use crate::controller::ControllerHandle;
use crate::dataplane::BackendAddress;
use crate::journal::Note;
use crate::state::text;
use crate::tracked::{Order, Progress, Selection, View};

/// Clients listed unless another number is asked for.
pub const LISTED: usize = 100;
/// Clients listed at most: an answer has its bounds.
pub const LISTED_MAX: usize = 100_000;

/// Readings of the tracking tables at a time: each keeps a CPU busy.
static READINGS: Semaphore = Semaphore::const_new(2);

/// Which clients, and how they are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListQuery {
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of this backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendAddress>,
    /// Of clients with these addresses: one, or a prefix.
    #[serde(with = "prefix", skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// How many at most.
    pub limit: usize,
    /// In which order.
    pub sort: Order,
    /// Those that do not count any more, too.
    pub all: bool,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self { service: None, backend: None, source: None, limit: LISTED, sort: Order::Seen, all: false }
    }
}

/// Which clients to forget: at least one of these must be said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForgetQuery {
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of this backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendAddress>,
    /// Of clients with these addresses: one, or a prefix.
    #[serde(with = "prefix", skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// Everybody, where nothing else is said.
    pub all: bool,
}

/// serde form of optional prefixes, as [`text::prefix`] reads them.
mod prefix {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<IpNet>, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<IpNet>, D::Error> {
        text::parsed(d, "an address or a prefix such as \"192.0.2.0/24\"", text::prefix).map(Some)
    }
}

pub(super) async fn list(
    State(controller): Controller,
    _: Insider,
    ending: Option<Extension<Ending>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let ListQuery { service, backend, source, limit, sort, all } = query;
    if limit > LISTED_MAX {
        let message = format!("limit {limit} is out of range");
        return Err(ApiError::invalid(message, format!("use 0 to {LISTED_MAX}")).into());
    }
    let selection = Selection { service, backend, source };
    read(&controller, ending, move |view, stop| view.list(&selection, all, sort, limit, stop)).await
}

pub(super) async fn show(
    State(controller): Controller,
    _: Insider,
    ending: Option<Extension<Ending>>,
    Client(address): Client,
) -> Answer {
    read(&controller, ending, move |view, stop| view.show(address, stop)).await
}

pub(super) async fn forget(
    State(controller): Controller,
    Writer { peer, condition }: Writer,
    time: Option<Extension<AnswerTime>>,
    Query(query): Query<ForgetQuery>,
) -> Answer {
    let ForgetQuery { service, backend, source, all } = query;
    let nothing = service.is_none() && backend.is_none() && source.is_none();
    if nothing != all {
        let message =
            if nothing { "nobody is named to be forgotten" } else { "`all` goes with nothing else" };
        let hint = "name a client, a service or a backend; or, alone, all";
        return Err(ApiError::invalid(message, hint).into());
    }
    let what = [
        service.as_ref().map(|service| format!(" of service {}", service.escape_debug())),
        backend.map(|backend| format!(" of backend {backend}")),
        source.map(|source| format!(" from {source}")),
    ];
    let what: String = what.into_iter().flatten().collect();
    let note = Note { service: service.clone(), backend, user: peer.uid, ..Note::new(Kind::Change, "") };
    let journal = controller.journal().clone();
    let selection = Selection { service, backend, source };
    let (turn, view) =
        begin(&controller, Asked { request: Request::Clients, user: peer.uid, condition }).await?;
    let progress = Arc::new(Progress::default());
    let told = progress.clone();
    // What was begun is finished, whether or not somebody waits for it.
    let forgetting = spawn_blocking(move || {
        let _turn = turn;
        let done = view.forget(&selection, &progress);
        let forgotten = done.as_ref().map_or_else(|_| progress.so_far().forgotten, |done| done.forgotten);
        let trouble = done.as_ref().err().map_or_else(String::new, |error| format!(", then: {error}"));
        if forgotten > 0 || trouble.is_empty() {
            journal.note(Note { message: format!("clients{what} forgotten: {forgotten}{trouble}"), ..note });
        }
        done
    });
    let patience = time.map_or(Duration::MAX, |Extension(AnswerTime(time))| time * 4 / 5);
    match timeout(patience, forgetting).await {
        Ok(done) => Document::of(&done.map_err(|error| failed(&error))??),
        Err(_) => Ok(Document::of(&told.so_far())?.accepted()),
    }
}

/// Tells a reading to end when whoever asked has gone: then this is dropped with their request.
struct StopWithAsker(Arc<AtomicBool>);

impl Drop for StopWithAsker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers from a reading, for as long as somebody waits for it.
async fn read<T: Serialize + Send + 'static>(
    controller: &ControllerHandle,
    ending: Option<Extension<Ending>>,
    answer: impl FnOnce(&View, &AtomicBool) -> Result<T, ApiError> + Send + 'static,
) -> Answer {
    let reading = async {
        let (turn, view) = begin(controller, Request::Clients.into()).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let _stop_with_asker = StopWithAsker(stop.clone());
        let reading = spawn_blocking(move || {
            let _turn = turn;
            answer(&view, &stop)
        });
        Document::of(&reading.await.map_err(|error| failed(&error))??)
    };
    let ending = ending.map_or(Ending::NEVER, |Extension(ending)| ending);
    tokio::select! {
        answer = reading => answer,
        () = ending.unheard() => Err(failed(&"nobody waits for the answer").into()),
    }
}

/// Waits for a turn, and takes what questions are answered from.
async fn begin(
    controller: &ControllerHandle,
    asked: Asked,
) -> Result<(SemaphorePermit<'static>, View), ApiError> {
    // Never an error: it is never closed.
    let turn = READINGS.acquire().await.map_err(|error| failed(&error))?;
    match controller.ask(asked).await?.reply {
        Reply::Clients(view) => Ok((turn, view)),
        other => Err(failed(&format!("the controller answers {other:?}"))),
    }
}

fn failed(why: &dyn Display) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("read the clients: {why}"), "")
}
