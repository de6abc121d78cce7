//! The documents about clients: who is remembered on which backend.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dataplane::{Admission, BackendAddress, ServiceKey};

/// Clients that are remembered, some or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// As many as were asked for, in the order that was asked for.
    pub clients: Vec<ClientDocument>,
    /// How many there are of what was asked for.
    pub total: u64,
    /// How many more there are that do not count any more (with `all`, they are part of `total`).
    pub stale: u64,
}

/// A client, or a flow of one, and the backend it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientDocument {
    /// The client's address.
    pub address: IpAddr,
    /// Its port; absent where clients are remembered as a whole.
    pub port: Option<u16>,
    /// The port it came to; absent where clients are remembered as a whole.
    pub service_port: Option<u16>,
    /// The name of the service; absent if that was removed.
    pub service: Option<String>,
    /// The backend; absent if that was removed.
    pub backend: Option<BackendAddress>,
    /// When a packet last used the memory (RFC 3339).
    pub last_seen: String,
    /// How long ago that was.
    pub idle_seconds: u64,
    /// Whether its next packet goes to the backend, or why not.
    pub status: ClientStatus,
}

/// Whether a memory counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientStatus {
    /// It does: the next packet goes to the backend.
    Tracked,
    /// The backend is down: the client moves with its next packet, unless the backend is back by then.
    BackendDown,
    /// Older than the service's `tracking_timeout`.
    TimedOut,
    /// The service remembers nobody (any more), or by another key.
    NotAsked,
    /// The backend was removed.
    BackendRemoved,
    /// The service was removed.
    ServiceRemoved,
}

/// All that is known of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientShow {
    /// Its address.
    pub address: IpAddr,
    /// What each service of its address family would do with it.
    pub services: Vec<ClientOfService>,
    /// What is remembered of it, the latest first: at most 1000.
    pub remembered: Vec<ClientDocument>,
    /// How much is remembered of it.
    pub total: u64,
}

/// What a service would do with a client's next packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOfService {
    /// The service's name.
    pub service: String,
    /// Its VIP, port and protocol.
    pub vip: ServiceKey,
    /// The backend of its next packet; absent where that is not known, or there is none.
    pub backend: Option<BackendAddress>,
    /// What decides.
    pub by: DecidedBy,
    /// What the service's access list says of it; absent where it has none.
    #[serde(default)]
    pub access: Option<Admission>,
}

/// What decides where a client's packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// The access list, which refuses it.
    Access,
    /// The memory of this client.
    Memory,
    /// Its slot in the service's table.
    Slot,
    /// Its flow: each one goes by itself.
    Flow,
    /// Whose turn it is.
    Turn,
    /// Who has the fewest connections.
    Connections,
    /// Nobody serves.
    Nobody,
}

/// What forgetting came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetDocument {
    /// How many memories were removed.
    pub forgotten: u64,
    /// How many of them did not count any more.
    pub stale: u64,
    /// Not done yet: more are being forgotten, and the journal will tell how many it came to.
    #[serde(default)]
    pub goes_on: bool,
}
