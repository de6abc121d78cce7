//! `pen-ctl attach`, `detach` and `stop`, with a controller and without.

use clap::Args;
use hyper::Method;

use super::Global;
use super::error::CliError;
use super::render::{self, status::View};
use super::values::{Keys, body};
use crate::api::document::{ChangeDocument, InterfaceDocument, InterfaceList, InterfaceState};
use crate::client::{Answer, Client, ClientError, segment};
use crate::dataplane::proxy::handover;
use crate::launch;
use crate::offline::{self, Detached, Ending, Listener};
use crate::server::routes::{AttachBody, StopBody};

/// Interfaces to attach to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl attach eth0
  pen-ctl attach eth0 eth1 --mode generic
  pen-ctl attach eth0 --no-announce

While attached, rx-vlan-offload is off, because pen has to see VLAN tags; detach turns it on again where it was on.

Where no controller answers, pen.service is started if that unit exists, else a controller in the background.
That one never touches pins of another state: `pen-ctl run --adopt` or `pen-ctl run --discard` do, in the foreground.
End it (packets keep flowing), then attach again: the next one runs in the background.")]
pub struct AttachArgs {
    /// Names of interfaces
    #[arg(required = true, value_name = "IFACE")]
    interfaces: Vec<String>,
    /// `native` in the driver, `generic` in the stack (slower), `auto` native where the driver can [default: auto]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Do not answer ARP and neighbor discovery for VIPs there
    #[arg(long)]
    no_announce: bool,
}

/// Interfaces to detach from.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl detach eth0
  pen-ctl detach --all

Works without a controller too: from the pins.")]
pub struct DetachArgs {
    /// Names of interfaces
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "IFACE")]
    interfaces: Vec<String>,
    /// From all of them
    #[arg(long)]
    all: bool,
}

/// How to stop.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl stop
  pen-ctl stop --detach

Without --detach packets keep flowing, with health as last seen, and the next controller takes over.
A proxy accepts nobody new and ends with its last connection.
The next `pen-ctl run` undoes what --detach does.")]
pub struct StopArgs {
    /// Stop forwarding too: detach from all interfaces
    #[arg(long)]
    detach: bool,
}

/// Attaches, starting a controller first where none answers.
pub fn attach(global: &Global, args: &AttachArgs) -> Result<(), CliError> {
    let mut interfaces = Vec::new();
    for name in &args.interfaces {
        let announce = args.no_announce.then_some(false);
        let keys = Keys::default().set("name", Some(name.as_str())).set("mode", args.mode.as_deref());
        interfaces.push(keys.set("announce", announce).read(&format!("interface {name}"))?);
    }
    let body = body(&AttachBody { interfaces })?;
    let client = global.client();
    let attach = || client.call(Method::POST, "/v1/interfaces", Some(body.clone()));
    let answer = match attach() {
        Err(ClientError::NoController { .. }) => {
            let started = launch::start(global).map_err(CliError::failed)?;
            // Not part of the answer: stdout stays one document.
            eprintln!("pen-ctl: {started}");
            attach()?
        }
        answer => answer?,
    };
    if global.json {
        render::print(&answer.text);
        return Ok(());
    }
    let list: InterfaceList = answer.read()?;
    let asked: Vec<InterfaceDocument> =
        list.interfaces.into_iter().filter(|interface| args.interfaces.contains(&interface.name)).collect();
    render::print(&render::status::interfaces(&asked, View::for_stdout()));
    if asked.iter().any(|interface| interface.state == InterfaceState::Pending) {
        eprintln!("pen-ctl: pending interfaces are attached as soon as what stands in the way is gone");
    }
    Ok(())
}

/// Detaches, by the pins and the stored state alone where no controller answers.
pub fn detach(global: &Global, args: &DetachArgs) -> Result<(), CliError> {
    let client = global.client();
    let names = (!args.all).then_some(args.interfaces.as_slice());
    match detach_by_controller(&client, names) {
        Ok(change) => changed(global, &change, &detached_line(names, change.changed)),
        Err(ClientError::NoController { .. }) => {
            let Detached { names: detached, warnings } = offline::detach(global, names)?;
            let change = ChangeDocument { changed: !detached.is_empty(), warnings, forwards: None };
            let named = (!detached.is_empty()).then_some(detached.as_slice());
            let line = detached_line(named.or(names), change.changed);
            let how = if change.changed { "; done by the pins" } else { "" };
            changed(global, &change, &format!("{line} (no controller runs{how})"))
        }
        Err(error) => Err(error.into()),
    }
}

fn detach_by_controller(client: &Client, names: Option<&[String]>) -> Result<ChangeDocument, ClientError> {
    let delete = |path: &str| -> Result<ChangeDocument, ClientError> {
        client.call(Method::DELETE, path, None).and_then(|answer: Answer| answer.read())
    };
    let Some(names) = names else { return delete("/v1/interfaces") };
    let mut whole = ChangeDocument::default();
    for name in names {
        let change = delete(&format!("/v1/interfaces/{}", segment(name)))?;
        whole.changed |= change.changed;
        whole.warnings.extend(change.warnings);
    }
    Ok(whole)
}

fn detached_line(names: Option<&[String]>, changed: bool) -> String {
    match (names, changed) {
        (Some(names), true) => format!("detached from {}", names.join(", ")),
        (Some(names), false) => format!("not attached to {}: nothing to do", names.join(", ")),
        (None, true) => "detached from all interfaces".into(),
        (None, false) => "not attached to any interface: nothing to do".into(),
    }
}

/// Stops the controller; one that does not run is no error.
pub fn stop(global: &Global, args: &StopArgs) -> Result<(), CliError> {
    let detach = args.detach;
    let controller = Listener::on(&global.socket());
    let answer = global.client().call(Method::POST, "/v1/stop", Some(body(&StopBody { detach })?));
    match answer {
        Ok(answer) => {
            let change: ChangeDocument = answer.read()?;
            let proxied = change.forwards == Some(false);
            let handover = handover::place(&global.socket());
            let ending = controller.wait_until_gone_or(|| proxied && !handover.exists())?;
            let line = if detach {
                "controller stopped, detached from all interfaces"
            } else {
                "controller stopped"
            };
            let more = match (ending, detach) {
                (Ending::GoesOn { pid }, _) => &format!(
                    "; nobody new is accepted, and process {pid} ends with its last connection, or at once by \
                     `kill {pid}`"
                ),
                (Ending::Gone, _) if proxied => "; the proxy ended with it",
                (Ending::Gone, true) => "",
                (Ending::Gone, false) => "; packets keep flowing, with health as last seen",
            };
            changed(global, &change, &format!("{line}{more}"))
        }
        Err(ClientError::NoController { .. }) => {
            let Detached { names: detached, warnings } =
                if detach { offline::detach_until_next_run(global)? } else { Detached::default() };
            let change = ChangeDocument { changed: !detached.is_empty(), warnings, forwards: None };
            let line = match (detach, detached.is_empty()) {
                (false, _) => "no controller runs: nothing to do".into(),
                (true, true) => "no controller runs and nothing is attached: nothing to do".into(),
                (true, false) => {
                    format!("no controller runs; detached from {} by the pins", detached.join(", "))
                }
            };
            changed(global, &change, &line)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints what a change came to: a line for people with its warnings, or the document.
fn changed(global: &Global, change: &ChangeDocument, line: &str) -> Result<(), CliError> {
    if global.json {
        render::print(&body(change)?);
        return Ok(());
    }
    render::print(line);
    for warning in &change.warnings {
        eprintln!("pen-ctl: warning: {warning}");
    }
    Ok(())
}
