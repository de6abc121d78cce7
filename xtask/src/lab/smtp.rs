//! A client that delivers a mail (RFC 5321) and tells who took it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::tcp;

/// Port of the server.
pub const PORT: u16 = 25;

/// Delivers a mail of these lines on a connection of its own; gives the first label of the server's name, once
/// the server has said that it took the mail.
pub fn deliver(source: IpAddr, to: SocketAddr, patience: Duration, lines: &str) -> io::Result<String> {
    let mut session = Session(BufReader::new(tcp::connect(source, to, patience)?));
    let greeting = session.expect("220")?;
    session.command("EHLO client.lab", "250")?;
    session.command("MAIL FROM:<client@client.lab>", "250")?;
    session.command("RCPT TO:<anybody@lab>", "250")?;
    session.command("DATA", "354")?;
    let mut text = String::with_capacity(lines.len() + 64);
    for line in lines.lines() {
        // Transparency (4.5.2): a leading dot is doubled.
        text.push_str(if line.starts_with('.') { "." } else { "" });
        text.push_str(line);
        text.push_str("\r\n");
    }
    session.0.get_mut().write_all(text.as_bytes())?;
    session.command(".", "250")?;
    session.command("QUIT", "221")?;
    let name = greeting.split(['.', ' ']).next().unwrap_or_default();
    Ok(name.to_owned())
}

struct Session(BufReader<TcpStream>);

impl Session {
    fn command(&mut self, line: &str, code: &str) -> io::Result<String> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.expect(code)
    }

    /// Reads a reply, all its lines, with this code (4.2.1); gives the text of the last.
    fn expect(&mut self, code: &str) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().strip_prefix(code).map(|rest| (rest.get(..1), rest.get(1..))) {
                Some((Some("-"), _)) => {}
                Some((_, text)) => return Ok(text.unwrap_or_default().to_owned()),
                None => return Err(io::Error::other(format!("expected {code}: {}", line.trim_end()))),
            }
        }
    }
}
