//! pen's controller and command line, as a library that `pen-ctl`, the tests and the task runner share.

pub mod api;
pub mod controller;
pub mod dataplane;
pub mod state;
pub mod surroundings;
