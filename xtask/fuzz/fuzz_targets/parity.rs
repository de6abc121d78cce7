//! Any row of frames, through the program in the kernel and the pipeline on this host: they come to the same. Needs root.

#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fuzz target fails by panicking")]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use shared::rows::Both;

#[path = "../../tests/shared"]
mod shared {
    #[path = "../../../pen-common/tests/shared/input.rs"]
    #[allow(dead_code, reason = "where a first buffer ends is up to the kernel")]
    pub(crate) mod input;
    #[path = "../parity/kernel.rs"]
    #[allow(dead_code, reason = "the parity test uses all of it")]
    pub(crate) mod kernel;
    pub(crate) mod rows;
}

thread_local! {
    /// Slot tables take long to fill: once, and each input puts back in order what it changed.
    static BOTH: RefCell<Both> = RefCell::new(Both::new());
}

fuzz_target!(|input: &[u8]| BOTH.with_borrow_mut(|both| both.check(input)));
