//! Any bytes, from any peer, to the whole API: never a panic, a hang, or an answer that is not one.

#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fuzz target fails by panicking")]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/shared/requests.rs"]
mod requests;

fuzz_target!(|input: &[u8]| requests::check(input));
