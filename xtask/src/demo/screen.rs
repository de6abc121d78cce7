//! How the demo looks: headings, commands, claims, and lines that show live who answers whom.

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
            // Then back up, to be painted over.
            print!("{}\x1b[{}A", self.lines(ledger), Family::BOTH.len());
            let _ = io::stdout().flush();
        }
    }

    /// The same, to stay.
    pub(super) fn stay(&self, ledger: &Ledger) {
        print!("{}", self.lines(ledger));
    }

    /// For each family `v4  web 1231…  dns 3213…`: a digit per client, the number of the backend that answered it
    /// last; `·` for no answer yet, `x` for a failure.
    fn lines(&self, ledger: &Ledger) -> String {
        let mut lines = String::new();
        for (family, label) in [(Family::V4, "v4"), (Family::V6, "v6")] {
            lines.push_str(if self.terminal { "\r\x1b[K  " } else { "  " });
            lines.push_str(label);
            for (kind, name) in [(Kind::Web, "web"), (Kind::Dns, "dns")] {
                lines.push_str(&format!("  {name} "));
                let records = ledger.iter().filter(|(key, _)| (key.family, key.kind) == (family, kind));
                for (_, record) in records {
                    lines.push_str(&match record.backend.as_deref() {
                        _ if record.failing => self.paint("31", "x"),
                        None => "·".to_owned(),
                        Some(backend) => self.backend_digit(backend),
                    });
                }
            }
            lines.push('\n');
        }
        lines
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
