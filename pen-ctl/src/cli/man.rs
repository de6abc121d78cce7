//! `pen-ctl man`: the manual pages, made from the same words as `--help`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::Cli;
use super::error::CliError;
use super::render;
use crate::api::{ApiError, ErrorCode};

/// The section of system administration commands (man-pages(7)).
const SECTION: &str = "8";

/// Which pages.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl man | man -l -
  pen-ctl man backend add | man -l -
  pen-ctl man --directory /usr/local/share/man/man8")]
pub struct ManArgs {
    /// The command whose page to print [default: pen-ctl itself]
    #[arg(conflicts_with = "directory")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints a page, or writes all of them.
pub fn man(args: &ManArgs) -> Result<(), CliError> {
    let root = root();
    if let Some(directory) = &args.directory {
        return write_all(&root, directory);
    }
    let mut command = &root;
    for word in &args.command {
        command = command.get_subcommands().find(|one| one.get_name() == word).ok_or_else(|| {
            CliError::Usage(format!(
                "{} has no command {}; `pen-ctl help` shows those there are",
                command.get_name(),
                word.escape_debug()
            ))
        })?;
    }
    render::print(page(command)?.trim_end());
    Ok(())
}

fn write_all(root: &Command, directory: &Path) -> Result<(), CliError> {
    let mut written = 0;
    for command in all(root) {
        let path = directory.join(format!("{}.{SECTION}", name(command)));
        fs::write(&path, page(command)?).map_err(|error| {
            let what = format!("write {}: {error}", path.display());
            ApiError::new(ErrorCode::Refused, what, "make the directory first, or give another --directory")
        })?;
        written += 1;
    }
    render::print(&format!("{written} pages written to {}", directory.display()));
    Ok(())
}

/// The whole command line, with the full names of its commands filled in.
fn root() -> Command {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    root
}

fn all(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|one| !one.is_hide_set()).flat_map(all);
    std::iter::once(command).chain(below).collect()
}

/// `pen-ctl-backend-add`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> Result<String, CliError> {
    let man = Man::new(command.clone().disable_help_flag(false))
        .section(SECTION)
        .source(concat!("pen ", env!("CARGO_PKG_VERSION")))
        .manual("pen load balancer");
    let mut text = Vec::new();
    let mut write = || -> std::io::Result<()> {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        if command.get_arguments().any(|argument| !argument.is_hide_set()) {
            man.render_options_section(&mut text)?;
        }
        if command.get_subcommands().any(|one| !one.is_hide_set()) {
            man.render_subcommands_section(&mut text)?;
        }
        closing(command).to_writer(&mut text)
    };
    write().map_err(CliError::failed)?;
    String::from_utf8(text).map_err(CliError::failed)
}

/// What `--help` says after the options: each paragraph under a heading of its own, its lines as they stand.
fn closing(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let heading = match paragraph {
            _ if paragraph.starts_with("Example") => "EXAMPLES",
            _ if paragraph.starts_with("Exit status") => "EXIT STATUS",
            _ => "NOTES",
        };
        roff.control("SH", [heading]).control("nf", []);
        for line in paragraph.lines().filter(|line| !matches!(line.trim(), "Example:" | "Examples:")) {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let root = root();
        let names: BTreeSet<&str> = all(&root).into_iter().map(name).collect();
        assert_eq!(names.len(), all(&root).len(), "two pages of one name");
        assert!(names.contains("pen-ctl") && names.contains("pen-ctl-backend-add"), "{names:?}");
        for command in all(&root) {
            let page = page(command).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{}", name(command));
            assert!(page.contains(".SH EXAMPLES"), "{}", name(command));
        }
    }

    #[test]
    fn examples_stand_as_they_are_typed() {
        let root = root();
        let attach = all(&root).into_iter().find(|one| name(one) == "pen-ctl-attach").unwrap();
        assert!(page(attach).unwrap().contains("\n  pen\\-ctl attach eth0\n"), "{}", page(attach).unwrap());
    }
}
