//! A proxy whose successor failed goes on, with a controller of its own again.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tracing::warn;

use super::keeper::{Handed, Keeper, Wait};
use super::operate::Signals;
use super::{SocketError, open_door, open_stored, patiently};
use crate::api::ApiError;
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::controller::wanted_address;
use crate::dataplane::proxy::handover::Successor;
use crate::server::socket::BoundSocket;
use crate::server::tcp::Door;
use crate::state::store::Store;

/// From one attempt to have a controller again to the next.
const PAUSE: Duration = Duration::from_secs(5);

/// What a controller needs and only one can have.
pub(super) struct Place {
    /// The API's.
    pub(super) socket: BoundSocket,
    /// Clients of it.
    pub(super) listener: UnixListener,
    /// The state, as whoever had it last left it.
    pub(super) store: Store,
    /// Over TCP.
    pub(super) door: Door,
}

impl Place {
    fn take(global: &Global, http: Option<std::net::SocketAddr>) -> Result<Place, CliError> {
        let (socket, listener) = patiently(|| BoundSocket::bind(&global.socket()), SocketError::is_live)
            .map_err(CliError::failed)?;
        let store = open_stored(&global.state_dir()).map_err(ApiError::from)?;
        let door = Door::default();
        open_door(&door, wanted_address(http, store.desired()), false)?;
        Ok(Place { socket, listener, store, door })
    }
}

/// After the end of a controller: hands over to whoever wants to take over, and where that fails, takes the place of a
/// controller again. `None`: it has ended for good, because somebody took over or it was told to.
pub(super) fn place(
    (runtime, global): (&Runtime, &Global),
    http: Option<std::net::SocketAddr>,
    keeper: &mut Keeper,
    successor: Option<Successor>,
    signals: &mut Signals,
) -> Option<Place> {
    let mut next = Some(successor?);
    loop {
        if let Some(next) = next.take()
            && runtime.block_on(keeper.hand_over(next, signals)) != Handed::Failed
        {
            return None;
        }
        if signals.told_to_end() {
            return None;
        }
        match Place::take(global, http) {
            Ok(place) => return Some(place),
            Err(error) => warn!("clients are served, but nothing can be changed or checked for now: {error}"),
        }
        match runtime.block_on(keeper.wait(PAUSE, signals)) {
            Wait::End => return None,
            Wait::Successor(successor) => next = Some(successor),
            Wait::Nobody => {}
        }
    }
}
