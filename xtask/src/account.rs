//! `cargo xtask account`: whether each of many frames is counted once. The test of that, at full size, by the optimizing
//! compiler, with its numbers.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use clap::Args;

use crate::build_ebpf::root;

/// What `cargo xtask account` takes.
#[derive(Debug, Args)]
pub struct AccountArgs {
    /// How many frames
    #[arg(long, default_value_t = 10_000_000)]
    frames: u64,
}

/// Runs the test; its outcome is ours.
pub fn main(args: &AccountArgs) -> ExitCode {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let done = Command::new(cargo)
        .args(["test", "--release", "--package", "xtask", "--test", "accounting"])
        .args(["--", "--nocapture", "every_frame_is_counted_once"])
        .current_dir(root())
        .env("PEN_ACCOUNT_FRAMES", args.frames.to_string())
        .status();
    if done.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
