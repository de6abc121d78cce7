//! Which path and method asks for what, under `/v1/`; beside it `/metrics`, where Prometheus looks, and `/`, the status
//! page for browsers.
//!
//! | path | GET | POST | PATCH | PUT | DELETE |
//! | --- | --- | --- | --- | --- | --- |
//! | `status` | everything | | | | |
//! | `services` | list | add | | | |
//! | `services/{name}` | show | | change | | remove |
//! | `services/{name}/backends` | list | add | | | |
//! | `services/{name}/backends/{address}` | show | | change | | remove; `?drain=10m` drains it first |
//! | `clients` | list; `?service= backend= source= limit= sort= all=` | | | | forget; `?service= backend= source= all=` |
//! | `clients/{address}` | what is known of one | | | | |
//! | `backends` | list of all | | | | |
//! | `interfaces` | list | attach `{"interfaces": […]}` | | | detach all |
//! | `interfaces/{name}` | show | | | attach | detach |
//! | `events` | the newest, or followed; `?service= kind= limit= since=` | | | | |
//! | `config` | export: TOML, or JSON if accepted | | | apply TOML; `?file= dry_run= confirm=10m` | |
//! | `config/confirm`, `config/rollback` | | keep or take back what is on trial | | | |
//! | `history` | states from before | | | | |
//! | `history/{number}` | show | | | | |
//! | `history/{number}/restore` | | bring it back; `?dry_run= confirm=10m` | | | |
//! | `reload` | | apply the file again | | | |
//! | `stop` | | end; `{"detach": true}` detaches first | | | |

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::message::{Answer, Body, Document, Failure, Insider, Name, Optional, Query, Which, Writer};
use super::{audit, clients, configuration, events, everybody, metrics, page};
use crate::api::{Answered, ApiError, Asked, ErrorCode, Interfaces, Reply, Request};
use crate::cli::render::Style;
use crate::cli::render::status::View;
use crate::controller::{ControllerHandle, no_backend};
use crate::dataplane::AttachMode;
use crate::state::desired::InterfaceSpec;
use crate::state::spec::{BackendSpec, ServiceSpec};
use crate::state::text::optional_duration;

pub(super) type Controller = State<ControllerHandle>;

/// The API's routes.
pub fn router(controller: ControllerHandle) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/v1/status", get(status))
        .route("/v1/services", get(service_list).post(service_add))
        .route("/v1/services/{name}", get(service_show).patch(service_set).delete(service_remove))
        .route("/v1/services/{name}/backends", get(backends_of).post(backend_add))
        .route(
            "/v1/services/{name}/backends/{address}",
            get(backend_show).patch(backend_set).delete(backend_remove),
        )
        .route("/v1/backends", get(backend_list))
        .route("/v1/clients", get(clients::list).delete(clients::forget))
        .route("/v1/clients/{address}", get(clients::show))
        .route("/v1/interfaces", get(interface_list).post(attach).delete(detach_all))
        .route("/v1/interfaces/{name}", get(interface_show).put(attach_one).delete(detach))
        .route("/v1/events", get(events::events))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/config", get(configuration::export).put(configuration::apply))
        .route("/v1/config/confirm", post(configuration::confirm))
        .route("/v1/config/rollback", post(configuration::roll_back))
        .route("/v1/history", get(configuration::history))
        .route("/v1/history/{number}", get(configuration::history_show))
        .route("/v1/history/{number}/restore", post(configuration::history_restore))
        .route("/v1/reload", post(reload))
        .route("/v1/stop", post(stop))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        // Bodies come taken in already, within the limits of the server.
        .layer(DefaultBodyLimit::disable())
        .with_state(controller)
}

async fn page(State(controller): Controller) -> Result<Response, Failure> {
    match controller.request(Request::Status).await? {
        Reply::Status(document) => {
            Ok(page::page(&document, View { now: SystemTime::now(), style: Style { colour: false } }))
        }
        _ => Err(ApiError::new(ErrorCode::Internal, "there is no status", "").into()),
    }
}

async fn status(State(controller): Controller, inside: Result<Insider, Failure>) -> Answer {
    look(&controller, Request::Status, inside).await
}

/// Asks for what everybody may see, but for what only those may who look from the balancer itself.
async fn look(controller: &ControllerHandle, request: Request, inside: Result<Insider, Failure>) -> Answer {
    let Answered { mut reply, revision } = controller.ask(request.into()).await?;
    if inside.is_err() {
        everybody::censor(&mut reply);
    }
    Ok(Document::of(&reply)?.at(revision))
}

async fn service_list(State(controller): Controller, inside: Result<Insider, Failure>) -> Answer {
    look(&controller, Request::ServiceList, inside).await
}

async fn service_add(State(controller): Controller, writer: Writer, Body(spec): Body<ServiceSpec>) -> Answer {
    Ok(change(&controller, writer, Request::ServiceAdd(spec)).await?.created())
}

async fn service_show(
    State(controller): Controller,
    Name(name): Name,
    inside: Result<Insider, Failure>,
) -> Answer {
    look(&controller, Request::ServiceShow { name }, inside).await
}

async fn service_set(
    State(controller): Controller,
    Name(name): Name,
    writer: Writer,
    Body(spec): Body<ServiceSpec>,
) -> Answer {
    change(&controller, writer, Request::ServiceSet { name, spec }).await
}

async fn service_remove(State(controller): Controller, Name(name): Name, writer: Writer) -> Answer {
    change(&controller, writer, Request::ServiceRemove { name }).await
}

async fn backend_list(State(controller): Controller) -> Answer {
    ask(&controller, Request::BackendList { service: None }).await
}

async fn backends_of(State(controller): Controller, Name(name): Name) -> Answer {
    ask(&controller, Request::BackendList { service: Some(name) }).await
}

async fn backend_add(
    State(controller): Controller,
    Name(service): Name,
    writer: Writer,
    Body(spec): Body<BackendSpec>,
) -> Answer {
    Ok(change(&controller, writer, Request::BackendAdd { service, spec }).await?.created())
}

async fn backend_show(State(controller): Controller, which: Which) -> Answer {
    let Which { service, address } = which;
    let request = Request::BackendList { service: Some(service.clone()) };
    let Answered { reply, revision } = controller.ask(request.into()).await?;
    let found = match reply {
        Reply::Backends(list) => list.backends.into_iter().find(|backend| backend.address == address),
        _ => None,
    };
    match found {
        Some(backend) => Ok(Document::of(&backend)?.at(revision)),
        None => Err(no_backend(&service, address).into()),
    }
}

async fn backend_set(
    State(controller): Controller,
    Which { service, address }: Which,
    writer: Writer,
    Body(spec): Body<BackendSpec>,
) -> Answer {
    change(&controller, writer, Request::BackendSet { service, address, spec }).await
}

/// How to remove a backend.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RemoveQuery {
    /// Drain it first, for so long at most.
    #[serde(with = "optional_duration")]
    drain: Option<Duration>,
}

async fn backend_remove(
    State(controller): Controller,
    Which { service, address }: Which,
    writer: Writer,
    Query(RemoveQuery { drain }): Query<RemoveQuery>,
) -> Answer {
    match drain {
        Some(within) => {
            let request = Request::BackendDrain { service, address, within };
            Ok(change(&controller, writer, request).await?.accepted())
        }
        None => change(&controller, writer, Request::BackendRemove { service, address }).await,
    }
}

async fn interface_list(State(controller): Controller) -> Answer {
    ask(&controller, Request::InterfaceList).await
}

async fn interface_show(State(controller): Controller, Name(name): Name) -> Answer {
    let Answered { reply, revision } = controller.ask(Request::InterfaceList.into()).await?;
    let found = match reply {
        Reply::Interfaces(list) => list.interfaces.into_iter().find(|interface| interface.name == name),
        _ => None,
    };
    match found {
        Some(interface) => Ok(Document::of(&interface)?.at(revision)),
        None => {
            let message = format!("interface {} is not attached", name.escape_debug());
            let hint = format!("`pen-ctl attach {}` attaches it", name.escape_debug());
            Err(ApiError::new(ErrorCode::NotFound, message, hint).into())
        }
    }
}

/// Interfaces to attach to, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachBody {
    /// Which, and how.
    pub interfaces: Vec<InterfaceSpec>,
}

async fn attach(State(controller): Controller, writer: Writer, Body(body): Body<AttachBody>) -> Answer {
    change(&controller, writer, Request::Attach(body.interfaces)).await
}

/// How to attach to one interface.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AttachOneBody {
    mode: AttachMode,
    announce: bool,
}

impl Default for AttachOneBody {
    fn default() -> Self {
        Self { mode: AttachMode::Auto, announce: true }
    }
}

async fn attach_one(
    State(controller): Controller,
    Name(name): Name,
    writer: Writer,
    Optional(body): Optional<AttachOneBody>,
) -> Answer {
    let AttachOneBody { mode, announce } = body;
    change(&controller, writer, Request::Attach(vec![InterfaceSpec { name, mode, announce }])).await
}

async fn detach_all(State(controller): Controller, writer: Writer) -> Answer {
    change(&controller, writer, Request::Detach(Interfaces::All)).await
}

async fn detach(State(controller): Controller, Name(name): Name, writer: Writer) -> Answer {
    change(&controller, writer, Request::Detach(Interfaces::Named(vec![name]))).await
}

async fn reload(State(controller): Controller, writer: Writer) -> Answer {
    change(&controller, writer, Request::Reload).await
}

/// How to end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopBody {
    /// Detach from all interfaces first.
    pub detach: bool,
}

async fn stop(State(controller): Controller, writer: Writer, Optional(body): Optional<StopBody>) -> Answer {
    change(&controller, writer, Request::Stop { detach: body.detach }).await
}

async fn unknown_path(uri: Uri) -> Failure {
    let message = format!("there is no {}", uri.path());
    ApiError::new(ErrorCode::NotFound, message, "docs/control-path.md lists the paths under /v1/").into()
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let message = format!("{} cannot be asked of {}", method, uri.path());
    Failure {
        status: StatusCode::METHOD_NOT_ALLOWED,
        error: ApiError::invalid(message, "see the Allow header"),
    }
}

/// Has something changed, and notes what was and who asked for it.
pub(super) async fn change(controller: &ControllerHandle, writer: Writer, request: Request) -> Answer {
    let controller = controller.clone();
    let Writer { peer, condition } = writer;
    // A task of its own: what is done is noted, too, when whoever asked has gone meanwhile.
    let changing = tokio::spawn(async move {
        let note = audit::note(&request, peer.uid);
        let asked = Asked { request, user: peer.uid, condition };
        let Answered { reply, revision } = controller.ask(asked).await?;
        controller.journal().note(note);
        Ok(Document::of(&reply)?.at(revision))
    });
    let lost = |error| ApiError::new(ErrorCode::Internal, format!("make the change: {error}"), "");
    changing.await.map_err(lost)?
}

pub(super) async fn ask(controller: &ControllerHandle, request: Request) -> Answer {
    let Answered { reply, revision } = controller.ask(request.into()).await?;
    Ok(Document::of(&reply)?.at(revision))
}
