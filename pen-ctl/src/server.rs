//! The HTTP API over the Unix socket: requests in, documents out.

use tokio::net::UnixListener;

mod audit;
mod message;
pub mod peer;
pub mod routes;
pub mod socket;

use crate::controller::ControllerHandle;

/// The longest body that is read.
pub const LONGEST_BODY: usize = 16 << 20;

/// Answers on `listener` until `end` completes, then finishes what was begun.
pub async fn serve(
    listener: UnixListener,
    controller: ControllerHandle,
    end: impl Future<Output = ()> + Send + 'static,
) {
    let service = routes::router(controller).into_make_service_with_connect_info::<peer::Peer>();
    // Never an error: failures to accept are waited out by axum itself.
    let _ = axum::serve(listener, service).with_graceful_shutdown(end).await;
}

#[cfg(test)]
mod tests;
