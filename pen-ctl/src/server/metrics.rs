//! `GET /metrics`, in the format that is asked for; and the count of what was answered.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::task::spawn_blocking;

use super::events::accepts;
use super::message::Failure;
use crate::api::{self, ApiError, ErrorCode, Reply};
use crate::controller::ControllerHandle;
use crate::metrics::timings::Timings;
use crate::metrics::{Format, render};

/// Answers with everything that is counted.
pub(super) async fn metrics(
    State(controller): State<ControllerHandle>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let format = match accepts(&headers, "application/openmetrics-text") {
        true => Format::OpenMetrics,
        false => Format::Text,
    };
    let failed = |why: String| ApiError::new(ErrorCode::Internal, format!("write the metrics: {why}"), "");
    let Reply::Metrics(snapshot) = controller.request(api::Request::Metrics).await? else {
        return Err(failed("the controller gave something else".to_owned()).into());
    };
    let timings = controller.timings().clone();
    let written = spawn_blocking(move || render(*snapshot, &timings, format)).await;
    let text =
        written.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}

/// Goes around every request: counts how it was answered.
pub(super) async fn count(State(timings): State<Timings>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    timings.answered(response.status().as_u16());
    response
}
