//! What the administrator wants: its types, their text forms, the rules they obey, and how they are kept.

pub mod desired;
mod health;
pub mod spec;
pub mod text;
