//! What the controller and the command line ask of Linux, and other systems answer otherwise or not at all.
//!
//! Only a few named places know which system this is: this one and `platform/children`; `run/platform`, which opens a data plane;
//! `dataplane/proxy/platform` and its neighbors `transparent`, `tcp/splice` and `udp/sys`, which are about sockets; and the
//! list of modules in `lib.rs`, where what only XDP needs is Linux's alone.

#[cfg_attr(not(target_os = "linux"), path = "platform/other.rs")]
mod linux;

mod children;

pub(crate) use children::ended;
pub(crate) use linux::{
    HAS_XDP, check_setup, detach_pinned, examine, hear_of_refusals, make_setup, no_acknowledgement, pid_of,
    process_of,
};
