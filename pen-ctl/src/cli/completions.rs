//! `pen-ctl completions`: what a shell needs to complete pen's commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::error::CliError;
use super::render;

/// For which shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl completions bash > /etc/bash_completion.d/pen-ctl
  pen-ctl completions zsh > /usr/local/share/zsh/site-functions/_pen-ctl
  pen-ctl completions fish > /etc/fish/completions/pen-ctl.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions.
pub fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    render::print(script(args.shell)?.trim_end());
    Ok(())
}

fn script(shell: Shell) -> Result<String, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pen-ctl", &mut script);
    let script = String::from_utf8(script).map_err(CliError::failed)?;
    Ok(match shell {
        // clap_complete writes the hyphen of a program's name in two ways, so that its cases are never met: `pen__ctl`
        // where it says which command this is, `pen__subcmd__ctl` where it asks.
        Shell::Bash => script.replace("pen__subcmd__ctl", "pen__ctl"),
        _ => script,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = script(shell).unwrap();
            for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
