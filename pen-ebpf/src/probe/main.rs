//! Carries health checks along the DSR path: two classifiers at an interface, one each way. Builds for BPF only, by
//! `cargo xtask build-ebpf`; elsewhere it is empty.
//!
//! Out: a packet to a probe address becomes one to the VIP at the backend's MAC, of one hop at most, so that a backend
//! that does not own the VIP cannot pass it on; the question is remembered. In: the answer, or an ICMP error about the
//! question, gets the probe address back where it says the VIP. Everything else stays as it is. Only what goes to a probe
//! address and is no question is dropped: no such address leaves this machine.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
#[path = "../license.rs"]
mod license;
#[cfg(target_arch = "bpf")]
mod memory;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod program;
#[cfg(target_arch = "bpf")]
mod socket;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
