//! What holds for the whole command line.

use super::*;

fn every_command(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
    let path = format!("{path} {}", command.get_name());
    let subcommands: Vec<&clap::Command> =
        command.get_subcommands().filter(|c| c.get_name() != "help").collect();
    if subcommands.is_empty() || path == " pen-ctl" {
        visit(path.trim(), command);
    }
    for subcommand in subcommands {
        every_command(subcommand, &path, visit);
    }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example_that_parses() {
    let mut commands = 0;
    every_command(&Cli::command(), "", &mut |path, command| {
        commands += 1;
        let help = command.clone().render_long_help().to_string();
        let examples: Vec<&str> =
            help.lines().filter_map(|line| line.trim().strip_prefix("pen-ctl ")).collect();
        assert!(help.contains("Example"), "{path} has no example");
        assert!(
            examples.iter().any(|example| format!("pen-ctl {example}").starts_with(path)),
            "{path}: {examples:?}"
        );
        for example in examples {
            let typed = example.split_whitespace().take_while(|word| !["|", ">", "<"].contains(word));
            let words = std::iter::once("pen-ctl").chain(typed);
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{path}: `{example}`: {error}"));
        }
    });
    assert!(commands >= 14, "only {commands} commands seen");
}

#[test]
fn only_commands_that_add_promise_defaults() {
    every_command(&Cli::command(), "", &mut |path, command| {
        let sets_keys = command.get_arguments().any(|a| a.get_id() == "health");
        if !sets_keys {
            return;
        }
        let helps = command.get_arguments().filter_map(|a| a.get_help()).map(ToString::to_string);
        let promised = helps.filter(|help| help.contains("[default:")).count();
        assert_eq!(promised > 0, path.ends_with(" add"), "{path}");
    });
}

#[test]
fn every_option_is_explained() {
    every_command(&Cli::command(), "", &mut |path, command| {
        for argument in
            command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
        {
            assert!(argument.get_help().is_some() || argument.is_hide_set(), "{path}: {}", argument.get_id());
        }
    });
}

#[test]
fn global_options_may_come_before_or_after_the_command() {
    for words in [
        ["pen-ctl", "--socket", "/a/s", "--json", "service", "list"],
        ["pen-ctl", "service", "--json", "list", "--socket", "/a/s"],
    ] {
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!(cli.global.socket(), Path::new("/a/s"));
        assert!(cli.global.json);
    }
}

#[test]
fn a_controller_in_the_background_gets_every_path_absolute() {
    let cli =
        Cli::try_parse_from(["pen-ctl", "-v", "--socket", "s", "--state-dir", "d", "--bpffs", "b", "status"]);
    let arguments = cli.unwrap().global.as_arguments();
    let here = std::env::current_dir().unwrap();
    let expected = [
        "--socket".into(),
        here.join("s").into_os_string(),
        "--state-dir".into(),
        here.join("d").into_os_string(),
        "--bpffs".into(),
        here.join("b").into_os_string(),
        "--verbose".into(),
    ];
    assert_eq!(arguments, expected);
}
