//! Opens the XDP data plane: builds it, or adopts what an earlier controller left running.

use std::path::PathBuf;

/// What to do with pins that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Adopt them if they are this instance's, else refuse. To adopt another's, pass the pins' own id.
    Adopt,
    /// Detach and remove them, and build anew.
    Discard,
}

/// How to open the XDP data plane.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The pin directory, on a BPF file system; made if missing.
    pub dir: PathBuf,
    /// The id that the pins share with the state.
    pub instance: [u8; 16],
    /// Entries of each tracking table. Adopted tables keep their size.
    pub tracking_clients: u32,
    /// What to do with pins that are there already.
    pub policy: Policy,
}
