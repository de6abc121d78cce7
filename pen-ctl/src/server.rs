//! The HTTP API: requests in, documents out; over the Unix socket, and for whoever only looks over TCP.

use axum::{Router, middleware};
use tokio::net::UnixListener;
use tokio::sync::watch;

mod audit;
pub mod clients;
mod configuration;
pub mod connection;
mod events;
mod everybody;
mod gate;
pub mod hangup;
mod intake;
pub mod limits;
mod looks;
mod message;
mod metrics;
mod page;
mod patient;
pub mod peer;
pub mod routes;
pub mod socket;
pub mod tcp;

pub use intake::VERSION_HEADER;

use crate::controller::ControllerHandle;
use crate::metrics::timings::Timings;
use limits::Limits;
use tcp::Door;

/// Answers on `listener`, and to whoever comes in at `door`, until `end` completes; then finishes what was begun.
pub async fn serve(
    listener: UnixListener,
    door: Door,
    controller: ControllerHandle,
    end: impl Future<Output = ()> + Send + 'static,
) {
    serve_within(listener, door, controller, end, (Limits::LOCAL, Limits::NETWORK)).await;
}

/// The same within limits on the one and on the other.
async fn serve_within(
    listener: UnixListener,
    door: Door,
    controller: ControllerHandle,
    end: impl Future<Output = ()>,
    (local, network): (Limits, Limits),
) {
    let (over, ended) = watch::channel(false);
    let inside = app(controller.clone(), local);
    let outside = looking_app(controller, network);
    tokio::join!(
        connection::accept_all(listener, inside, local, ended.clone()),
        connection::accept_all(door, outside, network, ended),
        async {
            end.await;
            over.send_replace(true);
        },
    );
}

/// All that is answered to a process of this machine, with what goes around every request.
pub fn app(controller: ControllerHandle, limits: Limits) -> Router {
    let timings = controller.timings().clone();
    around(routes::router(controller), timings, limits)
}

/// What is answered to whoever comes over TCP.
pub fn looking_app(controller: ControllerHandle, limits: Limits) -> Router {
    let timings = controller.timings().clone();
    around(routes::router(controller).layer(middleware::from_fn(looks::only)), timings, limits)
}

fn around(routes: Router, timings: Timings, limits: Limits) -> Router {
    let intake = middleware::from_fn_with_state(intake::Intake::new(limits), intake::around);
    routes.layer(intake).layer(middleware::from_fn_with_state(timings, metrics::count))
}

#[cfg(test)]
mod tests;
