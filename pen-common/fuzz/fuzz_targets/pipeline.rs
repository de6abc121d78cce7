//! Any row of frames, through the whole pipeline in a small world: frames are changed only as their verdicts say.

#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fuzz target fails by panicking")]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use shared::pipeline::World;

#[path = "../../tests/shared"]
mod shared {
    pub(crate) mod input;
    pub(crate) mod pipeline;
}

thread_local! {
    /// Slot tables take long to build: made once, and put back in order by each input.
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

fuzz_target!(|input: &[u8]| WORLD.with_borrow_mut(|world| world.check(input)));
