//! The userspace proxy over loopback: real sockets and threads, ports that the kernel chose.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "proxy/classic.rs"]
mod classic;
#[path = "proxy/failover.rs"]
mod failover;
#[path = "proxy/limits.rs"]
mod limits;
#[path = "proxy/named.rs"]
mod named;
#[path = "proxy/one_liner.rs"]
mod one_liner;
#[path = "proxy/patience.rs"]
mod patience;
#[path = "proxy/place.rs"]
mod place;
#[path = "proxy/process.rs"]
mod process;
#[path = "proxy/standby.rs"]
mod standby;
#[path = "proxy/streams.rs"]
mod streams;
#[path = "proxy/told.rs"]
mod told;
#[path = "proxy/udp.rs"]
mod udp;
