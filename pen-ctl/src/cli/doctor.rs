//! `pen-ctl doctor`: what is wrong, and what to type.

use clap::Args;
use hyper::Method;

use super::Global;
use super::error::CliError;
use super::render::{self, Style, Tone};
use super::values::body;
use crate::api::document::StatusDocument;
use crate::api::{ApiError, ErrorCode};
use crate::client::ClientError;
use crate::findings::{DoctorDocument, Verdict};
use crate::platform;

/// What to look at.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl doctor
  pen-ctl doctor web
  pen-ctl doctor --interface eth1
  pen-ctl doctor --json

Looks, in this order: does a controller answer, and can its state be read;
is there a BPF file system; has the controller its capabilities; has
somebody else an XDP program on pen's interfaces; does a backend answer ARP
or neighbor solicitations for a VIP; does each backend take what comes for
its VIP. The last two ask the link and the backends, from this host's own
addresses, and never disturb clients. Run it on the balancer as root. Exit
status 1 if a problem was found; a warning is none.")]
pub struct DoctorArgs {
    /// Ask only about this service's VIP and backends
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Look at this interface, too, besides those that pen is attached to
    #[arg(long = "interface", value_name = "IFACE")]
    interfaces: Vec<String>,
}

/// Examines everything.
pub fn doctor(global: &Global, args: &DoctorArgs) -> Result<(), CliError> {
    let status = global.client().call(Method::GET, "/v1/status", None);
    let controller: Result<StatusDocument, String> = match status.and_then(|answer| answer.read()) {
        Ok(status) => Ok(status),
        Err(error @ (ClientError::NoController { .. } | ClientError::PermissionDenied(_))) => {
            Err(error.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    if let (Some(name), Ok(status)) = (&args.service, &controller)
        && !status.services.iter().any(|service| service.name == *name)
    {
        let hint = "`pen-ctl service list` shows those there are";
        return Err(ApiError::new(ErrorCode::NotFound, format!("there is no service {name}"), hint).into());
    }
    let document = platform::examine(global, controller, args.service.clone(), args.interfaces.clone())?;
    render::print(&match global.json {
        true => body(&document)?,
        false => text(&document, Style::for_stdout()),
    });
    match document.problems {
        0 => Ok(()),
        count => Err(CliError::Found { count }),
    }
}

/// One line a finding, and under it what to do.
fn text(document: &DoctorDocument, style: Style) -> String {
    let mut text = String::new();
    for finding in &document.findings {
        let (word, tone) = match finding.verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Skipped => ("skipped", Tone::Faint),
            Verdict::Warning => ("warning", Tone::Attention),
            Verdict::Problem => ("problem", Tone::Bad),
        };
        let on = if finding.on.is_empty() { String::new() } else { format!("{}: ", finding.on) };
        let word = style.paint(tone, &format!("{word:<9}"));
        text.push_str(&format!("{word}{:<18}{on}{}\n", finding.check, finding.what));
        for step in &finding.fix {
            text.push_str(&format!("{:<27}→ {step}\n", ""));
        }
    }
    text
}
