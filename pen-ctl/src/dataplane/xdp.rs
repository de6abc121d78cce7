//! The data plane that moves packets in XDP: pinned programs, maps and links that outlive the controller.

mod error;
mod open;
mod pins;
mod privilege;
mod sys;

pub use error::OpenError;
pub use open::{OpenOptions, Policy};
pub use pins::{Pinned, detach_pinned, discard, inspect};

/// Bytes as people read an instance's id.
fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
