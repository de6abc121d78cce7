//! Why the state cannot be had or kept.

use std::io;
use std::path::PathBuf;

use crate::api::{ApiError, ErrorCode, split_hint_behind};

/// Why the state cannot be had or kept: what, on what, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is not one this controller may use.
    #[error("state directory {}: {why}; {hint}", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// Another controller has it.
    #[error("state directory {} is in use by the controller with pid {pid}; stop that one, or use another --state-dir", .path.display())]
    InUse {
        /// Which.
        path: PathBuf,
        /// Whose.
        pid: String,
    },
    /// The file is not what this version writes, or is gone. What is there is kept as it is.
    #[error("state file {}{}: {why}; nothing was changed, what is attached keeps forwarding: {hint}", .path.display(), place(*.line, *.column))]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Line from 1; 0 = no place.
        line: usize,
        /// Column from 1.
        column: usize,
        /// Why.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// Writing failed; what was there before holds.
    #[error("state file {} cannot be written: {source}; nothing was changed: free space or mend the disk, then try again", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It would be larger than what a start reads; what was there before holds.
    #[error(
        "state file {} would have {bytes} bytes, {} more than it may; nothing was changed: {}",
        .path.display(), .bytes.saturating_sub(*.most), shorten(*.on_trial)
    )]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// How large it would be.
        bytes: u64,
        /// How large it may be.
        most: u64,
        /// It would also hold the state from before a trial.
        on_trial: bool,
    },
    /// No such state in the history, or one that cannot be read.
    #[error("{0}; `pen-ctl history` shows those that can be had")]
    History(String),
    /// The history lags behind; the state does not.
    #[error(
        "the history cannot be written: {0}; what was changed holds all the same: free space or mend the disk"
    )]
    Record(io::Error),
    /// No randomness for a seed.
    #[error("no random numbers from the kernel: {0}")]
    Random(String),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::History(_) => ErrorCode::NotFound,
            StoreError::TooLarge { .. } => ErrorCode::Refused,
            _ => ErrorCode::Storage,
        };
        let path = match &error {
            StoreError::Directory { path, .. }
            | StoreError::InUse { path, .. }
            | StoreError::Unreadable { path, .. }
            | StoreError::TooLarge { path, .. }
            | StoreError::Write { path, .. } => path.display().to_string(),
            StoreError::History(_) | StoreError::Record(_) | StoreError::Random(_) => String::new(),
        };
        let line = error.to_string();
        let (message, hint) = split_hint_behind(&line, &path);
        Self::new(code, message, hint)
    }
}

/// What to do about a state that is too large.
fn shorten(on_trial: bool) -> &'static str {
    match on_trial {
        true => {
            "apply it without `--confirm`, which keeps the state from before in the same file, or shorten the lists of `allow` \
             and `deny`"
        }
        false => "shorten the lists of `allow` and `deny`, wider prefixes in place of many narrow ones",
    }
}

pub(super) fn place(line: usize, column: usize) -> String {
    match line {
        0 => String::new(),
        _ => format!(":{line}:{column}"),
    }
}
