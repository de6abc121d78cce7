//! What a one-liner can only fail with, refused before it starts: by the rules that the controller goes by.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::dataplane::proxy::endpoint::Endpoint;
use crate::dataplane::proxy::single::Config;
use crate::dataplane::proxy::transparent::is_of_clients;
use crate::state::validate::{not_a_listener, not_a_server};

/// Checks where clients come and where they are brought.
pub(super) fn check(config: &Config) -> Result<(), String> {
    for listen in &config.listen {
        if let Some(why) = broken(listen, not_a_listener) {
            return Err(format!("listen on {listen}: that is {why}; use an address that this machine has"));
        }
    }
    let mut seen = BTreeSet::new();
    for endpoint in config.backends.iter().map(|backend| &backend.endpoint) {
        if let Some(why) = broken(endpoint, not_a_server) {
            return Err(format!("backend {endpoint} is {why}; use the address of a server"));
        }
        if !seen.insert(endpoint) {
            return Err(format!(
                "backend {endpoint} is there twice; name it once, or give one of them another port"
            ));
        }
    }
    if config.settings.transparent { transparent(config) } else { Ok(()) }
}

/// Which rule for addresses an endpoint breaks. One on a link is the same host every time where it says on which.
fn broken(endpoint: &Endpoint, rule: fn(IpAddr) -> Option<&'static str>) -> Option<&'static str> {
    match endpoint {
        Endpoint::Inet(SocketAddr::V6(address)) if address.scope_id() != 0 => None,
        Endpoint::Inet(address) => rule(address.ip()),
        Endpoint::Unix(_) => None,
    }
}

/// Backends must be able to see the addresses of clients as senders'.
fn transparent(config: &Config) -> Result<(), String> {
    for listen in &config.listen {
        if let Endpoint::Unix(path) = listen {
            let path = path.display();
            return Err(format!(
                "--transparent: clients of {path} have no IP address; leave --transparent out"
            ));
        }
    }
    let seen = |backend: SocketAddr| {
        config.listen.iter().any(
            |listen| matches!(listen, Endpoint::Inet(listen) if is_of_clients(listen.ip(), backend.ip())),
        )
    };
    for endpoint in config.backends.iter().map(|backend| &backend.endpoint) {
        match endpoint {
            Endpoint::Unix(path) => {
                return Err(format!(
                    "backend {}: a Unix socket cannot see the client's address; leave --transparent out, or use \
                     --proxy-protocol",
                    path.display()
                ));
            }
            Endpoint::Inet(backend) if !seen(*backend) => {
                let (own, clients) = if backend.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
                return Err(format!(
                    "backend {backend} is {own} and clients are {clients}, so it cannot see their addresses; use an \
                     {clients} address, or leave --transparent out"
                ));
            }
            Endpoint::Inet(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use crate::cli::{Cli, Command};

    /// What is said of `pen-ctl proxy` with these words; `--transparent` without asking whether this process may.
    fn told(words: &str) -> Result<(), String> {
        let plain = words.replace(" --transparent", "");
        let words_of = ["pen-ctl", "proxy"].into_iter().chain(plain.split(' '));
        let Command::Proxy(args) = Cli::try_parse_from(words_of).unwrap().command else { panic!() };
        let mut config = args.config().unwrap();
        config.settings.transparent = plain != words;
        check(&config)
    }

    #[track_caller]
    fn refused(words: &str, why: &str) {
        let error = told(words).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn backends_are_servers_and_each_is_one() {
        refused("8080 0.0.0.0:80", "backend 0.0.0.0:80 is the unspecified address");
        refused("8080 255.255.255.255:80", "is the broadcast address");
        refused("8080 224.0.0.1:80", "is a multicast address");
        refused("8080 [::]:80", "is the unspecified address");
        refused("8080 10.0.0.11:80 --emergency 0.0.0.0:80", "is the unspecified address");
        refused("8080 10.0.0.11:80 10.0.0.12:80 10.0.0.11:80", "backend 10.0.0.11:80 is there twice");
        refused("8080 10.0.0.11 10.0.0.11:8080", "backend 10.0.0.11:8080 is there twice");
        refused("8080 10.0.0.11:80 --emergency 10.0.0.11:80", "is there twice");
        refused("8080 /run/a.sock /run/a.sock", "backend /run/a.sock is there twice");
        refused("224.0.0.1:80 10.0.0.11:80", "listen on 224.0.0.1:80: that is a multicast address");
        for fine in ["8080 127.0.0.1:80 127.0.0.1:81 [::1]:80", "127.0.0.1:80 10.0.0.11", "[::]:80 10.0.0.11"]
        {
            assert_eq!(told(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn transparent_takes_backends_that_can_see_the_clients_addresses() {
        refused("127.0.0.1:80 [2001:db8::1]:80 --transparent", "is IPv6 and clients are IPv4");
        refused("127.0.0.1:80 10.0.0.11 [2001:db8::1]:80 --transparent", "is IPv6 and clients are IPv4");
        refused("[::1]:80 10.0.0.11:80 --transparent", "is IPv4 and clients are IPv6");
        refused("/run/a.sock 10.0.0.11:80 --transparent", "clients of /run/a.sock have no IP address");
        refused("80 /run/a.sock --transparent", "backend /run/a.sock: a Unix socket cannot see");
        // Clients of both families come to a port of every address.
        assert_eq!(told("80 10.0.0.11 [2001:db8::1]:80 --transparent"), Ok(()));
    }
}
