//! Documents as text for people: aligned, one fact a column, colour only on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

pub mod clients;
pub mod difference;
pub mod status;
pub mod table;

/// What colours mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Attention,
    /// Not as it should be.
    Bad,
    /// Less important than the rest.
    Faint,
    /// A heading.
    Strong,
}

/// Whether and how to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Colour at all.
    pub colour: bool,
}

impl Style {
    /// As fits stdout: colour if it is a terminal and `NO_COLOR` is not set (no-color.org).
    pub fn for_stdout() -> Style {
        Style { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Colours `text`.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Attention => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether something could not be printed.
static INCOMPLETE: AtomicBool = AtomicBool::new(false);

/// Prints to stdout; a reader who went away (`| head`) is no failure, anything else makes the command fail in the end
/// ([`incomplete`]).
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(end.as_bytes()));
    let Err(error) = written.and_then(|()| stdout.flush()) else { return };
    // Once is enough.
    if error.kind() != std::io::ErrorKind::BrokenPipe && !INCOMPLETE.swap(true, Ordering::Relaxed) {
        eprintln!("pen-ctl: standard output cannot be written: {error}; what was printed is not whole");
    }
}

/// Whether something could not be printed: then what was redirected into a file is not whole.
pub fn incomplete() -> bool {
    INCOMPLETE.load(Ordering::Relaxed)
}

/// How many of something: `1 packet`, `1 234 packets`.
pub fn plural(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

/// A number with thin groups of three: `1 234 567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes with a binary unit: `1.5 MiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A span of time in its two largest units: `3d 4h`, `12s`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes, rest) =
        (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown: Vec<String> = [0, 999, 1000, 1_234_567].map(number).into();
        assert_eq!(shown, ["0", "999", "1 000", "1 234 567"]);
    }

    #[test]
    fn sizes_and_spans_are_short() {
        let sizes: Vec<String> = [1023, 1024, 1_572_864, u64::MAX].map(bytes).into();
        assert_eq!(sizes, ["1023 B", "1.0 KiB", "1.5 MiB", "16.0 EiB"]);
        let spans: Vec<String> = [5, 65, 3700, 100_000].map(span).into();
        assert_eq!(spans, ["5s", "1m 5s", "1h 1m", "1d 3h"]);
    }

    #[test]
    fn without_a_terminal_nothing_is_coloured() {
        assert_eq!(Style { colour: false }.paint(Tone::Bad, "down"), "down");
        assert_eq!(Style { colour: true }.paint(Tone::Bad, "down"), "\x1b[31mdown\x1b[0m");
    }
}
