//! `cargo xtask demo`.

use std::process::ExitCode;

/// Options of the demo.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

/// Runs it.
pub fn main(_args: &DemoArgs) -> ExitCode {
    ExitCode::SUCCESS
}
