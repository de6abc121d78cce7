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
            _ => ErrorCode::Storage,
        };
        let path = match &error {
            StoreError::Directory { path, .. }
            | StoreError::InUse { path, .. }
            | StoreError::Unreadable { path, .. }
            | StoreError::Write { path, .. } => path.display().to_string(),
            StoreError::History(_) | StoreError::Record(_) | StoreError::Random(_) => String::new(),
        };
        let line = error.to_string();
        let (message, hint) = split_hint_behind(&line, &path);
        Self::new(code, message, hint)
    }
}

pub(super) fn place(line: usize, column: usize) -> String {
    match line {
        0 => String::new(),
        _ => format!(":{line}:{column}"),
    }
}
