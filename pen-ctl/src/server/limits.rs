//! What one client may take of the controller: connections, bytes and time.

use std::time::Duration;

/// The longest body that is read.
pub const LONGEST_BODY: usize = 16 << 20;

/// Limits on connections and requests. Whatever goes beyond is refused or closed; everybody else is served on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time on one listener.
    pub connections: usize,
    /// Of these, how many are kept for those who may write.
    pub kept_for_writers: usize,
    /// Connections at a time of one user who may only look, or of one remote address.
    pub per_caller: usize,
    /// Header fields of a request.
    pub header_fields: usize,
    /// Bytes of a request's line and header; at least 8192 (hyper's least).
    pub header_bytes: usize,
    /// From a connection's beginning, or its last answer, to the end of the next request's header.
    pub header_time: Duration,
    /// Bytes of one body.
    pub body_bytes: usize,
    /// From a header's end to its body's.
    pub body_time: Duration,
    /// Bytes of all bodies that are held at a time.
    pub bodies_bytes: usize,
    /// From a whole request to the beginning of its answer.
    pub answer_time: Duration,
    /// How long a client may take nothing of an answer.
    pub write_time: Duration,
    /// How long to wait after a failure to accept, such as too many open files.
    pub accept_pause: Duration,
}

impl Limits {
    /// What holds on the Unix socket.
    pub const LOCAL: Limits = Limits {
        connections: 256,
        kept_for_writers: 64,
        per_caller: 64,
        header_fields: 64,
        header_bytes: 16 << 10,
        header_time: Duration::from_secs(30),
        body_bytes: LONGEST_BODY,
        body_time: Duration::from_secs(30),
        bodies_bytes: 4 * LONGEST_BODY,
        // Less than the command line waits, so that it hears why.
        answer_time: Duration::from_secs(50),
        write_time: Duration::from_secs(30),
        accept_pause: Duration::from_secs(1),
    };

    /// What holds over TCP, where nobody may write.
    pub const NETWORK: Limits =
        Limits { connections: 128, kept_for_writers: 0, per_caller: 32, ..Limits::LOCAL };
}
