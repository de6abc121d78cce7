//! The command line: what may be typed, and what each command does with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::de::DeserializeOwned;

pub mod backend;
pub mod backend_setup;
pub mod client;
pub mod completions;
pub mod configuration;
pub mod doctor;
mod drain;
pub mod error;
pub mod events;
pub mod interface;
pub mod look;
pub mod man;
mod prefixes;
pub mod proxy;
pub mod render;
pub mod service;
pub mod values;

use crate::client::{Answer, Client};
use crate::run::RunArgs;
use error::CliError;

/// Where the controller listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/pen/pen.sock";
/// Where the desired state is kept unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/pen";
/// Where programs, maps and links are pinned unless told otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/pen";

/// A load balancer in the kernel: clients' packets to a virtual address (VIP) go to one of several servers, whose
/// answers go directly back (direct server return).
///
/// A controller (`pen-ctl run`) keeps the kernel equal to what was asked for; every other command talks to it.
/// Packets keep flowing while it is stopped; where the proxy moves them instead, it ends with its controller.
#[derive(Debug, Parser)]
#[command(
    name = "pen-ctl",
    version,
    after_help = "\
Exit status: 0 done; 1 refused or failed, with one line on stderr; 2 wrong usage; 3 no controller answers.

Example: a web service on two servers, from nothing
  pen-ctl attach eth0
  pen-ctl service add web 10.0.0.100:80/tcp
  pen-ctl backend add web 10.0.0.11
  pen-ctl backend add web 10.0.0.12 --weight 2
  pen-ctl status"
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command; passed on to a controller started in the background.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// The controller's Unix socket; PEN_SOCKET in the environment says the same [default: /run/pen/pen.sock]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "PEN_SOCKET",
        hide_env = true,
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,
    /// Directory of the desired state [default: /var/lib/pen]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub state_dir: Option<PathBuf>,
    /// Directory, on a BPF file system, of the pins; PEN_BPFFS in the environment says the same [default: /sys/fs/bpf/pen]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PEN_BPFFS",
        hide_env = true,
        help_heading = "Global options"
    )]
    pub bpffs: Option<PathBuf>,
    /// Print the API's JSON document on stdout, an error's too, instead of text
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Say more: debug messages, twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller in the foreground
    Run(RunArgs),
    /// Attach to network interfaces; starts a controller if none answers
    Attach(interface::AttachArgs),
    /// Detach from network interfaces
    Detach(interface::DetachArgs),
    /// Stop the controller; packets keep flowing unless --detach, but a proxy ends with it
    Stop(interface::StopArgs),
    /// Add, change, remove and look at services
    #[command(
        subcommand,
        after_help = "Examples:\n  pen-ctl service add web 10.0.0.100:80/tcp\n  pen-ctl service set web --affinity flow\n  \
                      pen-ctl service show web"
    )]
    Service(Box<service::ServiceCommand>),
    /// Add, change, remove and look at the servers behind services
    #[command(
        subcommand,
        after_help = "Examples:\n  pen-ctl backend add web 10.0.0.11\n  pen-ctl backend set web 10.0.0.11 --state drain\n  \
                      pen-ctl backend list web"
    )]
    Backend(backend::BackendCommand),
    /// Look at the clients that are remembered, and forget them
    #[command(
        subcommand,
        after_help = "Examples:\n  pen-ctl client list web\n  pen-ctl client show 192.0.2.7\n  \
                      pen-ctl client forget 192.0.2.7"
    )]
    Client(client::ClientCommand),
    /// Show interfaces, services, backends, their health, and what became of packets
    Status(look::StatusArgs),
    /// Show what happened, and follow what happens
    Events(events::EventsArgs),
    /// Say what a backend needs to own VIPs in direct server return, do it, or undo it
    BackendSetup(backend_setup::BackendSetupArgs),
    /// Find out what is wrong with this balancer and its backends, and what to type
    Doctor(doctor::DoctorArgs),
    /// Make a configuration file the desired state: at once, on trial, or only to see what would be other
    Apply(configuration::ApplyArgs),
    /// Write the desired state out as a configuration file
    Export(configuration::ExportArgs),
    /// Look at the desired states from before, and bring one back
    #[command(args_conflicts_with_subcommands = true)]
    History(configuration::HistoryArgs),
    /// Say whether a configuration file is right; needs neither root nor a controller
    Check(look::CheckArgs),
    /// Balance TCP or UDP in the foreground, in this process: no root, no controller, no file
    Proxy(proxy::ProxyArgs),
    /// Print completions of commands and options for a shell
    Completions(completions::CompletionsArgs),
    /// Print manual pages
    Man(man::ManArgs),
}

impl Global {
    /// The controller's socket.
    pub fn socket(&self) -> PathBuf {
        absolute(self.socket.as_deref(), DEFAULT_SOCKET)
    }

    /// Directory of the desired state.
    pub fn state_dir(&self) -> PathBuf {
        absolute(self.state_dir.as_deref(), DEFAULT_STATE_DIR)
    }

    /// Directory of the pins.
    pub fn bpffs(&self) -> PathBuf {
        absolute(self.bpffs.as_deref(), DEFAULT_BPFFS)
    }

    /// Whether the state is where the system's own controller keeps it.
    pub fn state_dir_is_default(&self) -> bool {
        self.state_dir() == Path::new(DEFAULT_STATE_DIR)
    }

    /// Whether the controller asked for is the system's own.
    pub fn all_default(&self) -> bool {
        self.state_dir_is_default()
            && self.socket() == Path::new(DEFAULT_SOCKET)
            && self.bpffs() == Path::new(DEFAULT_BPFFS)
    }

    /// These options as arguments for another pen-ctl, independent of environment and working directory.
    pub fn as_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--socket".into(),
            self.socket().into(),
            "--state-dir".into(),
            self.state_dir().into(),
            "--bpffs".into(),
            self.bpffs().into(),
        ];
        arguments.extend((0..self.verbose).map(|_| OsString::from("--verbose")));
        arguments
    }

    /// A client of this controller.
    pub fn client(&self) -> Client {
        Client::new(self.socket())
    }
}

fn absolute(given: Option<&Path>, default: &str) -> PathBuf {
    let path = given.unwrap_or(Path::new(default));
    // Fails only without a working directory; the path as given is then the best there is.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Runs the command that the process was started with and says how it ended.
pub fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return error::usage(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return error::usage(&error),
    };
    let json = cli.global.json;
    match dispatch(cli) {
        Ok(()) if render::incomplete() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(json),
    }
}

pub(crate) fn dispatch(cli: Cli) -> Result<(), CliError> {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => crate::run::run(&global, &args),
        Command::Attach(args) => interface::attach(&global, &args),
        Command::Detach(args) => interface::detach(&global, &args),
        Command::Stop(args) => interface::stop(&global, &args),
        Command::Service(command) => service::execute(&global, *command),
        Command::Backend(command) => backend::execute(&global, command),
        Command::Client(command) => client::execute(&global, command),
        Command::Status(_) => look::status(&global),
        Command::Events(args) => events::execute(&global, &args),
        Command::BackendSetup(args) => backend_setup::backend_setup(&global, &args),
        Command::Doctor(args) => doctor::doctor(&global, &args),
        Command::Apply(args) => configuration::apply(&global, &args),
        Command::Export(_) => configuration::export(&global),
        Command::History(args) => configuration::history(&global, &args),
        Command::Check(args) => look::check(&global, &args),
        Command::Proxy(args) => proxy::proxy(&global, &args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => man::man(&args),
    }
}

/// An option of a command that changes what is there: no default takes its place when it is left out.
fn as_it_stays(option: clap::Arg) -> clap::Arg {
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    match help.split_once("[default:") {
        Some((help, _)) => option.help(help.trim_end().to_owned()),
        None => option,
    }
}

/// Runs what waits for the kernel or the network to its end.
pub(crate) fn wait_for<T, E: Into<CliError>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::failed(format!("start: {error}")))?;
    runtime.block_on(work).map_err(Into::into)
}

/// Ends a command that changed something: a line for people, or the API's document.
fn done(global: &Global, answer: &Answer, line: &str) -> Result<(), CliError> {
    render::print(if global.json { &answer.text } else { line });
    Ok(())
}

/// Ends a command that looks: the document as text for people, or as it came.
fn show<T: DeserializeOwned>(
    global: &Global,
    answer: &Answer,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    if global.json {
        render::print(&answer.text);
    } else {
        render::print(&text(&answer.read()?));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
