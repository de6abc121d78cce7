//! Kinds of checks, with what each of them asks for and expects.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::state::text::TextError;

/// What is asked of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection opens.
    Tcp,
    /// It answers a request over HTTP, or HTTPS.
    Http(HttpCheck),
    /// It answers a question about a name.
    Dns(DnsCheck),
    /// It greets as a mail server.
    Smtp(SmtpCheck),
    /// It answers a datagram, or does not refuse it.
    Udp(UdpCheck),
    /// It answers an echo request.
    Icmp,
    /// A program ends with status 0.
    Exec(ExecCheck),
    /// An agent on it says how it is.
    Agent(AgentCheck),
}

/// Over HTTP/1.1 (RFC 9112).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Over TLS: `https`.
    pub tls: Option<TlsCheck>,
    /// The method.
    pub method: String,
    /// The target: a path, with a query or not.
    pub path: String,
    /// The field `Host`; `None` = the service's address.
    pub host: Option<String>,
    /// Statuses of an answer that is good.
    pub status: Statuses,
    /// What the content of an answer must hold.
    pub body: Option<String>,
}

/// What is demanded of TLS (RFC 8446).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCheck {
    /// Whether the certificate must be good.
    pub verify: bool,
    /// The name that is asked for, and that the certificate must be for; `None` = the `host`, else the service's address.
    pub sni: Option<String>,
    /// A file of certificates (PEM) that are trusted in place of the system's.
    pub ca: Option<String>,
}

/// A question to a name server (RFC 1035).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsCheck {
    /// The name.
    pub name: String,
    /// The type of record: `A`, `AAAA`, `NS` …
    pub record: String,
    /// The response code that is good, such as `NOERROR`; `None` = any but `SERVFAIL`.
    pub rcode: Option<String>,
    /// What one of the answers must be, as in a zone file; `None` = anything.
    pub answer: Option<String>,
    /// Over what; `None` = the service's protocol.
    pub transport: Option<Transport>,
}

/// What carries a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
}

/// The beginning of a talk with a mail server (RFC 5321).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpCheck {
    /// What it is told by EHLO; `None` = this host's name.
    pub helo: Option<String>,
    /// TLS is begun, too (RFC 3207).
    pub starttls: Option<TlsCheck>,
}

/// A datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpCheck {
    /// What is sent; `None` = nothing but an empty datagram.
    pub send: Option<Payload>,
    /// What an answer must hold; `None` = no answer is expected, only no refusal (ICMP).
    pub expect: Option<Payload>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecCheck {
    /// Its path and what it is told; no shell comes between.
    pub command: Vec<String>,
}

/// HAProxy's agent: a line of words, such as `75% up`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCheck {
    /// What it is told first; `None` = nothing.
    pub send: Option<Payload>,
}

/// Bytes, written as text with `\r`, `\n`, `\t`, `\\` and `\x00` for those that are no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    text: String,
    bytes: Vec<u8>,
}

/// Statuses of HTTP: `200`, `200-399`, `200 204 301-302`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Kind {
    /// As it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Http(HttpCheck { tls: None, .. }) => "http",
            Kind::Http(HttpCheck { tls: Some(_), .. }) => "https",
            Kind::Dns(_) => "dns",
            Kind::Smtp(_) => "smtp",
            Kind::Udp(_) => "udp",
            Kind::Icmp => "icmp",
            Kind::Exec(_) => "exec",
            Kind::Agent(_) => "agent",
        }
    }

    /// Whether a backend on a Unix socket can be asked.
    pub fn knows_unix_sockets(&self) -> bool {
        !matches!(self, Kind::Dns(_) | Kind::Udp(_) | Kind::Icmp | Kind::Agent(_))
    }

    /// Whether the VIP can be asked: an agent and a program are asked about a backend, not as a service.
    pub fn can_ask_the_vip(&self) -> bool {
        !matches!(self, Kind::Exec(_) | Kind::Agent(_))
    }

    /// Whether a port is asked.
    pub fn has_port(&self) -> bool {
        !matches!(self, Kind::Icmp | Kind::Exec(_))
    }
}

impl HttpCheck {
    /// The name that is asked for over TLS, where one is said: `sni`, else the `host` without its port.
    pub fn server_name(&self) -> Option<&str> {
        let said = self.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        said.or(self.host.as_deref().map(without_port))
    }
}

/// The host of `HOST[:PORT]`, an IPv6 address without its brackets.
fn without_port(host: &str) -> &str {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let has_port = port.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv6Addr>().is_err();
    let name = if has_port { name } else { host };
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            tls: None,
            method: "GET".into(),
            path: "/".into(),
            host: None,
            status: Statuses(vec![(200, 399)]),
            body: None,
        }
    }
}

impl Default for TlsCheck {
    fn default() -> Self {
        Self { verify: true, sni: None, ca: None }
    }
}

impl Default for DnsCheck {
    /// Every name server has something to say about the root, if only that it will not.
    fn default() -> Self {
        Self { name: ".".into(), record: "NS".into(), rcode: None, answer: None, transport: None }
    }
}

impl Payload {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromStr for Payload {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Payload, TextError> {
        let wrong = |escape: &str| {
            let why = format!("`{text}`: `\\{escape}` means nothing");
            TextError(format!("{why}; write a byte as \\x0a, and the backslash itself as \\\\"))
        };
        let (mut bytes, mut rest) = (Vec::new(), text);
        while let Some((plain, escaped)) = rest.split_once('\\') {
            bytes.extend_from_slice(plain.as_bytes());
            let letter = escaped.chars().next().map(String::from).unwrap_or_default();
            rest = &escaped[letter.len()..];
            bytes.push(match letter.as_str() {
                "r" => b'\r',
                "n" => b'\n',
                "t" => b'\t',
                "\\" => b'\\',
                "x" => {
                    let digits = rest.get(..2).unwrap_or(rest);
                    let byte = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    let byte = byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten();
                    let byte =
                        byte.filter(|_| digits.len() == 2).ok_or_else(|| wrong(&format!("x{digits}")))?;
                    rest = &rest[2..];
                    byte
                }
                other => return Err(wrong(other)),
            });
        }
        bytes.extend_from_slice(rest.as_bytes());
        Ok(Payload { text: text.to_owned(), bytes })
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Statuses {
    /// Whether that one is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl FromStr for Statuses {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Statuses, TextError> {
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => {
                Some((status(first)?, status(last)?)).filter(|(first, last)| first <= last)
            }
            None => status(part).map(|one| (one, one)),
        };
        let parts = text.split([' ', ',']).filter(|part| !part.is_empty());
        let all: Option<Vec<_>> = parts.map(range).collect();
        all.filter(|all| !all.is_empty()).map(Statuses).ok_or_else(|| {
            TextError(format!("`{text}` are not statuses of HTTP; write them as 200, 200-399 or \"200 204\""))
        })
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            match first == last {
                true => write!(f, "{space}{first}")?,
                false => write!(f, "{space}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_text_with_escapes() {
        let bytes = |text: &str| text.parse::<Payload>().map(|payload| payload.bytes().to_vec());
        assert_eq!(bytes(r"PING\r\n").unwrap(), b"PING\r\n");
        assert_eq!(bytes(r"\x00\xfFü\\").unwrap(), b"\x00\xff\xc3\xbc\\");
        for wrong in [r"\q", r"\x1", r"\xzz", "\\"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(r"a\n".parse::<Payload>().unwrap().to_string(), r"a\n");
    }

    #[test]
    fn statuses_are_single_ones_and_ranges() {
        let statuses: Statuses = "200-299,304 401".parse().unwrap();
        let good = [200, 250, 299, 304, 401];
        assert!(good.iter().all(|status| statuses.contains(*status)));
        assert!([199, 300, 303, 400, 500].iter().all(|status| !statuses.contains(*status)));
        assert_eq!(statuses.to_string(), "200-299 304 401");
        for wrong in ["", "ok", "99", "600", "300-200", "200-"] {
            assert!(wrong.parse::<Statuses>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hosts_name_is_what_stands_before_its_port() {
        for (host, name) in [
            ("www.example.com", "www.example.com"),
            ("www.example.com:8443", "www.example.com"),
            ("192.0.2.1:8443", "192.0.2.1"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
