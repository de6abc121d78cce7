//! `pen-ctl backend-setup`: what a backend needs, printed, done or undone.

use std::net::IpAddr;

use clap::Args;

use super::error::CliError;
use super::values::body;
use super::{Global, render};
use crate::backend_setup::forms::{self, Format};
use crate::backend_setup::{LOOPBACK, Outcome, Setup, SetupDocument};
use crate::platform;

/// The VIPs, and what to do about them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, on the backend:
  pen-ctl backend-setup 10.0.0.100
  pen-ctl backend-setup 10.0.0.100 2001:db8::100 --apply
  pen-ctl backend-setup 10.0.0.100 --format networkd
  pen-ctl backend-setup 10.0.0.100 --undo
  pen-ctl backend-setup --undo

In direct server return every backend owns the VIP without answering ARP and neighbor solicitations for it.
Without --apply nothing is changed: what is printed can be piped into a shell, there or elsewhere.
--apply lasts until the next reboot; the files of --format survive it. --undo takes back what --apply did (of all
VIPs if none is named) and no more: --apply keeps a record in the state directory.")]
pub struct BackendSetupArgs {
    /// Virtual addresses
    #[arg(required_unless_present = "undo", value_name = "VIP")]
    vips: Vec<IpAddr>,
    /// Do it on this machine
    #[arg(long, conflicts_with = "undo")]
    apply: bool,
    /// Take back what --apply did on this machine
    #[arg(long)]
    undo: bool,
    /// In whose words to print it [default: ip; freebsd on FreeBSD]
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with_all = ["apply", "undo"])]
    format: Option<Format>,
    /// Where the VIPs go: `lo` or a dummy interface
    #[arg(long, value_name = "IFACE", default_value = LOOPBACK)]
    interface: String,
}

/// Prints what a backend needs, does it, or undoes it.
pub fn backend_setup(global: &Global, args: &BackendSetupArgs) -> Result<(), CliError> {
    let setup = Setup::new(&args.vips, &args.interface)?;
    if args.apply || args.undo {
        let document = platform::make_setup(global, &setup, args.undo)?;
        let text = if global.json { body(&document)? } else { text(&document, args) };
        render::print(&text);
        return Ok(());
    }
    let native = if cfg!(target_os = "freebsd") { Format::Freebsd } else { Format::Ip };
    let format = args.format.unwrap_or(native);
    if format != Format::Freebsd {
        platform::check_setup(&setup)?;
    }
    let form = forms::form(&setup, format);
    render::print(&if global.json { body(&form)? } else { forms::text(&form) });
    Ok(())
}

/// One line a step.
fn text(document: &SetupDocument, args: &BackendSetupArgs) -> String {
    let mut text = String::new();
    for step in &document.steps {
        let word = match step.outcome {
            Outcome::Added => "added",
            Outcome::Set => "set",
            Outcome::Already => "already",
            Outcome::Removed => "removed",
            Outcome::Restored => "restored",
            Outcome::Left => "left",
        };
        let detail = if step.detail.is_empty() { String::new() } else { format!(" ({})", step.detail) };
        text.push_str(&format!("{word:<9}{}{detail}\n", step.what));
    }
    if document.steps.is_empty() {
        text.push_str("nothing to undo: --apply did nothing here since the last reboot\n");
    }
    if args.apply && document.changed {
        let vips: Vec<String> = args.vips.iter().map(ToString::to_string).collect();
        text.push_str(&format!(
            "This lasts until the next reboot; pen-ctl backend-setup {} --format networkd (or netplan, ifupdown) says \
             what survives it.\n",
            vips.join(" ")
        ));
    }
    text
}
