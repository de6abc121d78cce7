//! What the controller stands on where the proxy moves packets: sockets, on whatever Unix.

use tokio::sync::mpsc;

use crate::api::event::Kind;
use crate::cli::error::CliError;
use crate::dataplane::proxy::handover::Takeover;
use crate::dataplane::proxy::plane::{self, ProxyPlane};
use crate::journal::{Journal, Note};
use crate::metrics::timings::Timings;
use crate::surroundings::portable::Portable;
use crate::surroundings::{Event, Surroundings};

/// Opens the proxy: nothing listens before the controller says what. `tracking_clients` is how many clients each
/// service remembers at most; `instead_of_xdp` is why XDP cannot be, where the proxy was not asked for.
pub(super) fn open(
    tracking_clients: u32,
    instead_of_xdp: Option<&str>,
    journal: &Journal,
    predecessor: Option<&mut Takeover>,
) -> Result<ProxyPlane, CliError> {
    let mut plane = plane::open(tracking_clients).map_err(CliError::failed)?;
    let message = match (instead_of_xdp, &predecessor) {
        (_, Some(_)) => "the proxy runs, in place of the one that ran here".to_owned(),
        (None, None) => "the proxy runs".to_owned(),
        (Some(why), None) => format!("the proxy runs, because XDP cannot be here: {why}"),
    };
    if let Some(predecessor) = predecessor {
        let heirs = plane.inherit(predecessor.inherited());
        predecessor.expect(plane.proxy(), heirs);
    }
    journal.note(Note::new(Kind::Started, message));
    Ok(plane)
}

/// Starts to watch the backends; checks run inside the runtime.
pub(super) fn surroundings(events: mpsc::Sender<Event>, timings: Timings) -> Box<dyn Surroundings> {
    Box::new(Portable::start(events, timings))
}
