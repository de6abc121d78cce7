//! The HTTP API over the Unix socket: requests in, documents out.

use axum::{Router, middleware};
use tokio::net::UnixListener;

mod audit;
pub mod clients;
pub mod connection;
mod events;
mod gate;
mod intake;
pub mod limits;
mod message;
mod patient;
pub mod peer;
pub mod routes;
pub mod socket;

pub use intake::VERSION_HEADER;

use crate::controller::ControllerHandle;
use limits::Limits;

/// Answers on `listener` until `end` completes, then finishes what was begun.
pub async fn serve(
    listener: UnixListener,
    controller: ControllerHandle,
    end: impl Future<Output = ()> + Send + 'static,
) {
    let limits = Limits::LOCAL;
    connection::accept_all(listener, app(controller, limits), limits, end).await;
}

/// All that is answered, with what goes around every request.
pub fn app(controller: ControllerHandle, limits: Limits) -> Router {
    let around = middleware::from_fn_with_state(intake::Intake::new(limits), intake::around);
    routes::router(controller).layer(around)
}

#[cfg(test)]
mod tests;
