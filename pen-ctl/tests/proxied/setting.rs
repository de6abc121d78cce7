//! The same setting for many tests: `web` over TCP and `dns` over UDP, three backends each, and clients of both.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::load::{Client, Way};
use crate::place::{HEALTH, Pen};
use crate::servers::Server;

/// Where `web` is.
pub(crate) fn web(pen: &Pen) -> SocketAddr {
    pen.at(1, 8080)
}

/// Where `dns` is.
pub(crate) fn dns(pen: &Pen) -> SocketAddr {
    pen.at(1, 5353)
}

/// Where backend N listens, for both.
pub(crate) fn backend(pen: &Pen, number: u8) -> SocketAddr {
    pen.at(200 + number, 9000)
}

/// Servers of both at backend N.
pub(crate) fn servers(pen: &Pen, number: u8) -> [Server; 2] {
    let at = backend(pen, number);
    [Server::tcp(number, at), Server::udp(number, at)]
}

/// A configuration with both services, each with these backends (number and weight), and these words for each service.
pub(crate) fn configuration(pen: &Pen, backends: &[(u8, u16)], words: &str) -> String {
    let mut text = "dataplane = \"proxy\"\n".to_owned();
    let health: Vec<_> = HEALTH.split(',').skip(1).filter_map(|word| word.split_once('=')).collect();
    let health =
        health.iter().fold("kind = \"tcp\"".to_owned(), |all, (key, value)| match value.parse::<u32>() {
            Ok(number) => format!("{all}, {key} = {number}"),
            Err(_) => format!("{all}, {key} = \"{value}\""),
        });
    for (name, vip) in [("web", format!("{}/tcp", web(pen))), ("dns", format!("{}/udp", dns(pen)))] {
        let _ = writeln!(
            text,
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nhealth = {{ {health} }}\n{words}"
        );
        let all: String = backends
            .iter()
            .map(|(number, weight)| {
                format!("  {{ address = \"{}\", weight = {weight} }},\n", backend(pen, *number))
            })
            .collect();
        let _ = writeln!(text, "backend = [\n{all}]");
    }
    text
}

/// Pen runs with this file, and all three backends of both services serve.
pub(crate) fn start(pen: &mut Pen, text: &str) -> (u32, Vec<[Server; 2]>) {
    let servers = [1, 2, 3].map(|number| servers(pen, number)).into();
    let file = pen.write("pen.toml", text);
    let pid = pen.start(&format!("--dataplane proxy -c {file}"));
    await_all(pen, &[1, 2, 3]);
    (pid, servers)
}

/// Waits until exactly these serve both.
#[track_caller]
pub(crate) fn await_all(pen: &Pen, numbers: &[u8]) {
    let backends: Vec<_> = numbers.iter().map(|number| backend(pen, *number)).collect();
    for service in ["web", "dns"] {
        pen.await_serving(service, &backends);
    }
}

/// Clients of every kind, each with an address of its own.
pub(crate) fn clients(pen: &Pen) -> Vec<Client> {
    let client = |host: u8| {
        let (way, to) = match host % 4 {
            0 => (Way::New, web(pen)),
            1 => (Way::Kept, web(pen)),
            2 => (Way::Udp, dns(pen)),
            _ => (Way::UdpNewPort, dns(pen)),
        };
        (way, pen.ip(host).into(), to)
    };
    (10..34).map(client).collect()
}
