//! `pen-ctl status` and `pen-ctl check`.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::error::CliError;
use super::render::{self, status::View};
use super::values::body;
use super::{Global, show};
use crate::api::ApiError;
use crate::api::document::CheckDocument;
use crate::config::{self, Config};
use crate::dataplane::{Choice, Kind};
use crate::shut_out;
use crate::state::desired::Desired;
use crate::state::validate::{self, Fits};

/// Everything at a glance.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl status
  pen-ctl status --json")]
pub struct StatusArgs {}

/// A file to validate.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  pen-ctl check pen.toml\n  pen-ctl check pen.toml --dataplane proxy")]
pub struct CheckArgs {
    /// The configuration file (TOML)
    file: PathBuf,
    /// By whose rules; `auto`: those of the `dataplane` that FILE names, else it must be right for one of them
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    dataplane: Choice,
}

/// Shows everything at a glance.
pub fn status(global: &Global) -> Result<(), CliError> {
    let answer = global.client().call(Method::GET, "/v1/status", None)?;
    show(global, &answer, |document| render::status::status(document, View::for_stdout()))
}

/// Validates a file; says what it holds.
pub fn check(global: &Global, args: &CheckArgs) -> Result<(), CliError> {
    let name = args.file.display().to_string();
    let text = config::read(&args.file).map_err(ApiError::from)?;
    let asked = args.dataplane.kind();
    let config = Config::parse_for(&name, &text, asked).map_err(ApiError::from)?;
    let desired = config.onto(&Desired::new(0)).map_err(ApiError::from)?;
    let mut held = CheckDocument {
        file: name,
        interfaces: desired.interfaces.len(),
        services: desired.services.len(),
        backends: desired.services.iter().map(|service| service.backends.len()).sum(),
        dataplane: match asked.or(config.dataplane().kind()) {
            Some(kind) => Some(kind),
            None => only_for(&desired)?,
        },
        warnings: shut_out::warnings(&desired.services),
    };
    if held.interfaces == 0 && held.services == 0 {
        let empty = "it names neither interfaces nor services: applied, it removes every service there is";
        held.warnings.push(empty.to_owned());
    }
    if global.json {
        render::print(&body(&held)?);
        return Ok(());
    }
    let parts = [(held.interfaces, "interface"), (held.services, "service"), (held.backends, "backend")];
    let parts = parts.map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
    let only = held.dataplane.map(|kind| format!(" for the data plane {kind}")).unwrap_or_default();
    render::print(&format!("{}: good{only} ({})", held.file, parts.join(", ")));
    for warning in &held.warnings {
        eprintln!("pen-ctl: warning: {}: {warning}", held.file);
    }
    Ok(())
}

/// The data plane that a state is right for, if it is only one.
fn only_for(desired: &Desired) -> Result<Option<Kind>, ApiError> {
    Ok(match validate::fits(desired)? {
        Fits::Either => None,
        Fits::Only(kind, _) => Some(kind),
    })
}
