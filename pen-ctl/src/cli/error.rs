//! How commands fail: one line on stderr, an exit status, and the API's error document with `--json`.

use std::process::ExitCode;

use crate::api::{ApiError, ErrorCode, ErrorDocument};
use crate::client::ClientError;

/// Wrong usage.
const USAGE: u8 = 2;
/// Ended by SIGINT, as shells say it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Talking to the controller failed, or it refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Refused in this process, by the rules that the controller goes by.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C: what goes on, and how to take it back.
    #[error("interrupted; {0}")]
    Interrupted(String),
    /// A command that looks found something wrong, and said so on stdout.
    #[error("{count} problem{} found; what to do stands under each", if *.count == 1 { "" } else { "s" })]
    Found {
        /// How many things.
        count: usize,
    },
}

impl CliError {
    /// Something failed in this process: what, on what, what to do.
    pub fn failed(message: impl ToString) -> CliError {
        CliError::Refused(ApiError::new(ErrorCode::Refused, message.to_string(), ""))
    }

    /// Says it, and gives the exit status: the line goes to stderr; with `json` the document goes to stdout, so
    /// that stdout is one document whatever happens.
    pub fn report(&self, json: bool) -> ExitCode {
        eprintln!("pen-ctl: {}", one_line(&self.to_string()));
        if matches!(self, CliError::Found { .. }) {
            // The document is out already.
            return ExitCode::FAILURE;
        }
        let document = self.document();
        // Strings and no maps: cannot fail.
        if json && let Ok(text) = serde_json::to_string(&document) {
            super::render::print(&text);
        }
        ExitCode::from(match self {
            CliError::Usage(_) => USAGE,
            CliError::Interrupted(_) => INTERRUPTED,
            _ => document.error.code.exit_status(),
        })
    }

    fn document(&self) -> ErrorDocument {
        let error = match self {
            CliError::Client(error) => error.as_api_error(),
            CliError::Refused(error) => error.clone(),
            CliError::Interrupted(message) => ApiError::new(ErrorCode::Refused, message.clone(), ""),
            CliError::Usage(message) => ApiError::invalid(message.clone(), ""),
            CliError::Found { .. } => ApiError::new(ErrorCode::Refused, self.to_string(), ""),
        };
        ErrorDocument { error }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Prints clap's own message: help and version to stdout with status 0, wrong usage to stderr with status 2.
pub fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no failure of ours.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
