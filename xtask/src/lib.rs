//! pen's task runner, as a library that the binary, the demo and the namespace tests share. Linux only.

pub mod account;
pub mod bench;
pub mod build_ebpf;
pub mod ci;
pub mod demo;
pub mod fuzz;
pub mod lab;
pub mod portable;
pub mod test;
