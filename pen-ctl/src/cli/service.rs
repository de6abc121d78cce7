//! `pen-ctl service …`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::error::CliError;
use super::render::{self, status::View};
use super::values::{Keys, body};
use super::{Global, as_it_stays, done};
use crate::api::document::{ServiceDocument, ServiceList};
use crate::client::{Answer, segment};
use crate::state::spec::ServiceSpec;

/// What can be done with services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Add a service
    #[command(after_help = "\
Examples:
  pen-ctl service add web 10.0.0.100:80/tcp
  pen-ctl service add dns [2001:db8::53]:53/udp --affinity flow --tracking off
  pen-ctl service add mail 10.0.0.102:25/tcp --scheduler round-robin
  pen-ctl service add all 10.0.0.101:*/tcp --health tcp,port=22,interval=2s,rise=2,fall=3")]
    Add(AddArgs),
    /// Change settings of a service; what is not named stays
    #[command(after_help = "\
Examples:
  pen-ctl service set web --tracking-timeout 1h
  pen-ctl service set web --health tcp,interval=500ms,timeout=200ms
  pen-ctl service set web --health default",
        mut_args = as_it_stays)]
    Set(SetArgs),
    /// Remove a service with its backends
    #[command(after_help = "Example:\n  pen-ctl service remove web")]
    Remove(NameArgs),
    /// List the services
    #[command(after_help = "Example:\n  pen-ctl service list --json")]
    List,
    /// Show one service and its backends
    #[command(after_help = "Example:\n  pen-ctl service show web")]
    Show(NameArgs),
}

/// A new service.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its name: letters, digits, `-`, `_` and `.`
    name: String,
    /// Its virtual address, port (or `*` for every port) and protocol: 10.0.0.100:80/tcp, [2001:db8::1]:53/udp
    #[arg(value_name = "VIP:PORT/PROTO")]
    vip: String,
    #[command(flatten)]
    flags: Flags,
}

/// A changed service.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Its name
    name: String,
    /// Another virtual address, port and protocol
    #[arg(long, value_name = "VIP:PORT/PROTO")]
    vip: Option<String>,
    /// Another name
    #[arg(long = "name", value_name = "NAME")]
    rename: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

/// A service by name.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Its name
    name: String,
}

/// The keys of a service in the file.
#[derive(Debug, Args)]
struct Flags {
    /// What the choice of a backend hashes: `client` the source address, `flow` the 5-tuple, `none` the 5-tuple
    /// without memory [default: client]
    #[arg(long, value_name = "WHAT")]
    affinity: Option<String>,
    /// Who gets a newcomer: `maglev` the backend that its hash names, `round-robin` the next one, by weight
    /// [default: maglev]
    #[arg(long, value_name = "HOW")]
    scheduler: Option<String>,
    /// Memory of which backend was given: `full` every client, `transitions` only while slots change owner, `off`
    /// [default: full]
    #[arg(long, value_name = "WHICH")]
    tracking: Option<String>,
    /// After how long without a packet a client is forgotten: 30s, 5m, 1h; 0 = when the table is full
    #[arg(long, value_name = "TIME")]
    tracking_timeout: Option<String>,
    /// How long flows from before a change stay with their backend [default: 10m]
    #[arg(long, value_name = "TIME")]
    transition: Option<String>,
    /// What becomes of packets when nobody is serving: `drop` or `pass` to this host [default: drop]
    #[arg(long, value_name = "WHAT")]
    on_empty: Option<String>,
    /// How backends are checked: `tcp` or `none`, with interval, timeout, rise, fall, port; `default`: tcp on the
    /// service's port, none for UDP and every port [default: default]
    #[arg(long, value_name = "KIND[,KEY=VALUE...]")]
    health: Option<String>,
}

impl Flags {
    fn add_to(self, keys: Keys) -> Keys {
        keys.set("affinity", self.affinity)
            .set("scheduler", self.scheduler)
            .set("tracking", self.tracking)
            .set("tracking_timeout", self.tracking_timeout)
            .set("transition", self.transition)
            .set("on_empty", self.on_empty)
            .set_unless("health", self.health, "default")
    }
}

/// Does it.
pub fn execute(global: &Global, command: ServiceCommand) -> Result<(), CliError> {
    let client = global.client();
    match command {
        ServiceCommand::Add(AddArgs { name, vip, flags }) => {
            let keys = Keys::default().set("name", Some(name.as_str())).set("vip", Some(vip.as_str()));
            let spec: ServiceSpec = flags.add_to(keys).read(&format!("service {name}"))?;
            let answer = client.call(Method::POST, "/v1/services", Some(body(&spec)?))?;
            changed(global, &answer, &format!("service {name} added on {vip}"))
        }
        ServiceCommand::Set(SetArgs { name, vip, rename, flags }) => {
            let keys = Keys::default().set("vip", vip).set("name", rename);
            let about = format!("service {name}");
            let spec: ServiceSpec = flags.add_to(keys).not_empty(&about)?.read(&about)?;
            let answer = client.call(Method::PATCH, &path(&name), Some(body(&spec)?))?;
            changed(global, &answer, &format!("service {name} changed"))
        }
        ServiceCommand::Remove(NameArgs { name }) => {
            let answer = client.call(Method::DELETE, &path(&name), None)?;
            done(global, &answer, &format!("service {name} removed"))
        }
        ServiceCommand::List => {
            let answer = client.call(Method::GET, "/v1/services", None)?;
            super::show(global, &answer, |list: &ServiceList| {
                render::status::services(&list.services, View::for_stdout())
            })
        }
        ServiceCommand::Show(NameArgs { name }) => {
            let answer = client.call(Method::GET, &path(&name), None)?;
            super::show(global, &answer, |service| render::status::service(service, View::for_stdout()))
        }
    }
}

/// Ends a command that made a service as it is now: a line for people with its warnings, or the document.
fn changed(global: &Global, answer: &Answer, line: &str) -> Result<(), CliError> {
    done(global, answer, line)?;
    if !global.json {
        let service: ServiceDocument = answer.read()?;
        for warning in &service.warnings {
            eprintln!("pen-ctl: warning: {warning}");
        }
    }
    Ok(())
}

fn path(name: &str) -> String {
    format!("/v1/services/{}", segment(name))
}
