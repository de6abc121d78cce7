//! `cargo xtask …`: what can be done with this repository beyond `cargo build`.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{account, bench, build_ebpf, ci, demo, fuzz, lab, portable, test};

/// pen's task runner.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// See pen at work: a network of namespaces on this machine, real traffic, failures (asks for sudo)
    Demo(demo::DemoArgs),
    /// Run every test; those that need root run only as root
    Test,
    /// Build the eBPF objects that are committed in pen-ebpf/prebuilt
    BuildEbpf(build_ebpf::BuildEbpfArgs),
    /// Measure nanoseconds per packet of each path, beside floor programs; or the proxy beside others, health checks,
    /// changes of a pool (as root)
    Bench(bench::Options),
    /// Run the fuzz targets of the packet path, side by side (rustup's nightly, cargo-fuzz; root for one of them)
    Fuzz(fuzz::FuzzArgs),
    /// Count many frames in the kernel and on this host, and compare with what went in (as root)
    Account(account::AccountArgs),
    /// Type-check pen for the systems that it is not run on here
    Portable(portable::PortableArgs),
    /// What `.ci/run` does once the tools are there
    Ci,
    /// The servers of a backend in a lab
    #[command(name = lab::server::COMMAND, hide = true)]
    LabServer {
        /// The backend's name
        name: String,
        /// Addresses for UDP
        addresses: Vec<IpAddr>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Bench(options) => return bench::main(&options),
        Task::Demo(args) => return demo::main(&args),
        Task::Test => return test::main(),
        Task::BuildEbpf(args) => return build_ebpf::main(&args),
        Task::Fuzz(args) => return fuzz::main(&args),
        Task::Account(args) => return account::main(&args),
        Task::Portable(args) => return portable::main(&args),
        Task::Ci => return ci::main(),
        Task::LabServer { name, addresses } => lab::server::run(&name, &addresses),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
