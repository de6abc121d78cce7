//! The userspace proxy under everything at once, in a process of its own: who counts descriptors must be alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(dead_code, reason = "not every helper is of use here")]

#[path = "proxy/place.rs"]
mod place;
#[path = "proxy/soak.rs"]
mod soak;
