//! Requests as they are read and answers as they are written: JSON bodies, names in paths, errors, permission.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_MATCH};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::peer::Peer;
use crate::api::{ApiError, ErrorCode, ErrorDocument, decode, plain};
use crate::dataplane::BackendAddress;
use crate::state::revision::{Condition, Revision};

/// What every handler answers: a document, or an error.
pub(super) type Answer = Result<Document, Failure>;

/// A document on its way out.
#[derive(Debug)]
pub(super) struct Document {
    status: StatusCode,
    revision: Option<Revision>,
    content_type: &'static str,
    text: String,
}

impl Document {
    pub(super) fn of<T: Serialize>(document: &T) -> Answer {
        match serde_json::to_string(document) {
            Ok(text) => Ok(Self { content_type: "application/json", ..Self::toml(text) }),
            Err(error) => {
                Err(ApiError::new(ErrorCode::Internal, format!("write the answer: {error}"), "").into())
            }
        }
    }

    /// A configuration file (its media type is registered with IANA).
    pub(super) fn toml(text: String) -> Self {
        Self { status: StatusCode::OK, revision: None, content_type: "application/toml", text }
    }

    /// Says which desired state it comes from.
    pub(super) fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    pub(super) fn created(mut self) -> Self {
        self.status = StatusCode::CREATED;
        self
    }

    /// What was asked for has begun.
    pub(super) fn accepted(mut self) -> Self {
        self.status = StatusCode::ACCEPTED;
        self
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        let etag = self.revision.map(|revision| [(ETAG, revision.etag())]);
        (self.status, [(CONTENT_TYPE, self.content_type)], etag, self.text).into_response()
    }
}

/// An error on its way out.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) error: ApiError,
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

/// Proof that the peer may change things, who it is, and which desired state it wants to change.
pub(super) struct Writer {
    pub(super) peer: Peer,
    pub(super) condition: Condition,
}

impl<S: Send + Sync> FromRequestParts<S> for Writer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let peer = Peer::of(&parts.extensions);
        peer.may_write()?;
        Ok(Self { peer, condition: condition(&parts.headers)? })
    }
}

/// Proof that the peer may see what is not for everybody who reaches a TCP port.
pub(super) struct Insider;

impl<S: Send + Sync> FromRequestParts<S> for Insider {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Peer::of(&parts.extensions).may_look_inside()?;
        Ok(Self)
    }
}

/// What `If-Match` says; said twice, both count as one list (RFC 9110, section 5.3).
fn condition(headers: &HeaderMap) -> Result<Condition, ApiError> {
    let said: Vec<_> =
        headers.get_all(IF_MATCH).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    match said.is_empty() {
        true => Ok(Condition::Any),
        false => Ok(said.join(",").parse()?),
    }
}

/// A name in the path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await.map_err(bad_path)?;
        Ok(Self(name))
    }
}

/// A backend of a service in the path.
pub(super) struct Which {
    pub(super) service: String,
    pub(super) address: BackendAddress,
}

impl<S: Send + Sync> FromRequestParts<S> for Which {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((service, address)) = path.map_err(bad_path)?;
        Ok(Self { service, address: address.parse().map_err(ApiError::from)? })
    }
}

/// What stands after the question mark.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                let message = format!("the query cannot be read: {}", plain(text));
                Err(ApiError::invalid(message, "name each key once, as key=value").into())
            }
        }
    }
}

/// The address of a client in the path.
pub(super) struct Client(pub(super) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(bad_path)?;
        let address = text.parse().map_err(|_| {
            let message = format!("`{}` is not an IP address", text.escape_debug());
            ApiError::invalid(message, "write it as 192.0.2.7 or 2001:db8::7")
        })?;
        Ok(Self(address))
    }
}

fn bad_path(rejection: PathRejection) -> Failure {
    let message = format!("the path cannot be read: {}", rejection.body_text());
    ApiError::invalid(message, "write it in UTF-8, percent-encoded").into()
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(bad_body)?;
        Ok(Self(object(&bytes)?))
    }
}

/// A number in the path.
pub(super) struct Number(pub(super) u64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(bad_path)?;
        let number = text.parse().map_err(|_| {
            let message = format!("`{}` is not the number of a state", text.escape_debug());
            ApiError::invalid(message, "`pen-ctl history` shows those there are")
        })?;
        Ok(Self(number))
    }
}

/// A body that is text, such as TOML.
pub(super) struct Text(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(bad_body)?;
        let text = String::from_utf8(bytes.into());
        let wrong = |_| ApiError::invalid("the body is not UTF-8 text", "send a configuration file (TOML)");
        Ok(Self(text.map_err(wrong)?))
    }
}

/// A JSON body that may be left out.
pub(super) struct Optional<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
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
    ApiError::invalid(format!("the body cannot be read: {}", rejection.body_text()), "send it again").into()
}
