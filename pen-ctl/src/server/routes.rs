//! Which path and method asks for what, under `/v1/`.
//!
//! | path | GET | POST | PATCH | PUT | DELETE |
//! | --- | --- | --- | --- | --- | --- |
//! | `status` | everything | | | | |
//! | `services` | list | add | | | |
//! | `services/{name}` | show | | change | | remove |
//! | `services/{name}/backends` | list | add | | | |
//! | `services/{name}/backends/{address}` | show | | change | | remove |
//! | `backends` | list of all | | | | |
//! | `interfaces` | list | attach `{"interfaces": […]}` | | | detach all |
//! | `interfaces/{name}` | show | | | attach | detach |
//! | `reload` | | apply the file again | | | |
//! | `stop` | | end; `{"detach": true}` detaches first | | | |

use std::net::IpAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{
    ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request as HttpRequest, State,
};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::LONGEST_BODY;
use super::peer::Peer;
use crate::api::{ApiError, ErrorCode, ErrorDocument, Interfaces, Reply, Request, decode};
use crate::controller::ControllerHandle;
use crate::dataplane::AttachMode;
use crate::state::desired::InterfaceSpec;
use crate::state::spec::{BackendSpec, ServiceSpec};
use crate::state::text::backend_address;

/// What every handler answers: a document, or an error.
type Answer = Result<Document, Failure>;
type Controller = State<ControllerHandle>;

/// The API's routes.
pub fn router(controller: ControllerHandle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/services", get(service_list).post(service_add))
        .route("/v1/services/{name}", get(service_show).patch(service_set).delete(service_remove))
        .route("/v1/services/{name}/backends", get(backends_of).post(backend_add))
        .route(
            "/v1/services/{name}/backends/{address}",
            get(backend_show).patch(backend_set).delete(backend_remove),
        )
        .route("/v1/backends", get(backend_list))
        .route("/v1/interfaces", get(interface_list).post(attach).delete(detach_all))
        .route("/v1/interfaces/{name}", get(interface_show).put(attach_one).delete(detach))
        .route("/v1/reload", post(reload))
        .route("/v1/stop", post(stop))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(controller)
}

async fn status(State(controller): Controller) -> Answer {
    ask(&controller, Request::Status).await
}

async fn service_list(State(controller): Controller) -> Answer {
    ask(&controller, Request::ServiceList).await
}

async fn service_add(State(controller): Controller, _: Writer, Body(spec): Body<ServiceSpec>) -> Answer {
    Ok(ask(&controller, Request::ServiceAdd(spec)).await?.created())
}

async fn service_show(State(controller): Controller, Name(name): Name) -> Answer {
    ask(&controller, Request::ServiceShow { name }).await
}

async fn service_set(
    State(controller): Controller,
    Name(name): Name,
    _: Writer,
    Body(spec): Body<ServiceSpec>,
) -> Answer {
    ask(&controller, Request::ServiceSet { name, spec }).await
}

async fn service_remove(State(controller): Controller, Name(name): Name, _: Writer) -> Answer {
    ask(&controller, Request::ServiceRemove { name }).await
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
    _: Writer,
    Body(spec): Body<BackendSpec>,
) -> Answer {
    Ok(ask(&controller, Request::BackendAdd { service, spec }).await?.created())
}

async fn backend_show(State(controller): Controller, which: Which) -> Answer {
    let Which { service, address } = which;
    let request = Request::BackendList { service: Some(service.clone()) };
    let found = match controller.request(request).await? {
        Reply::Backends(list) => list.backends.into_iter().find(|backend| backend.address == address),
        _ => None,
    };
    match found {
        Some(backend) => Document::of(&backend),
        None => Err(not_found(format!("service {service} has no backend {address}")).into()),
    }
}

async fn backend_set(
    State(controller): Controller,
    Which { service, address }: Which,
    _: Writer,
    Body(spec): Body<BackendSpec>,
) -> Answer {
    ask(&controller, Request::BackendSet { service, address, spec }).await
}

async fn backend_remove(
    State(controller): Controller,
    Which { service, address }: Which,
    _: Writer,
) -> Answer {
    ask(&controller, Request::BackendRemove { service, address }).await
}

async fn interface_list(State(controller): Controller) -> Answer {
    ask(&controller, Request::InterfaceList).await
}

async fn interface_show(State(controller): Controller, Name(name): Name) -> Answer {
    let found = match controller.request(Request::InterfaceList).await? {
        Reply::Interfaces(list) => list.interfaces.into_iter().find(|interface| interface.name == name),
        _ => None,
    };
    match found {
        Some(interface) => Document::of(&interface),
        None => Err(not_found(format!("interface {name} is not attached")).into()),
    }
}

/// Interfaces to attach to, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachBody {
    /// Which, and how.
    pub interfaces: Vec<InterfaceSpec>,
}

async fn attach(State(controller): Controller, _: Writer, Body(body): Body<AttachBody>) -> Answer {
    ask(&controller, Request::Attach(body.interfaces)).await
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
    _: Writer,
    Optional(body): Optional<AttachOneBody>,
) -> Answer {
    let AttachOneBody { mode, announce } = body;
    ask(&controller, Request::Attach(vec![InterfaceSpec { name, mode, announce }])).await
}

async fn detach_all(State(controller): Controller, _: Writer) -> Answer {
    ask(&controller, Request::Detach(Interfaces::All)).await
}

async fn detach(State(controller): Controller, Name(name): Name, _: Writer) -> Answer {
    ask(&controller, Request::Detach(Interfaces::Named(vec![name]))).await
}

async fn reload(State(controller): Controller, _: Writer) -> Answer {
    ask(&controller, Request::Reload).await
}

/// How to end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopBody {
    /// Detach from all interfaces first.
    pub detach: bool,
}

async fn stop(State(controller): Controller, _: Writer, Optional(body): Optional<StopBody>) -> Answer {
    ask(&controller, Request::Stop { detach: body.detach }).await
}

async fn unknown_path(uri: Uri) -> Failure {
    not_found(format!("there is no {}", uri.path())).into()
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let message = format!("{} cannot be asked of {}", method, uri.path());
    Failure {
        status: StatusCode::METHOD_NOT_ALLOWED,
        error: ApiError::invalid(message, "see the Allow header"),
    }
}

async fn ask(controller: &ControllerHandle, request: Request) -> Answer {
    Document::of(&controller.request(request).await?)
}

fn not_found(message: String) -> ApiError {
    ApiError::new(ErrorCode::NotFound, message, "")
}

/// A document on its way out.
#[derive(Debug)]
struct Document {
    status: StatusCode,
    text: String,
}

impl Document {
    fn of<T: Serialize>(document: &T) -> Answer {
        match serde_json::to_string(document) {
            Ok(text) => Ok(Self { status: StatusCode::OK, text }),
            Err(error) => {
                Err(ApiError::new(ErrorCode::Internal, format!("write the answer: {error}"), "").into())
            }
        }
    }

    fn created(mut self) -> Self {
        self.status = StatusCode::CREATED;
        self
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        (self.status, [(CONTENT_TYPE, "application/json")], self.text).into_response()
    }
}

/// An error on its way out.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let status =
            StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let document = ErrorDocument { error: self.error };
        // Strings and no maps: cannot fail.
        let text = serde_json::to_string(&document).unwrap_or_default();
        (self.status, [(CONTENT_TYPE, "application/json")], text).into_response()
    }
}

/// Proof that the peer may change things.
struct Writer;

impl<S: Send + Sync> FromRequestParts<S> for Writer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let ConnectInfo(peer) = ConnectInfo::<Peer>::from_request_parts(parts, state)
            .await
            .unwrap_or(ConnectInfo(Peer { uid: None }));
        peer.may_write()?;
        Ok(Self)
    }
}

/// A name in the path.
struct Name(String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await.map_err(bad_path)?;
        Ok(Self(name))
    }
}

/// A backend of a service in the path.
struct Which {
    service: String,
    address: IpAddr,
}

impl<S: Send + Sync> FromRequestParts<S> for Which {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((service, address)) = path.map_err(bad_path)?;
        Ok(Self { service, address: backend_address(&address).map_err(ApiError::from)? })
    }
}

fn bad_path(rejection: PathRejection) -> Failure {
    ApiError::invalid(format!("the path cannot be read: {}", rejection.body_text()), "").into()
}

/// A JSON body.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: HttpRequest, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(bad_body)?;
        Ok(Self(object(&bytes)?))
    }
}

/// A JSON body that may be left out.
struct Optional<T>(T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Failure;

    async fn from_request(request: HttpRequest, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(bad_body)?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        Ok(Self(object(&bytes)?))
    }
}

/// Reads a JSON object; an array would be taken for the object's values in order.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    match bytes.trim_ascii_start().first() {
        Some(b'[') => Err(ApiError::invalid("the body is a JSON array", "send a JSON object")),
        _ => decode(bytes),
    }
}

fn bad_body(rejection: BytesRejection) -> Failure {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let error = ApiError::invalid(format!("the body is longer than {LONGEST_BODY} bytes"), "send less");
        return Failure { status: StatusCode::PAYLOAD_TOO_LARGE, error };
    }
    ApiError::invalid(format!("the body cannot be read: {}", rejection.body_text()), "").into()
}
