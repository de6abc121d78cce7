//! The userspace proxy over loopback: real sockets and threads, ports that the kernel chose.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "proxy/failover.rs"]
mod failover;
#[path = "proxy/one_liner.rs"]
mod one_liner;
#[path = "proxy/place.rs"]
mod place;
#[path = "proxy/streams.rs"]
mod streams;
#[path = "proxy/udp.rs"]
mod udp;
