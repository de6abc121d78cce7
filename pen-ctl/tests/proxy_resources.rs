//! What the userspace proxy takes of the machine, and what it does when there is no more. These tests have a process
//! of their own, because they take nearly all descriptors that one may have, and take turns.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(dead_code, reason = "not every helper is of use here")]
#![cfg(target_os = "linux")]

#[path = "proxy/place.rs"]
mod place;
#[path = "proxy/process.rs"]
mod process;
#[path = "proxy/resources.rs"]
mod resources;
