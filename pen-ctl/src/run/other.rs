//! Where there is no XDP: nothing to stand on yet.

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::Order;
use crate::api::{ApiError, ErrorCode};
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::dataplane::DataPlane;
use crate::journal::Journal;
use crate::state::desired::Desired;
use crate::state::store::Store;
use crate::surroundings::{Event, Links, Surroundings};

/// There is no data plane for this system.
pub(super) fn open(
    _global: &Global,
    _store: &mut Store,
    _wanted: &Desired,
    _order: Order,
    _journal: &Journal,
) -> Result<Box<dyn DataPlane>, CliError> {
    Err(not_here())
}

/// There is nothing to look at this system's interfaces with.
pub(super) fn links(_runtime: &Runtime) -> Result<Links, CliError> {
    Err(not_here())
}

/// There is nothing to watch this system with.
pub(super) fn surroundings(_events: mpsc::Sender<Event>) -> Result<Box<dyn Surroundings>, CliError> {
    Err(not_here())
}

fn not_here() -> CliError {
    let message = "the data plane xdp needs Linux, and others are not supported yet";
    ApiError::new(ErrorCode::NotSupported, message, "run it on Linux").into()
}
