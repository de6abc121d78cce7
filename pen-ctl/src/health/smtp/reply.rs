//! Replies of a mail server (RFC 5321, 4.2): a code of three digits on each of one or more lines.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::health::ask::Failed;
use crate::health::tls;

/// Bytes of a line; what the protocol allows is a quarter of it.
const LINE_MAX: usize = 2048;
/// Lines of a reply.
const LINES_MAX: usize = 100;
/// Bytes of a reply that a reason repeats.
const TOLD: usize = 100;

/// One reply.
#[derive(Debug)]
pub(super) struct Reply {
    code: u16,
    /// What stands behind the code, line by line.
    lines: Vec<String>,
}

impl Reply {
    /// Reads one.
    pub(super) async fn from(talk: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, Failed> {
        let mut lines = Vec::new();
        loop {
            let line = line(talk).await?;
            let (code, is_last, text) = parsed(&line).ok_or_else(|| not_smtp(&line))?;
            lines.push(text);
            if is_last {
                return Ok(Reply { code, lines });
            }
            if lines.len() == LINES_MAX {
                return Err(Failed::Answer(format!("not SMTP: a reply of more than {LINES_MAX} lines")));
            }
        }
    }

    /// Its code.
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// Itself, if its code is this one.
    pub(super) fn expect(self, code: u16) -> Result<Reply, Failed> {
        self.is_no_refusal()?;
        if self.code == code { Ok(self) } else { Err(Failed::Answer(format!("{self}, expected {code}"))) }
    }

    /// Refuses one that says that something failed.
    pub(super) fn is_no_refusal(&self) -> Result<(), Failed> {
        if self.code >= 400 { Err(Failed::Answer(self.to_string())) } else { Ok(()) }
    }

    /// Whether an extension is among those that a reply to EHLO lists behind its first line.
    pub(super) fn offers(&self, extension: &str) -> bool {
        let mut words = self.lines.iter().skip(1).filter_map(|line| line.split(' ').next());
        words.any(|word| word.eq_ignore_ascii_case(extension))
    }
}

impl std::fmt::Display for Reply {
    /// Of its text the first line that says something.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.lines.iter().find(|line| !line.is_empty()).map(|line| told(line)).unwrap_or_default();
        let space = if text.is_empty() { "" } else { " " };
        write!(f, "SMTP {}{space}{text}", self.code)
    }
}

/// Code, whether it is the last line, and text.
fn parsed(line: &[u8]) -> Option<(u16, bool, String)> {
    let digits = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default()).into_owned();
    match line.get(3) {
        _ if !(200..=599).contains(&code) => None,
        None | Some(b' ') => Some((code, true, text)),
        Some(b'-') => Some((code, false, text)),
        Some(_) => None,
    }
}

/// A line without its end.
async fn line(talk: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, Failed> {
    let mut line = Vec::new();
    loop {
        let came = talk.fill_buf().await.map_err(|error| tls::failed(&error))?;
        if came.is_empty() {
            return Err(Failed::answer(&io::ErrorKind::UnexpectedEof.into()));
        }
        let end = came.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&came[..end.unwrap_or(came.len())]);
        let used = end.map_or(came.len(), |end| end + 1);
        talk.consume(used);
        if line.len() > LINE_MAX {
            return Err(not_smtp(&line));
        }
        if end.is_some() {
            line.pop_if(|last| *last == b'\r');
            return Ok(line);
        }
    }
}

fn not_smtp(line: &[u8]) -> Failed {
    Failed::Answer(format!("not SMTP: \"{}\"", told(&String::from_utf8_lossy(line))))
}

/// A text as a reason repeats it: not too much, and nothing that a terminal would obey.
fn told(text: &str) -> String {
    let mut end = text.len().min(TOLD);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let quotes = ['"', '\''];
    let kept = |letter: &char| quotes.contains(letter);
    let letters = text[..end].trim_end().chars();
    letters
        .map(|letter| if kept(&letter) { letter.into() } else { letter.escape_debug().to_string() })
        .collect()
}
