//! Backends are told who the client is, in front of what it sends: PROXY protocol, versions 1 and 2.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pen_ctl::dataplane::Protocol;
use pen_ctl::dataplane::proxy::preface::Version;
use pen_ctl::dataplane::proxy::single::{Config, Single};

use crate::place::{PATIENCE, address, connect, nobody, serve_on, silent, turns, with};
use crate::udp;

pub(crate) const V4: &str = "127.0.0.1:0";
pub(crate) const V6: &str = "[::1]:0";

/// A backend that gives all that a connection says, once it has ended.
pub(crate) fn recorder(on: &str) -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind(on).unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = channel();
    serve_on(listener, move |mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = heard.send(all);
    });
    (address, hears)
}

/// The header as the specification writes it, made by hand.
pub(crate) fn header(version: Version, udp: bool, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    if version == Version::V1 {
        let family = if from.is_ipv4() { 4 } else { 6 };
        let line = format!("PROXY TCP{family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        return line.into_bytes();
    }
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    header.push(if from.is_ipv4() { 0x10 } else { 0x20 } + if udp { 2 } else { 1 });
    header.extend(if from.is_ipv4() { [0, 12] } else { [0, 36] });
    for end in [from, to] {
        match end.ip() {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    header.extend([from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
    header
}

/// Says something at once and nothing more; gives what the backend must hear.
fn speak(proxy: &Single, version: Version, words: &[u8]) -> Vec<u8> {
    let mut client = connect(proxy);
    client.write_all(words).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let expected = [&header(version, false, client.local_addr().unwrap(), address(proxy)), words].concat();
    let _ = client.read(&mut [0]);
    expected
}

fn listening(mut config: Config, on: &str, version: Version) -> Config {
    config.listen = vec![pen_ctl::dataplane::proxy::endpoint::Endpoint::Inet(on.parse().unwrap())];
    with(config, |settings| settings.proxy_protocol = Some(version))
}

#[test]
fn the_client_and_the_address_it_came_to_are_told_in_front_of_its_words_whatever_the_families() {
    for version in [Version::V1, Version::V2] {
        for (on, behind) in [(V4, V4), (V6, V6), (V4, V6), (V6, V4)] {
            let (backend, hears) = recorder(behind);
            let proxy = Single::start(listening(turns(&[backend]), on, version)).unwrap();
            for words in [b"hello".as_slice(), b"", &[7; 100_000]] {
                let expected = speak(&proxy, version, words);
                let heard = hears.recv_timeout(PATIENCE).unwrap();
                assert!(heard == expected, "{version:?} {on} {behind} {}", words.len());
            }
        }
    }
}

#[test]
fn a_client_of_ipv4_on_a_socket_for_both_families_is_told_as_one() {
    for version in [Version::V1, Version::V2] {
        let (backend, hears) = recorder(V4);
        let proxy = Single::start(listening(turns(&[backend]), "[::]:0", version)).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], address(&proxy).port()));
        let client = std::net::TcpStream::connect(to).unwrap();
        let from = client.local_addr().unwrap();
        drop(client);
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), header(version, false, from, to));
    }
}

#[test]
fn the_header_comes_once_and_first_though_other_backends_failed_before() {
    for version in [Version::V1, Version::V2] {
        let (backend, hears) = recorder(V4);
        let (mute, _kept) = silent();
        let config = listening(turns(&[nobody(), mute, backend]), V4, version);
        let config = with(config, |settings| settings.connect_timeout = Duration::from_millis(200));
        let proxy = Single::start(config).unwrap();
        let expected = speak(&proxy, version, b"hello");
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), expected);
        let statistics = proxy.statistics();
        assert_eq!(statistics.backends[..2].iter().map(|one| one.totals.failures).sum::<u64>(), 2);
    }
}

#[test]
fn every_datagram_tells_the_client_whatever_the_families() {
    for (on, behind) in [(V4, V4), (V6, V6), (V4, V6), (V6, V4)] {
        let backend = UdpSocket::bind(behind).unwrap();
        backend.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = listening(turns(&[backend.local_addr().unwrap()]), on, Version::V2);
        let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
        let client = udp::client(&proxy);
        let told = header(Version::V2, true, client.local_addr().unwrap(), address(&proxy));
        for words in [b"one".as_slice(), b"", b"three"] {
            client.send(words).unwrap();
            let mut heard = [0; 128];
            let (length, session) = backend.recv_from(&mut heard).unwrap();
            assert_eq!(heard[..length], [&told, words].concat(), "{on} {behind}");
            backend.send_to(b"answer", session).unwrap();
            let length = client.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"answer", "answers have none");
        }
    }
}
