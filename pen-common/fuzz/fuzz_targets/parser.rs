//! Any bytes, read as headers: nothing lies outside of the frame, whole or in several buffers.

#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fuzz target fails by panicking")]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/shared/parser.rs"]
mod parser;

fuzz_target!(|input: &[u8]| parser::check(input));
