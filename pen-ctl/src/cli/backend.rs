//! `pen-ctl backend …`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::error::CliError;
use super::render::status::{self, View};
use super::values::{Keys, body, number_or_word};
use super::{Global, as_it_stays, done, drain, show};
use crate::api::ApiError;
use crate::api::document::{BackendDocument, BackendList};
use crate::client::{Answer, segment};
use crate::dataplane::BackendAddress;
use crate::state::spec::BackendSpec;

/// What can be done with backends.
#[derive(Debug, Subcommand)]
pub enum BackendCommand {
    /// Add a backend to a service
    #[command(after_help = "\
Examples:
  pen-ctl backend add web 10.0.0.11
  pen-ctl backend add web 10.0.0.12 --weight 2 --mac 02:00:00:00:00:12
  pen-ctl backend add web 10.0.0.13:8080 --hard-limit 500
  pen-ctl backend add web /run/app.sock")]
    Add(AddArgs),
    /// Change a backend; what is not named stays
    #[command(after_help = "\
Examples:
  pen-ctl backend set web 10.0.0.11 --state drain
  pen-ctl backend set web 10.0.0.11 --state up --weight 5
  pen-ctl backend set web 10.0.0.12 --mac auto --vlan none --health service",
        mut_args = as_it_stays)]
    Set(AddArgs),
    /// Remove a backend from a service
    #[command(after_help = "\
Examples:
  pen-ctl backend remove web 10.0.0.11
  pen-ctl backend remove web 10.0.0.11 --drain 10m
  pen-ctl backend remove web 10.0.0.11 --drain 1h --no-wait")]
    Remove(RemoveArgs),
    /// List the backends of a service, or of all
    #[command(after_help = "Examples:\n  pen-ctl backend list\n  pen-ctl backend list web --json")]
    List(ListArgs),
}

/// A backend and what is to be true of it.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    flags: Flags,
}

/// A backend of a service.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// The service
    service: String,
    /// The server's own address (not the VIP); in the proxy with a port where that is not the service's, or the path of
    /// a Unix socket
    #[arg(value_name = "ADDR[:PORT]")]
    address: String,
}

/// A backend, and how it leaves.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Let it keep the clients it has, and remove it when nobody is left on it, or after this time; shows how far
    /// that is. Ctrl-C leaves it draining; `backend set … --state up` takes it back
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,
    /// Do not wait until it is gone
    #[arg(long, requires = "drain")]
    no_wait: bool,
}

/// Whose backends.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The service [default: all]
    service: Option<String>,
}

/// The keys of a backend in the file.
#[derive(Debug, Args)]
struct Flags {
    /// Its share of the newcomers, 1 to 1000 [default: 1]
    // Signed, so that the rule for weights is what refuses a negative one.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    weight: Option<i64>,
    /// Lowest serves first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// Its MAC, where it should not be asked for with ARP or neighbor discovery; `auto`: it is asked for
    /// [default: auto]
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
    /// The VLAN it is on, goes with --mac; `none`: none is said [default: none]
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    vlan: Option<String>,
    /// `up`, `drain` (keeps the clients it has, gets no new ones) or `down` [default: up]
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// How it is checked; `service`: as its service says [default: service]
    #[arg(long, value_name = "KIND[,KEY=VALUE...]")]
    health: Option<String>,
    /// Proxy: newcomers pass it over while it has as many connections; `none` [default: none]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    soft_limit: Option<String>,
    /// Proxy: nobody is connected to it while it has as many connections; `none` [default: none]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    hard_limit: Option<String>,
}

impl Flags {
    fn add_to(self, keys: Keys) -> Keys {
        keys.set("weight", self.weight)
            .set("priority", self.priority)
            .set_unless("mac", self.mac, "auto")
            .set_unless("vlan", self.vlan.map(number_or_word), "none")
            .set("state", self.state)
            .set_unless("health", self.health, "service")
            .set_unless("soft_limit", self.soft_limit.map(number_or_word), "none")
            .set_unless("hard_limit", self.hard_limit.map(number_or_word), "none")
    }
}

/// Does it.
pub fn execute(global: &Global, command: BackendCommand) -> Result<(), CliError> {
    let client = global.client();
    match command {
        BackendCommand::Add(AddArgs { which: WhichArgs { service, address }, flags }) => {
            let keys = Keys::default().set("address", Some(address.as_str()));
            let spec: BackendSpec =
                flags.add_to(keys).read(&format!("backend {address} of service {service}"))?;
            let path = format!("/v1/services/{}/backends", segment(&service));
            let answer = client.call(Method::POST, &path, Some(body(&spec)?))?;
            told(global, &answer, &format!("backend {address} added to {service}"))
        }
        BackendCommand::Set(AddArgs { which: WhichArgs { service, address }, flags }) => {
            let about = format!("backend {address} of service {service}");
            let spec: BackendSpec = flags.add_to(Keys::default()).not_empty(&about)?.read(&about)?;
            let answer = client.call(Method::PATCH, &path(&service, &address)?, Some(body(&spec)?))?;
            told(global, &answer, &format!("backend {address} of {service} changed"))
        }
        BackendCommand::Remove(RemoveArgs { which, drain: Some(time), no_wait }) => {
            let WhichArgs { service, address } = &which;
            let path = path(service, address)?;
            drain::remove(global, &drain::Leaving { service, address, path: &path }, &time, !no_wait)
        }
        BackendCommand::Remove(RemoveArgs { which: WhichArgs { service, address }, .. }) => {
            let answer = client.call(Method::DELETE, &path(&service, &address)?, None)?;
            done(global, &answer, &format!("backend {address} removed from {service}"))
        }
        BackendCommand::List(ListArgs { service: Some(service) }) => {
            let path = format!("/v1/services/{}/backends", segment(&service));
            let answer = client.call(Method::GET, &path, None)?;
            show(global, &answer, list_text)
        }
        BackendCommand::List(ListArgs { service: None }) => {
            let answer = client.call(Method::GET, "/v1/backends", None)?;
            show(global, &answer, list_text)
        }
    }
}

/// Ends a change of a backend, which is fine even when the backend does not serve: the line says that too.
fn told(global: &Global, answer: &Answer, line: &str) -> Result<(), CliError> {
    if global.json {
        return done(global, answer, line);
    }
    let backend: BackendDocument = answer.read()?;
    match status::not_serving(&backend) {
        None => done(global, answer, line),
        Some(reason) => done(global, answer, &format!("{line}; not serving now: {reason}")),
    }?;
    for warning in &backend.warnings {
        eprintln!("pen-ctl: warning: {warning}");
    }
    Ok(())
}

fn list_text(list: &BackendList) -> String {
    status::backends(&list.backends, View::for_stdout())
}

fn path(service: &str, address: &str) -> Result<String, CliError> {
    let address: BackendAddress = address.parse().map_err(ApiError::from)?;
    Ok(format!("/v1/services/{}/backends/{}", segment(service), segment(&address.to_string())))
}
