//! `pen-ctl`: the controller and the command line that talks to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    pen_ctl::cli::main()
}
