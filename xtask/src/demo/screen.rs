//! How the demo looks: headings, commands, claims, and one line that shows live who answers whom.

use std::io::{self, IsTerminal, Write};

use super::traffic::{Family, Kind, Ledger};

/// Where the demo is shown; colour and live lines only on a terminal.
pub(super) struct Screen {
    terminal: bool,
}

/// SGR codes (ECMA-48) that tell backends apart; `b1` gets the first.
const COLOURS: [&str; 3] = ["36", "33", "35"];

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal() }
    }

    /// A new act.
    pub(super) fn act(&self, heading: &str) {
        println!("\n{}", self.paint("1", heading));
    }

    /// A remark.
    pub(super) fn say(&self, text: &str) {
        for line in text.lines() {
            println!("  {line}");
        }
    }

    /// A command that is being run.
    pub(super) fn command(&self, line: &str) {
        println!("  {} {line}", self.paint("2", "pen#"));
    }

    /// Something claimed, and whether it happened.
    pub(super) fn claim(&self, held: bool, text: &str) {
        let mark = if held { self.paint("32", "✓") } else { self.paint("31", "✗ NOT SO:") };
        println!("  {mark} {text}");
    }

    /// Shows live who answered each client last; on a terminal only.
    pub(super) fn live(&self, ledger: &Ledger) {
        if self.terminal {
            print!("\r\x1b[K{}", self.line(ledger));
            let _ = io::stdout().flush();
        }
    }

    /// The same, to stay.
    pub(super) fn stay(&self, ledger: &Ledger) {
        let start = if self.terminal { "\r\x1b[K" } else { "" };
        println!("{start}{}", self.line(ledger));
    }

    /// `v4 web 1231… dns 3213… v6 …`: a digit per client, the number of the backend that answered it last; `·`
    /// for no answer yet, `x` for a failure.
    fn line(&self, ledger: &Ledger) -> String {
        let mut line = String::from(" ");
        for (family, label) in [(Family::V4, "v4"), (Family::V6, "v6")] {
            for (kind, name) in [(Kind::Web, "web"), (Kind::Dns, "dns")] {
                line.push_str(&format!(" {label} {name} "));
                let records = ledger.iter().filter(|(key, _)| (key.family, key.kind) == (family, kind));
                for (_, record) in records {
                    line.push_str(&match record.backend.as_deref() {
                        _ if record.failing => self.paint("31", "x"),
                        None => "·".to_owned(),
                        Some(backend) => self.backend_digit(backend),
                    });
                }
            }
        }
        line
    }

    fn backend_digit(&self, backend: &str) -> String {
        let digit = backend.trim_start_matches('b');
        let number = digit.parse::<usize>().unwrap_or(1);
        self.paint(COLOURS[number.wrapping_sub(1) % COLOURS.len()], digit)
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
