//! `pen-ctl client …`.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use hyper::Method;
use ipnet::IpNet;

use super::error::CliError;
use super::render::clients;
use super::render::status::View;
use super::{Global, done, show};
use crate::api::ApiError;
use crate::api::document::clients::ForgetDocument;
use crate::client::segment;
use crate::dataplane::BackendAddress;
use crate::server::clients::LISTED;
use crate::state::text;
use crate::tracked::Order;

/// What can be done with clients.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List the clients that are remembered, and their backends
    #[command(after_help = "\
Examples:
  pen-ctl client list
  pen-ctl client list web --backend 10.0.0.12 --limit 0
  pen-ctl client list --source 192.0.2.0/24 --sort idle --json")]
    List(ListArgs),
    /// Show all that is remembered of one client, and where its next packets go
    #[command(after_help = "Example:\n  pen-ctl client show 192.0.2.7")]
    Show(ShowArgs),
    /// Forget clients: their next packets go where newcomers' go
    #[command(after_help = "\
Examples:
  pen-ctl client forget 192.0.2.7
  pen-ctl client forget 2001:db8::/32 --service web
  pen-ctl client forget --backend 10.0.0.12
  pen-ctl client forget --all")]
    Forget(ForgetArgs),
}

/// Which clients, and how many.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of this service [default: all]
    service: Option<String>,
    /// Of this backend
    #[arg(long, value_name = "ADDR")]
    backend: Option<String>,
    /// With this address, or one of this prefix
    #[arg(long, value_name = "PREFIX")]
    source: Option<String>,
    /// How many at most; 0 = say only how many there are
    #[arg(long, value_name = "N", default_value_t = LISTED)]
    limit: usize,
    /// In which order
    #[arg(long, value_enum, default_value_t)]
    sort: Order,
    /// Those that do not count any more, too, and why
    #[arg(long)]
    all: bool,
}

/// A client.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The client's address
    #[arg(value_name = "ADDR")]
    address: String,
}

/// Which clients to forget.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// With this address, or one of this prefix
    #[arg(value_name = "ADDR|PREFIX", required_unless_present_any = ["service", "backend", "all"])]
    source: Option<String>,
    /// Of this service
    #[arg(long)]
    service: Option<String>,
    /// Of this backend
    #[arg(long, value_name = "ADDR")]
    backend: Option<String>,
    /// Everybody
    #[arg(long, conflicts_with_all = ["source", "service", "backend"])]
    all: bool,
}

/// Does it.
pub fn execute(global: &Global, command: ClientCommand) -> Result<(), CliError> {
    let client = global.client();
    match command {
        ClientCommand::List(args) => {
            let ListArgs { service, backend, source, limit, sort, all } = args;
            let sort = clap::ValueEnum::to_possible_value(&sort);
            let query = Query::default()
                .set("service", service)
                .set("backend", address(backend)?)
                .set("source", prefix(source)?)
                .set("limit", Some(limit))
                .set("sort", sort.map(|value| value.get_name().to_owned()))
                .set("all", all.then_some(true));
            let answer = client.call(Method::GET, &query.path("/v1/clients"), None)?;
            show(global, &answer, |list| clients::list(list, View::for_stdout()))
        }
        ClientCommand::Show(ShowArgs { address }) => {
            let address: IpAddr = address.parse().map_err(|_| {
                ApiError::invalid(
                    format!("`{}` is not an IP address", address.escape_debug()),
                    "write it as 192.0.2.7 or 2001:db8::7; for a prefix use `client list --source`",
                )
            })?;
            let path = format!("/v1/clients/{}", segment(&address.to_string()));
            let answer = client.call(Method::GET, &path, None)?;
            show(global, &answer, |one| clients::one(one, View::for_stdout()))
        }
        ClientCommand::Forget(ForgetArgs { source, service, backend, all }) => {
            let query = Query::default()
                .set("service", service)
                .set("backend", address(backend)?)
                .set("source", prefix(source)?)
                .set("all", all.then_some(true));
            let answer = client.call(Method::DELETE, &query.path("/v1/clients"), None)?;
            let told: ForgetDocument = answer.read()?;
            done(global, &answer, &clients::forgotten(&told))
        }
    }
}

fn address(text: Option<String>) -> Result<Option<BackendAddress>, ApiError> {
    Ok(text.map(|text| text.parse()).transpose()?)
}

fn prefix(text: Option<String>) -> Result<Option<IpNet>, ApiError> {
    Ok(text.map(|text| text::prefix(&text)).transpose()?)
}

/// What stands after a path's question mark.
#[derive(Debug, Default)]
struct Query(Vec<String>);

impl Query {
    /// Sets `key` if there is a value.
    fn set(mut self, key: &str, value: Option<impl ToString>) -> Query {
        self.0.extend(value.map(|value| format!("{key}={}", segment(&value.to_string()))));
        self
    }

    fn path(self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0.join("&")) }
    }
}
