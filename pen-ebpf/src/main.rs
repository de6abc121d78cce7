//! Build for BPF only; see `cargo xtask build-ebpf`.
fn main() {}
