//! `cargo xtask demo`: pen at work in a network of namespaces on this machine, told in acts, each of which
//! checks what it claims.

mod claims;
mod prepare;
mod screen;
mod story;
mod tally;
mod traffic;

use std::process::ExitCode;

use crate::lab::{needs, sys};

/// Options of the demo.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Everything is built and this is root: play
    #[arg(long, hide = true)]
    prepared: bool,
}

/// Builds as the user who calls, then plays as root; fails if anything claimed did not happen.
pub fn main(args: &DemoArgs) -> ExitCode {
    if !args.prepared {
        return prepare::build_and_become_root();
    }
    if let Some(need) = needs::missing() {
        eprintln!("demo: this needs {need}");
        return ExitCode::FAILURE;
    }
    sys::catch_interrupts();
    match story::play() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if sys::interrupted() => {
            eprintln!("\ninterrupted; everything is cleaned up");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("\ndemo: {error}");
            eprintln!("{}", prepare::WHAT_IT_TAKES);
            ExitCode::FAILURE
        }
    }
}
