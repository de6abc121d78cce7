//! `pen-ctl service …`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::error::CliError;
use super::render::{self, status::View};
use super::values::{Keys, body, number_or_word};
use super::{Global, as_it_stays, done, prefixes};
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
  pen-ctl service add www 10.0.0.103:80/tcp --health http,path=/healthz,status=200,body=ok
  pen-ctl service add dns [2001:db8::53]:53/udp --health dns,name=example.com,type=SOA
  pen-ctl service add log 10.0.0.104:514/udp --affinity flow --tracking off
  pen-ctl service add mail 10.0.0.102:25/tcp --health smtp,starttls=true,sni=mx.example.com
  pen-ctl service add shop 10.0.0.105:80/tcp --scheduler round-robin
  pen-ctl service add all 10.0.0.101:*/tcp --health tcp,port=22,interval=2s,rise=2,fall=3
  pen-ctl service add admin 10.0.0.106:22/tcp --allow 192.0.2.0/24,2001:db8::/32
  pen-ctl service add app /run/app.sock --scheduler least-connections --idle-timeout 10m")]
    Add(AddArgs),
    /// Change settings of a service; what is not named stays
    #[command(after_help = "\
Examples:
  pen-ctl service set web --tracking-timeout 1h
  pen-ctl service set web --health tcp,interval=500ms,timeout=200ms
  pen-ctl service set web --health https,host=www.example.com,path=/healthz
  pen-ctl service set web --health agent,port=9000,interval=2s
  pen-ctl service set web --health exec,command=/usr/local/bin/check,interval=10s,timeout=5s
  pen-ctl service set web --health default
  pen-ctl service set web --deny @/etc/pen/deny.txt
  pen-ctl service set web --rate-limit packets=10000,flows=100,flows_burst=500",
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
    /// Its virtual address, port (or `*` for every port) and protocol: 10.0.0.100:80/tcp, [2001:db8::1]:53/udp; in the
    /// proxy the path of a Unix socket, too: /run/app.sock
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
    /// Who gets a newcomer: `maglev` the backend that its hash names, `round-robin` the next one, by weight,
    /// `least-connections` whoever has the fewest for its weight (proxy) [default: maglev]
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
    /// How backends are checked: `tcp`, `http`, `https`, `dns`, `smtp`, `udp`, `icmp`, `exec`, `agent` or `none`, with
    /// interval, timeout, rise, fall, jitter, max_hold, port, way (`dsr` asks the VIP at each backend, `direct` its own
    /// address) and the kind's own keys (docs/health.md); `default`: tcp, for UDP port 53 dns, else icmp (in the proxy none)
    /// [default: default]
    #[arg(long, value_name = "KIND[,KEY=VALUE...]")]
    health: Option<String>,
    /// Clients that are let in, all others are refused: addresses or prefixes with commas between them, or @FILE, one a
    /// line; the longest prefix in `--allow` or `--deny` that a client is in decides; `none` [default: none]
    #[arg(long, value_name = "PREFIX,...|@FILE")]
    allow: Option<String>,
    /// Clients that are refused, written as those of `--allow`; `none` [default: none]
    #[arg(long, value_name = "PREFIX,...|@FILE")]
    deny: Option<String>,
    /// How much each client may ask for a second: `packets` and new `flows`, each with a burst (`packets_burst`,
    /// `flows_burst`: one second's worth), by the first `prefix_v4` (32) and `prefix_v6` (64) bits of its address; `none`
    /// [default: none]
    #[arg(long, value_name = "KEY=N[,KEY=N...]")]
    rate_limit: Option<String>,
    /// When fewer percent of the backends serve, use all that are not down by order; 0 = never [default: 0]
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    panic: Option<String>,
    /// How long the share of a backend that is back grows until it is whole; 0 = at once [default: 0]
    #[arg(long, value_name = "TIME")]
    slow_start: Option<String>,
    /// Program, with what it is told, that hears of each change of a backend (JSON on its input); `none`
    /// [default: none]
    #[arg(long, value_name = "COMMAND")]
    on_change: Option<String>,
    /// Proxy: how long a backend may take to accept before the next one is tried; `default` [default: 5s]
    #[arg(long, value_name = "TIME")]
    connect_timeout: Option<String>,
    /// Proxy: after how long without a byte a connection ends, 0 = never; `default` [default: 0, UDP 60s]
    #[arg(long, value_name = "TIME")]
    idle_timeout: Option<String>,
    /// Proxy: how many connections it has at once at most; `none` [default: none]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_connections: Option<String>,
    /// Proxy: clients stay with the backend they were given even while it refuses them [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    stubborn: Option<bool>,
    /// Proxy: connect to backends from the client's own address; needs privileges and routes [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    transparent: Option<bool>,
    /// Proxy: tell backends the client's address first: `v1`, `v2` or `none` [default: none]
    #[arg(long, value_name = "VERSION")]
    proxy_protocol: Option<String>,
    /// Proxy: clients that say first, in the PROXY protocol, for whom they come: addresses or prefixes with commas
    /// between them; `none` [default: none]
    #[arg(long, value_name = "PREFIX,...")]
    proxy_protocol_from: Option<String>,
    /// Proxy: what becomes of a backend's connections when it goes down: `keep` or `close` [default: keep]
    #[arg(long, value_name = "WHAT")]
    on_down: Option<String>,
}

impl Flags {
    /// Adds those that were given; `about` is what complaints are about.
    fn add_to(self, keys: Keys, about: &str) -> Result<Keys, CliError> {
        let listed =
            |flag, text: Option<String>| text.map(|text| prefixes::list(about, flag, &text)).transpose();
        let trusted =
            self.proxy_protocol_from.map(|text| prefixes::typed(about, "proxy-protocol-from", &text));
        Ok(keys
            .set("affinity", self.affinity)
            .set("scheduler", self.scheduler)
            .set("tracking", self.tracking)
            .set("tracking_timeout", self.tracking_timeout)
            .set("transition", self.transition)
            .set("on_empty", self.on_empty)
            .set_unless("health", self.health, "default")
            .set("allow", listed("allow", self.allow)?)
            .set("deny", listed("deny", self.deny)?)
            .set_unless("rate_limit", self.rate_limit, "none")
            .set("panic", self.panic.map(number_or_word))
            .set("slow_start", self.slow_start)
            .set(
                "on_change",
                self.on_change.map(|command| if command == "none" { String::new() } else { command }),
            )
            .set_unless("connect_timeout", self.connect_timeout, "default")
            .set_unless("idle_timeout", self.idle_timeout, "default")
            .set_unless("max_connections", self.max_connections.map(number_or_word), "none")
            .set("stubborn", self.stubborn)
            .set("transparent", self.transparent)
            .set_unless("proxy_protocol", self.proxy_protocol, "none")
            .set("proxy_protocol_from", trusted.transpose()?)
            .set("on_down", self.on_down))
    }
}

/// Does it.
pub fn execute(global: &Global, command: ServiceCommand) -> Result<(), CliError> {
    let client = global.client();
    match command {
        ServiceCommand::Add(AddArgs { name, vip, flags }) => {
            let keys = Keys::default().set("name", Some(name.as_str())).set("vip", Some(vip.as_str()));
            let about = format!("service {name}");
            let spec: ServiceSpec = flags.add_to(keys, &about)?.read(&about)?;
            let answer = client.call(Method::POST, "/v1/services", Some(body(&spec)?))?;
            changed(global, &answer, &format!("service {name} added on {vip}"))
        }
        ServiceCommand::Set(SetArgs { name, vip, rename, flags }) => {
            let keys = Keys::default().set("vip", vip).set("name", rename);
            let about = format!("service {name}");
            let spec: ServiceSpec = flags.add_to(keys, &about)?.not_empty(&about)?.read(&about)?;
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
