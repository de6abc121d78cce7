//! What is typed for listeners and backends: `80`, `127.0.0.1:80`, `www1:8000:10`, `[2001:db8::1]:80`, `/run/app.sock`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use socket2::{Domain, Socket, Type};

use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::platform::JOINS_FAMILIES;
use crate::dataplane::proxy::pool::BackendConfig;

/// A listener as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    /// A port on every address of this host.
    Port(u16),
    /// One endpoint.
    At(Endpoint),
}

impl Listen {
    /// What it means on this host.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let port = match self {
            Listen::Port(port) => *port,
            Listen::At(endpoint) => return vec![endpoint.clone()],
        };
        let v4 = Endpoint::Inet((Ipv4Addr::UNSPECIFIED, port).into());
        let v6 = Endpoint::Inet((Ipv6Addr::UNSPECIFIED, port).into());
        match Socket::new(Domain::IPV6, Type::STREAM, None) {
            Ok(_) if JOINS_FAMILIES => vec![v6],
            Ok(_) => vec![v4, v6],
            Err(_) => vec![v4],
        }
    }

    /// Its port; a path has none.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Listen::Port(port) => Some(*port),
            Listen::At(Endpoint::Inet(address)) => Some(address.port()),
            Listen::At(Endpoint::Unix(_)) => None,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if text.contains('/') {
            return path(text).map(|path| Listen::At(Endpoint::Unix(path)));
        }
        if let Ok(port) = text.parse() {
            return Ok(Listen::Port(port));
        }
        let address: Result<SocketAddr, _> = text.parse();
        address.map(|address| Listen::At(Endpoint::Inet(address))).map_err(|_| {
            "write a port (80), an address with a port (127.0.0.1:80, [::1]:80) or the path of a Unix socket \
             (/run/app.sock)"
                .to_owned()
        })
    }
}

/// A backend as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// A host, its port and the connections it takes at once.
    Host {
        /// Name or address.
        host: String,
        /// Port.
        port: Option<u16>,
        /// Connections at once.
        max: Option<u32>,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Backend {
    /// Finds its address, with a port of its own or else `port`. The first address of a name counts.
    pub(super) fn resolve(&self, port: Option<u16>) -> Result<BackendConfig, String> {
        let (endpoint, max) = match self {
            Backend::Unix(path) => (Endpoint::Unix(path.clone()), None),
            Backend::Host { host, port: own, max } => {
                let Some(port) = own.or(port).filter(|port| *port != 0) else {
                    return Err(format!("backend {host}: no port; write {host}:PORT"));
                };
                let found = match host.parse::<IpAddr>() {
                    Ok(address) => Some(SocketAddr::new(address, port)),
                    Err(_) => (host.as_str(), port)
                        .to_socket_addrs()
                        .map_err(|error| {
                            format!(
                                "backend {host}: {error}; write an address, or see that the name is known"
                            )
                        })?
                        .next(),
                };
                let found = found
                    .ok_or_else(|| format!("backend {host}: the name has no address; write an address"))?;
                (Endpoint::Inet(found), *max)
            }
        };
        Ok(BackendConfig { soft_limit: max, hard_limit: max, ..BackendConfig::new(endpoint) })
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Backend, String> {
        if text.contains('/') {
            return path(text).map(Backend::Unix);
        }
        let wrong = || {
            "write HOST, HOST:PORT or HOST:PORT:MAX (an IPv6 address in brackets), or the path of a Unix socket"
                .to_owned()
        };
        let (host, rest) = match text.strip_prefix('[') {
            Some(text) => {
                let (host, rest) = text.split_once(']').ok_or_else(wrong)?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
                (host, rest)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let mut numbers = rest.split(':');
        // Before the first colon stands nothing.
        let nothing = numbers.next();
        let port =
            numbers.next().map(|port| port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong));
        let max = numbers.next().map(|max| max.parse::<u32>().ok().filter(|max| *max != 0).ok_or_else(wrong));
        if host.is_empty() || nothing != Some("") || numbers.next().is_some() {
            return Err(wrong());
        }
        Ok(Backend::Host { host: host.to_owned(), port: port.transpose()?, max: max.transpose()? })
    }
}

/// The path that a word with a `/` is. Only one that begins as a path does is meant as one: the others are URLs, or services
/// as the controller writes them.
fn path(text: &str) -> Result<PathBuf, String> {
    let begins = ["/", "./", "../"].into_iter().any(|begin| text.starts_with(begin));
    if begins && text.ends_with('/') {
        return Err("a directory is no socket; write the path of a Unix socket (/run/app.sock)".to_owned());
    }
    if begins {
        return Ok(PathBuf::from(text));
    }
    let without = |end| text.strip_suffix(end);
    let of_url = text.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    let host = of_url.or_else(|| without("/tcp")).or_else(|| without("/")).filter(|host| !host.is_empty());
    let shown = match (host, without("/udp")) {
        (Some(host), _) => host.to_owned(),
        (None, Some(host)) => format!("{host}, and --udp"),
        (None, None) => format!("./{text}"),
    };
    Err(format!("only the path of a Unix socket has a `/`, and begins with `/` or `./`; write {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, port: Option<u16>, max: Option<u32>) -> Result<Backend, String> {
        Ok(Backend::Host { host: host.to_owned(), port, max })
    }

    #[test]
    fn backends_are_read_as_classic_pen_reads_them_and_with_brackets() {
        for (text, expected) in [
            ("www3", host("www3", None, None)),
            ("www2:80", host("www2", Some(80), None)),
            ("www1:8000:10", host("www1", Some(8000), Some(10))),
            ("10.0.0.1:80", host("10.0.0.1", Some(80), None)),
            ("[2001:db8::1]", host("2001:db8::1", None, None)),
            ("[2001:db8::1]:80:3", host("2001:db8::1", Some(80), Some(3))),
            ("/run/app:1.sock", Ok(Backend::Unix("/run/app:1.sock".into()))),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:80:",
            "a:80:0",
            "a:80:x",
            "a:80:1:1",
            "[a]:80",
            "[::1",
            "[::1]x:80",
            "::1",
        ] {
            assert!(text.parse::<Backend>().is_err(), "{text}");
        }
    }

    #[test]
    fn listeners_are_a_port_an_address_or_a_path() {
        assert_eq!("80".parse(), Ok(Listen::Port(80)));
        assert_eq!("127.0.0.1:80".parse(), Ok(Listen::At(Endpoint::Inet(([127, 0, 0, 1], 80).into()))));
        assert_eq!("[::1]:80".parse::<Listen>().map(|listen| listen.port()), Ok(Some(80)));
        assert_eq!("./s".parse(), Ok(Listen::At(Endpoint::Unix("./s".into()))));
        for text in ["", "http", "65536", "www1:80", "127.0.0.1"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_begins_as_a_path_is_one_and_else_it_is_said_what_to_write() {
        for path in ["/run/app.sock", "./app.sock", "../app.sock"] {
            assert_eq!(path.parse(), Ok(Backend::Unix(path.into())));
            assert_eq!(path.parse(), Ok(Listen::At(Endpoint::Unix(path.into()))));
        }
        for (text, write) in [
            ("http://www1:80", "write www1:80"),
            ("http://www1:80/index.html", "write www1:80"),
            ("127.0.0.1:80/tcp", "write 127.0.0.1:80"),
            ("127.0.0.1:53/udp", "write 127.0.0.1:53, and --udp"),
            ("www1/", "write www1"),
            ("run/app.sock", "write ./run/app.sock"),
            ("file:///run/app.sock", "write ./file:///run/app.sock"),
            ("/run/", "write the path of a Unix socket (/run/app.sock)"),
        ] {
            let ends = |error: String| assert!(error.ends_with(write), "{error}");
            ends(text.parse::<Backend>().unwrap_err());
            ends(text.parse::<Listen>().unwrap_err());
        }
    }

    #[test]
    fn a_backend_without_a_port_gets_the_listeners() {
        let backend: Backend = "10.0.0.1".parse().unwrap();
        assert_eq!(backend.resolve(Some(80)).unwrap().endpoint.to_string(), "10.0.0.1:80");
        assert!(backend.resolve(None).is_err());
    }
}
