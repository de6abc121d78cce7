//! All that decides in pen: a frame goes in, a verdict comes out.
//!
//! No I/O, no clock, no randomness, no allocation: what a packet's fate depends on comes in through the traits
//! [`packet::Packet`] and [`tables::Tables`], so the same code runs in the kernel, in host tests and in tools.
//! A packet's way: [`plain`] for nearly all of them, else [`parse`], [`service`], [`guard`] ([`blocks`], [`limit`]), [`track`] ([`fragment`],
//! [`flood`]), [`hash`], [`slot`], [`select`], [`rewrite`], [`verdict`], tied together in [`pipeline`].
#![cfg_attr(not(any(test, feature = "host")), no_std)]

pub mod abi;
pub mod address;
pub mod bench;
pub mod blocks;
pub mod flood;
pub mod fragment;
pub mod guard;
pub mod hash;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod limit;
pub mod mac;
pub mod maglev;
pub mod packet;
pub mod parse;
pub mod pipeline;
pub mod plain;
pub mod probe;
pub mod recent;
pub mod rewrite;
pub mod ring;
pub mod select;
pub mod service;
pub mod slot;
pub mod solicitation;
pub mod tables;
pub mod track;
pub mod verdict;
