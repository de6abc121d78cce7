//! The proxy behind its controller, as an administrator meets it: `pen-ctl run --dataplane proxy` in a process of its
//! own, backends that fail, changes, restarts, and clients who count what they did not get.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "proxied/access.rs"]
mod access;
#[path = "proxied/changes.rs"]
mod changes;
#[path = "proxied/choosing.rs"]
mod choosing;
#[path = "proxied/ending.rs"]
mod ending;
#[path = "proxied/failing.rs"]
mod failing;
#[path = "proxied/failover.rs"]
mod failover;
#[path = "proxied/load.rs"]
mod load;
#[path = "proxied/long.rs"]
mod long;
#[path = "proxied/looking.rs"]
mod looking;
#[path = "proxied/place.rs"]
mod place;
#[cfg(target_os = "linux")]
#[path = "proxied/programs.rs"]
mod programs;
#[path = "proxied/restart.rs"]
mod restart;
#[path = "proxied/servers.rs"]
mod servers;
#[path = "proxied/setting.rs"]
mod setting;
#[path = "proxied/watched.rs"]
mod watched;
