//! What the administrator wants: its types, their text forms, the rules they obey, and how they are kept.

pub mod desired;
pub mod difference;
mod interface;
pub(crate) mod rate_limit;
pub mod revision;
mod scheduler;
pub mod spec;
pub mod store;
pub mod text;
pub mod validate;
