//! Whom a data plane remembers, and on which backend: read through while packets flow, by whoever asks, off the
//! controller's task.

use std::net::IpAddr;

use super::{BackendAddress, DataPlaneError, ServiceKey, TrackingUse};

/// One memory: a client, or a flow of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The client's address.
    pub client: IpAddr,
    /// Its ports, where flows are remembered.
    pub flow: Option<FlowPorts>,
    /// The service it came to; `None` if that was removed.
    pub service: Option<ServiceKey>,
    /// The backend it was given; `None` if that was removed.
    pub backend: Option<BackendAddress>,
    /// Seconds since a packet last used it.
    pub idle: u32,
    /// Whether the next packet obeys it.
    pub standing: Standing,
}

/// The ports of a remembered flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowPorts {
    /// The client's.
    pub client: u16,
    /// The service's: tells flows of an every-port service apart.
    pub service: u16,
}

/// Whether a memory counts, or why it does not. What does not count is overwritten by the client's next packet, or
/// evicted when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The next packet goes to the backend.
    Counts,
    /// It would, but the backend is down: the client moves with its next packet, unless the backend is back by then.
    BackendDown,
    /// It is older than the service's tracking timeout.
    TimedOut,
    /// The service does not remember (any more), or remembers by another key: flows instead of clients.
    NotAsked,
    /// The backend was removed.
    BackendRemoved,
    /// The service was removed.
    ServiceRemoved,
}

/// What is to become of a memory, and of the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays; on to the next.
    Keep,
    /// It is removed: the client's next packet goes where a newcomer's would.
    Forget,
    /// It stays, and nothing more is read.
    Stop,
}

/// Reads who is remembered.
pub trait Clients: Send + Sync {
    /// Shows every memory to `visit` and does with it as that says; gives how many were forgotten.
    ///
    /// Packets go on meanwhile: what is added or evicted during the reading may be seen or not; whatever stays is seen
    /// once. Memory is bounded: a batch at a time.
    ///
    /// # Errors
    /// The tables cannot be read; what was forgotten until then stays forgotten.
    fn read(&self, visit: &mut dyn FnMut(&Remembered) -> Fate) -> Result<u64, DataPlaneError>;

    /// How full the tables are: counts every entry, so it takes as long as reading them.
    ///
    /// # Errors
    /// The tables cannot be read.
    fn occupancy(&self) -> Result<TrackingUse, DataPlaneError>;

    /// Ends the changes of owner of slots that no memory needs any more; reads the tables through where there are any.
    ///
    /// # Errors
    /// The tables cannot be read.
    fn end_windows(&self) -> Result<(), DataPlaneError> {
        Ok(())
    }

    /// The backend that a client without a memory is given by a service that chooses by client and slot; `None` where the
    /// service is not there or chooses otherwise, and where nobody serves.
    ///
    /// # Errors
    /// The tables cannot be read.
    fn newcomer(
        &self,
        service: &ServiceKey,
        client: IpAddr,
    ) -> Result<Option<BackendAddress>, DataPlaneError>;
}

impl Standing {
    /// The memory is of this backend, whether or not that may be used right now.
    pub fn holds(self) -> bool {
        matches!(self, Self::Counts | Self::BackendDown)
    }
}
