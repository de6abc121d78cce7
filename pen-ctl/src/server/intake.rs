//! Goes around every request: takes its body in within limits, waits so long for the answer and no longer, and
//! says which pen answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::limits::Limits;
use super::message::Failure;
use super::peer::Peer;
use crate::api::{ApiError, ErrorCode};

/// The header of every answer that says which pen gave it.
pub const VERSION_HEADER: &str = "pen-version";

/// Within which time an answer is to begin, from where the request was taken in: handlers find it in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerTime(pub(super) Duration);

/// Bytes of one unit of what bodies may hold.
const UNIT: usize = 4096;

/// What goes around requests.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    limits: Limits,
    /// Units that bodies may still hold.
    room: Arc<Semaphore>,
}

impl Intake {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, room: Arc::new(Semaphore::new(limits.bodies_bytes / UNIT)) }
    }
}

/// Takes a request in, passes it on, sees to the answer.
pub(super) async fn around(State(intake): State<Intake>, request: Request, next: Next) -> Response {
    let mut answer = match intake.take_in(request).await {
        Ok((mut request, room)) => {
            request.extensions_mut().insert(AnswerTime(intake.limits.answer_time));
            let answer = intake.answered(next.run(request)).await;
            drop(room);
            answer
        }
        Err(failure) => failure.into_response(),
    };
    answer.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    answer
}

impl Intake {
    /// Reads the body, if it is one that will be looked at; holds its room for as long as the request lives.
    async fn take_in(&self, request: Request) -> Result<(Request, Vec<OwnedSemaphorePermit>), Failure> {
        let peer = Peer::of(request.extensions());
        if request.method().is_safe() || peer.may_write().is_err() {
            // Nobody reads it: whoever may not write cannot make us hold anything.
            return Ok((request.map(|_| Body::empty()), Vec::new()));
        }
        let (parts, mut body) = request.into_parts();
        let Ok(read) = timeout(self.limits.body_time, self.read(&mut body)).await else {
            return Err(too_slow(self.limits.body_time));
        };
        if read.is_err() {
            // Who is in the midst of sending hears the answer only if the rest is taken.
            let _ = timeout(self.limits.body_time, let_go_by(&mut body, self.limits.body_bytes)).await;
        }
        let (bytes, room) = read?;
        Ok((Request::from_parts(parts, Body::from(bytes)), room))
    }

    async fn read(&self, body: &mut Body) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Failure> {
        if body.size_hint().lower() > self.limits.body_bytes as u64 {
            return Err(too_long(self.limits.body_bytes));
        }
        let (mut bytes, mut room, mut units) = (Vec::new(), Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                ApiError::invalid(format!("the body cannot be read: {error}"), "send it again")
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.limits.body_bytes {
                return Err(too_long(self.limits.body_bytes));
            }
            bytes.extend_from_slice(&data);
            let more = bytes.len().div_ceil(UNIT) - units;
            // Not waited for: two that wait for each other's room would never end.
            let taken = self.room.clone().try_acquire_many_owned(more.try_into().unwrap_or(u32::MAX));
            room.push(taken.map_err(|_| no_room())?);
            units += more;
        }
        Ok((bytes.into(), room))
    }

    async fn answered(&self, answer: impl Future<Output = Response>) -> Response {
        match timeout(self.limits.answer_time, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("no answer within {}", words(self.limits.answer_time));
                let hint = "what was asked may still be done: look with `pen-ctl status`";
                Failure::from(ApiError::new(ErrorCode::Busy, message, hint)).into_response()
            }
        }
    }
}

/// Takes the rest of a body, up to so many bytes, and forgets it.
async fn let_go_by(body: &mut Body, most: usize) {
    let mut left = most;
    while let Some(Ok(frame)) = body.frame().await {
        let taken = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(taken) else { return };
        left = less;
    }
}

fn too_long(longest: usize) -> Failure {
    let error = ApiError::invalid(format!("the body is longer than {longest} bytes"), "send less");
    Failure { status: StatusCode::PAYLOAD_TOO_LARGE, error }
}

fn too_slow(time: Duration) -> Failure {
    let error = ApiError::invalid(format!("the body did not come within {}", words(time)), "send it faster");
    Failure { status: StatusCode::REQUEST_TIMEOUT, error }
}

fn no_room() -> Failure {
    ApiError::new(ErrorCode::Busy, "too many large requests at a time", "try again").into()
}

fn words(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
