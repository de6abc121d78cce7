//! The table, by what the messages are about.

mod api;
mod client;
mod controller;
mod desired;
mod file;
mod kernel;
mod kinds;
mod launch;
mod proxy;
mod setup;
mod state;
mod typed;
mod xdp;

use super::Row;
use super::stage::Stage;

/// All of it.
pub(super) fn rows() -> Vec<Row> {
    let stage = Stage::set();
    [
        typed::rows(&stage),
        desired::rows(&stage),
        file::rows(&stage),
        state::rows(&stage),
        controller::rows(&stage),
        client::rows(),
        api::rows(&stage),
        xdp::rows(),
        kernel::rows(),
        kinds::rows(),
        setup::rows(),
        launch::rows(),
        proxy::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
