//! pen's controller and command line, as a library that `pen-ctl`, the tests and the task runner share.

#[cfg(target_os = "linux")]
mod announce;
pub mod api;
pub mod backend_setup;
mod background;
pub mod budget;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod controller;
pub mod dataplane;
#[cfg(target_os = "linux")]
pub mod doctor;
mod excerpt;
pub mod findings;
#[cfg(target_os = "linux")]
mod frame;
mod health;
mod held_lock;
mod hooks;
pub mod journal;
pub mod launch;
#[cfg(target_os = "linux")]
mod link;
pub mod log;
#[cfg(target_os = "linux")]
pub mod machine;
pub mod metrics;
mod named_files;
#[cfg(target_os = "linux")]
mod neighbor;
pub mod offline;
mod own_address;
pub mod plan;
mod platform;
mod program;
pub mod run;
pub mod server;
mod shut_out;
pub mod state;
pub mod surroundings;
pub mod target;
pub mod tracked;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod messages;
#[cfg(test)]
#[path = "../tests/shared/needs.rs"]
mod needs;
