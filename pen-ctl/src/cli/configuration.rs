//! `pen-ctl apply`, `export` and `history`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;

use super::error::CliError;
use super::render::{self, Style, difference};
use super::{Global, done, show};
use crate::api::ApiError;
use crate::api::configuration::{AppliedDocument, ConfigDocument, HistoryDocument, StateDetail};
use crate::client::{Answer, ClientError, segment};
use crate::config::{self, FILE_MAX, export::to_toml};
use crate::state::revision::{Condition, Revision};
use crate::state::store::Store;
use crate::state::text;

/// A file to apply, or what to do with the one on trial.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl apply pen.toml --dry-run
  pen-ctl apply pen.toml
  pen-ctl apply pen.toml --confirm 10m
  pen-ctl apply --confirmed
  pen-ctl apply --rollback
  pen-ctl apply pen.toml --if-match 1f2e3d4c5b6a7988

Services and backends become those of FILE. What FILE does not mention stays: a backend's state that was set at run
time, the interfaces where there is no such key, the seed. With --confirm it is on trial: what was before comes back
unless `apply --confirmed` is heard in time, also when the controller was killed or the machine restarted meanwhile.
Until then only states of backends change and interfaces detach.")]
pub struct ApplyArgs {
    /// The configuration file (TOML); `-` reads it from standard input
    #[arg(required_unless_present_any = ["confirmed", "rollback"])]
    file: Option<PathBuf>,
    /// Change nothing; show what would be other
    #[arg(long)]
    dry_run: bool,
    /// Take it back after this time unless `apply --confirmed` comes before: 1s to 24h
    #[arg(long, value_name = "TIME", conflicts_with = "dry_run")]
    confirm: Option<String>,
    /// Keep what is on trial
    #[arg(long, conflicts_with_all = ["file", "rollback", "confirm", "dry_run"])]
    confirmed: bool,
    /// Take back what is on trial, now
    #[arg(long, conflicts_with_all = ["file", "confirm", "dry_run"])]
    rollback: bool,
    /// Only if the desired state is still this one; `export --json` and `status --json` show which it is
    #[arg(long, value_name = "REVISION")]
    if_match: Option<String>,
}

/// The desired state as a file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl export > pen.toml
  pen-ctl export --json

`pen-ctl apply` of what this prints changes nothing. Where no controller answers, the stored state is printed.")]
pub struct ExportArgs {}

/// What can be done with the states from before.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// List the states from before, the newest first
    #[command(after_help = "Example:\n  pen-ctl history list")]
    List,
    /// Print a state as a configuration file
    #[command(after_help = "Example:\n  pen-ctl history show 12 > old.toml")]
    Show(NumberArgs),
    /// Make a state from before the one that holds
    #[command(after_help = "\
Examples:
  pen-ctl history restore 12 --dry-run
  pen-ctl history restore 12 --confirm 10m")]
    Restore(RestoreArgs),
}

/// The states from before.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl history
  pen-ctl history show 12
  pen-ctl history restore 12 --dry-run

Ten states are kept beside the one that holds. Applying and restoring make one each; changes at run time by the same
user, each within 10 minutes of the one before, make one together.")]
pub struct HistoryArgs {
    #[command(subcommand)]
    command: Option<HistoryCommand>,
}

/// A state by its number.
#[derive(Debug, Args)]
pub struct NumberArgs {
    /// Its number in `pen-ctl history`
    number: u64,
}

/// A state to bring back, and how.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Its number in `pen-ctl history`
    number: u64,
    /// Change nothing; show what would be other
    #[arg(long)]
    dry_run: bool,
    /// Take it back after this time unless `apply --confirmed` comes before: 1s to 24h
    #[arg(long, value_name = "TIME", conflicts_with = "dry_run")]
    confirm: Option<String>,
}

/// Applies a file, or ends a trial.
pub fn apply(global: &Global, args: &ApplyArgs) -> Result<(), CliError> {
    if let Some(revision) = &args.if_match {
        revision.parse::<Condition>().map_err(ApiError::from)?;
    }
    let client = global.client().at_revision(args.if_match.clone());
    let Some(file) = &args.file else {
        let (path, line) = match args.confirmed {
            true => ("/v1/config/confirm", "confirmed: it stays"),
            false => ("/v1/config/rollback", "rolled back"),
        };
        return done(global, &client.call(Method::POST, path, None)?, line);
    };
    let (name, text) = read(file)?;
    let mut query = how(args.dry_run, args.confirm.as_deref())?;
    query.push(format!("file={}", segment(&name)));
    let path = format!("/v1/config?{}", query.join("&"));
    let answer = client.call(Method::PUT, &path, Some(text))?;
    applied(global, &answer, &name, "applied")
}

/// The file's text, and what messages call it: by its whole path, which means the same to everybody.
fn read(file: &Path) -> Result<(String, String), CliError> {
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().take(FILE_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| {
            CliError::failed(format!(
                "standard input cannot be read: {error}; pipe a configuration (TOML) into it"
            ))
        })?;
        return Ok(("standard input".to_owned(), text));
    }
    let text = config::read(file).map_err(ApiError::from)?;
    let name = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    Ok((name.display().to_string(), text))
}

fn how(dry_run: bool, confirm: Option<&str>) -> Result<Vec<String>, CliError> {
    let mut query = Vec::new();
    if dry_run {
        query.push("dry_run=true".to_owned());
    }
    if let Some(time) = confirm {
        text::duration(time).map_err(ApiError::from)?;
        query.push(format!("confirm={}", segment(time)));
    }
    Ok(query)
}

/// Says what is other, then what became of it.
fn applied(global: &Global, answer: &Answer, what: &str, done: &str) -> Result<(), CliError> {
    if global.json {
        render::print(&answer.text);
        return Ok(());
    }
    let AppliedDocument { changed, dry_run, differences, trial, warnings } = answer.read()?;
    let mut text = difference::lines(&differences, Style::for_stdout());
    text.push_str(&match (changed, dry_run, trial) {
        (false, ..) => format!("{what}: nothing is other than it is"),
        (true, true, _) => format!("{what}: not {done}, this is what would be other"),
        (true, false, None) => format!("{what}: {done}"),
        (true, false, Some(trial)) => format!(
            "{what}: {done} on trial, rolled back in {} unless `pen-ctl apply --confirmed` comes before",
            humantime::format_duration(Duration::from_secs(trial.seconds_left))
        ),
    });
    render::print(&text);
    for warning in &warnings {
        eprintln!("pen-ctl: warning: {warning}");
    }
    Ok(())
}

/// Writes the desired state out, as stored where no controller answers.
pub fn export(global: &Global) -> Result<(), CliError> {
    let stored = match global.client().call(Method::GET, "/v1/config", None) {
        Ok(answer) => {
            return show(global, &answer, |document: &ConfigDocument| {
                warn_of_length(&document.toml);
                document.toml.clone()
            });
        }
        Err(error @ ClientError::NoController { .. }) => {
            let stored = Store::peek(&global.state_dir()).map_err(ApiError::from)?;
            stored.ok_or(error)?
        }
        Err(error) => return Err(error.into()),
    };
    eprintln!("pen-ctl: no controller answers: this is the state stored in {}", global.state_dir().display());
    let (stored, kind) = stored;
    let document = ConfigDocument { revision: Revision::of(&stored), toml: to_toml(&stored, kind) };
    match global.json {
        true => render::print(&super::values::body(&document)?),
        false => {
            warn_of_length(&document.toml);
            render::print(&document.toml);
        }
    }
    Ok(())
}

/// A file that nobody can apply is no good as a backup, and should not be found out as such when it is needed.
fn warn_of_length(toml: &str) {
    if toml.len() as u64 > FILE_MAX {
        eprintln!(
            "pen-ctl: this is {:.1} MiB, more than the {} MiB that `apply` takes: shorten its lists, or keep the state \
             directory as the backup",
            toml.len() as f64 / f64::from(1 << 20),
            FILE_MAX >> 20
        );
    }
}

/// Looks at the states from before, or brings one back.
pub fn history(global: &Global, args: &HistoryArgs) -> Result<(), CliError> {
    let client = global.client();
    match args.command.as_ref().unwrap_or(&HistoryCommand::List) {
        HistoryCommand::List => {
            let answer = client.call(Method::GET, "/v1/history", None)?;
            show(global, &answer, |document: &HistoryDocument| {
                difference::history(document, Style::for_stdout())
            })
        }
        HistoryCommand::Show(NumberArgs { number }) => {
            let answer = client.call(Method::GET, &format!("/v1/history/{number}"), None)?;
            show(global, &answer, |StateDetail { state, toml, .. }: &StateDetail| {
                format!(
                    "# State {} of {}: {} ({})\n{toml}",
                    state.number, state.time, state.cause, state.summary
                )
            })
        }
        HistoryCommand::Restore(RestoreArgs { number, dry_run, confirm }) => {
            let query = how(*dry_run, confirm.as_deref())?.join("&");
            let path = format!("/v1/history/{number}/restore?{query}");
            let answer = client.call(Method::POST, &path, None)?;
            applied(global, &answer, &format!("state {number}"), "restored")
        }
    }
}
