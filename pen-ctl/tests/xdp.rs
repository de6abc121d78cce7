//! The XDP data plane against the real kernel, each test in namespaces and on a bpffs of its own.

#[path = "xdp/admission.rs"]
mod admission;
#[path = "xdp/adoption.rs"]
mod adoption;
#[path = "xdp/backends.rs"]
mod backends;
#[path = "xdp/clients.rs"]
mod clients;
#[path = "xdp/flood.rs"]
mod flood;
#[path = "xdp/flooded.rs"]
mod flooded;
#[path = "xdp/interfaces.rs"]
mod interfaces;
#[path = "xdp/kernel.rs"]
mod kernel;
#[path = "xdp/model.rs"]
mod model;
#[path = "shared/needs.rs"]
mod needs;
#[path = "xdp/offload.rs"]
mod offload;
#[path = "xdp/packets.rs"]
mod packets;
#[path = "xdp/pinned.rs"]
mod pinned;
#[path = "xdp/place.rs"]
mod place;
#[path = "xdp/refusals.rs"]
mod refusals;
#[path = "xdp/turns.rs"]
mod turns;
#[path = "xdp/wants.rs"]
mod wants;
#[path = "xdp/windows.rs"]
mod windows;
