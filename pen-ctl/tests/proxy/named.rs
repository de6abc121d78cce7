//! Clients that speak for others say for whom before anything else: PROXY protocol, accepted from listed sources.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use pen_ctl::dataplane::proxy::preface::Version;
use pen_ctl::dataplane::proxy::single::{Config, Single};
use pen_ctl::dataplane::{AccessList, Protocol, Scheduler, Tracking};

use crate::place::{PATIENCE, address, config, connect, connect_from, echo, eventually, name, turns, with};
use crate::told::{V4, V6, header, recorder};
use crate::udp;

/// The same where 127.0.0.1 speaks for others.
fn trusting(config: Config) -> Config {
    with(config, |settings| settings.proxy_protocol_from = vec!["127.0.0.1/32".parse().unwrap()])
}

/// A client of some other network, and where it went to.
fn ends(host: u8) -> (SocketAddr, SocketAddr) {
    (SocketAddr::from(([127, 0, 0, host], 4711)), "192.0.2.1:80".parse().unwrap())
}

/// All kinds of header there are for a client.
fn headers() -> Vec<Vec<u8>> {
    let (from, to) = ends(9);
    let (from6, to6) = ("[2001:db8::9]:4711".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap());
    let of = |version| [header(version, false, from, to), header(version, false, from6, to6)];
    [of(Version::V1), of(Version::V2)].concat()
}

#[test]
fn a_header_is_understood_though_it_comes_one_byte_at_a_time_and_its_backend_never_sees_it() {
    let (backend, hears) = recorder(V4);
    let proxy = Single::start(trusting(turns(&[backend]))).unwrap();
    for header in headers() {
        let mut client = connect(&proxy);
        client.set_nodelay(true).unwrap();
        for byte in header {
            client.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        client.write_all(b"payload").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"payload");
    }
}

#[test]
fn who_is_named_must_be_let_in_and_who_names_them_is_trusted() {
    let (backend, hears) = recorder(V4);
    let list = |text: &str| [text.parse().unwrap()].into_iter().collect();
    let access = AccessList { allow: list("127.0.0.0/24"), deny: list("127.0.0.1/32") };
    let config = with(trusting(turns(&[backend])), |settings| settings.access = access);
    let proxy = Single::start(config).unwrap();
    let speak = |words: &[u8]| {
        let mut client = connect(&proxy);
        client.write_all(&[words, b"payload"].concat()).unwrap();
        client
    };
    let (from, to) = ends(9);
    for header in [header(Version::V2, false, from, to), b"PROXY UNKNOWN\r\n".to_vec()] {
        speak(&header).shutdown(Shutdown::Write).unwrap();
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"payload");
    }
    let elsewhere = "192.0.2.9:4711".parse().unwrap();
    let mut refused = speak(&header(Version::V2, false, elsewhere, to));
    assert_eq!(refused.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(hears.try_recv().is_err());
}

#[test]
fn words_that_come_along_with_the_header_are_the_clients_first() {
    let (backend, hears) = recorder(V4);
    let proxy = Single::start(trusting(turns(&[backend]))).unwrap();
    for header in headers() {
        for length in [0, 1, 200_000] {
            let words: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut client = connect(&proxy);
            client.write_all(&[header.clone(), words.clone()].concat()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert!(hears.recv_timeout(PATIENCE).unwrap() == words, "{length} bytes");
        }
    }
}

#[test]
fn who_says_nothing_or_half_of_it_is_turned_away_in_time() {
    let (backend, hears) = recorder(V4);
    let config = trusting(turns(&[backend]));
    let proxy = Single::start(with(config, |settings| settings.connect_timeout = Duration::from_millis(200)))
        .unwrap();
    let mut half = headers();
    half.iter_mut().for_each(|header| header.truncate(header.len() / 2));
    half.push(Vec::new());
    for words in &half {
        let mut client = connect(&proxy);
        client.write_all(words).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(proxy.statistics().turned_away, half.len() as u64);
    assert!(hears.try_recv().is_err(), "no backend heard of them");
}

#[test]
fn who_says_something_else_or_ends_too_early_is_turned_away_at_once() {
    let (backend, hears) = recorder(V4);
    let config = trusting(turns(&[backend]));
    let proxy = Single::start(with(config, |settings| settings.connect_timeout = 10 * PATIENCE)).unwrap();
    let mut wrong = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 127.0.0.9 192.0.2.1 4711\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c".to_vec(),
    ];
    let spoken = wrong.len();
    wrong.push(headers()[0][..20].to_vec());
    for (number, words) in wrong.iter().enumerate() {
        let mut client = connect(&proxy);
        client.write_all(words).unwrap();
        if number >= spoken {
            client.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(proxy.statistics().turned_away, wrong.len() as u64);
    assert!(hears.try_recv().is_err(), "no backend heard of them");
}

#[test]
fn what_comes_together_with_the_header_is_counted_and_the_header_is_not() {
    let (backend, hears) = recorder(V4);
    let proxy = Single::start(trusting(turns(&[backend]))).unwrap();
    for header in headers() {
        let mut client = connect(&proxy);
        client.write_all(&[header, b"payload".to_vec()].concat()).unwrap();
        client.write_all(b" and more").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"payload and more");
    }
    let received = proxy.statistics().backends[0].totals.received;
    assert_eq!(received, (headers().len() * b"payload and more".len()) as u64);
}

#[test]
fn what_comes_from_other_sources_passes_untouched() {
    let (backend, hears) = recorder(V4);
    let proxy = Single::start(trusting(turns(&[backend]))).unwrap();
    for header in headers() {
        let mut client = connect_from([127, 0, 0, 2], &proxy);
        client.write_all(&header).unwrap();
        drop(client);
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), header);
    }
}

#[test]
fn a_client_gets_the_same_backend_whether_it_comes_itself_or_is_named() {
    let backends: Vec<SocketAddr> = (0..4).map(echo).collect();
    let proxy = Single::start(trusting(config(V4, &backends, Scheduler::Maglev, Tracking::Off))).unwrap();
    let mut seen = [0; 4];
    for host in 2..60 {
        let (from, to) = ends(host);
        let mut named = connect(&proxy);
        named.write_all(&header(Version::V2, false, from, to)).unwrap();
        let backend = name(&mut named);
        assert_eq!(backend, name(&mut connect_from([127, 0, 0, host], &proxy)));
        seen[usize::from(backend)] += 1;
    }
    assert!(seen.iter().all(|clients| *clients > 0), "{seen:?}");
}

#[test]
fn in_a_chain_the_last_one_tells_who_the_first_one_met() {
    for (outer, inner) in [(Version::V1, Version::V2), (Version::V2, Version::V1)] {
        let (backend, hears) = recorder(V6);
        let last = with(trusting(turns(&[backend])), |settings| settings.proxy_protocol = Some(inner));
        let last = Single::start(last).unwrap();
        let first = with(turns(&[address(&last)]), |settings| settings.proxy_protocol = Some(outer));
        let first = Single::start(first).unwrap();
        let mut client = connect(&first);
        client.write_all(b"hello").unwrap();
        let told = header(inner, false, client.local_addr().unwrap(), address(&first));
        drop(client);
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), [&told, b"hello".as_slice()].concat());
    }
}

#[test]
fn datagrams_name_their_client_through_a_chain_and_answers_find_back() {
    let (backend, to) = {
        let socket = UdpSocket::bind(V6).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    };
    let told = |config: Config| {
        let config = with(config, |settings| settings.proxy_protocol = Some(Version::V2));
        Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap()
    };
    let last = told(trusting(turns(&[to])));
    let first = told(turns(&[address(&last)]));
    let clients = [udp::client(&first), udp::client(&first)];
    for client in clients.iter().chain(&clients) {
        client.send(b"query").unwrap();
        let mut heard = [0; 128];
        let (length, session) = backend.recv_from(&mut heard).unwrap();
        let told = header(Version::V2, true, client.local_addr().unwrap(), address(&first));
        assert_eq!(heard[..length], [&told, b"query".as_slice()].concat());
        backend.send_to(b"answer", session).unwrap();
        let length = client.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"answer");
    }
}

#[test]
fn a_datagram_gets_the_backend_of_the_client_that_it_names_and_none_if_it_names_nobody() {
    let backends: Vec<SocketAddr> = (0..4).map(udp::echo).collect();
    let config = trusting(config(V4, &backends, Scheduler::Maglev, Tracking::Off));
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    let sender = udp::client(&proxy);
    sender.send(b"query").unwrap();
    eventually("it is dropped and counted", || proxy.statistics().turned_away == 1);
    let mut seen = [0; 4];
    for host in 2..60 {
        let (from, to) = ends(host);
        sender.send(&[&header(Version::V2, true, from, to), b"query".as_slice()].concat()).unwrap();
        let mut answer = [0; 16];
        assert_eq!(sender.recv(&mut answer).unwrap(), 6, "one answer, without a header");
        let itself = UdpSocket::bind(SocketAddr::new(IpAddr::from([127, 0, 0, host]), 0)).unwrap();
        itself.set_read_timeout(Some(PATIENCE)).unwrap();
        itself.connect(address(&proxy)).unwrap();
        assert_eq!(answer[0], udp::ask(&itself));
        seen[usize::from(answer[0])] += 1;
    }
    assert!(seen.iter().all(|clients| *clients > 0), "{seen:?}");
    assert_eq!(proxy.statistics().turned_away, 1);
}

#[test]
fn whoever_is_listed_is_listed_on_a_socket_for_both_families_too() {
    let (backend, hears) = recorder(V4);
    let mut config = trusting(turns(&[backend]));
    config.listen = vec![pen_ctl::dataplane::proxy::endpoint::Endpoint::Inet("[::]:0".parse().unwrap())];
    let proxy = Single::start(config).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", address(&proxy).port())).unwrap();
    client.write_all(&[&headers()[0], b"payload".as_slice()].concat()).unwrap();
    drop(client);
    assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"payload");
}
