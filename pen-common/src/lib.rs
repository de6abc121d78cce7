//! All that decides in pen: a frame goes in, a verdict comes out.
//!
//! No I/O, no clock, no randomness, no allocation: what a packet's fate depends on comes in through the traits
//! [`packet::Packet`] and [`tables::Tables`], so the same code runs in the kernel, in host tests and in tools.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod bench;
