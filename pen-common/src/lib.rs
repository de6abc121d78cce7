//! All that decides in pen: a frame goes in, a verdict comes out.
//!
//! No I/O, no clock, no randomness, no allocation: what a packet's fate depends on comes in through the traits
//! of `packet` and `tables`, so the same code runs in the kernel, in host tests and in tools.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod address;
pub mod bench;
pub mod hash;
pub mod mac;
pub mod maglev;
pub mod service;
pub mod verdict;
