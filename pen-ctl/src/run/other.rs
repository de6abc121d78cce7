//! Where there is no XDP: the proxy is all there is to stand on.

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::Order;
use crate::api::{ApiError, ErrorCode};
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::dataplane::DataPlane;
use crate::journal::Journal;
use crate::metrics::timings::Timings;
use crate::state::desired::Desired;
use crate::state::store::Store;
use crate::surroundings::{Event, Links, Surroundings};

/// Why XDP cannot be here.
pub(super) fn why_not_xdp() -> Option<String> {
    Some("XDP needs Linux".to_owned())
}

/// Nothing is.
pub(super) fn is_attached(_global: &Global, _store: &Store) -> bool {
    false
}

/// There is no XDP on this system.
pub(super) fn open(
    _global: &Global,
    _store: &mut Store,
    _wanted: &Desired,
    _order: Order,
    _journal: &Journal,
) -> Result<Box<dyn DataPlane>, CliError> {
    Err(not_here())
}

/// The proxy does not look at interfaces.
pub(super) fn links(_runtime: &Runtime) -> Result<Links, CliError> {
    Err(not_here())
}

/// The proxy watches nothing but backends.
pub(super) fn surroundings(
    _events: mpsc::Sender<Event>,
    _timings: Timings,
) -> Result<Box<dyn Surroundings>, CliError> {
    Err(not_here())
}

fn not_here() -> CliError {
    let message = "the data plane xdp needs Linux";
    ApiError::new(ErrorCode::NotSupported, message, "use --dataplane proxy here").into()
}
