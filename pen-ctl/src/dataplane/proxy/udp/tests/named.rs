//! Datagrams that say whom they speak for.

use super::*;
use crate::dataplane::proxy::preface::{self, Preface, Transport, Version};

/// What a listed sender sends for that client.
fn named(client: u16, payload: &[u8]) -> Vec<u8> {
    let preface = Preface { source: who(client), destination: "192.0.2.80:53".parse().unwrap() };
    let mut datagram = Vec::new();
    preface::write(Version::V2, Transport::Datagram, Some(preface), &mut datagram);
    datagram.extend_from_slice(payload);
    datagram
}

fn who(client: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], client))
}

/// A driver with one listener, where all of 127.0.0.1 speaks for others.
fn driver(config: Config, server: &UdpSocket) -> (Driver, SocketAddr) {
    let mut driver = Driver::new(config, &[server.local_addr().unwrap()]);
    let to = driver.listen(V4);
    driver.udp.set_speakers(0, &["127.0.0.1/32".parse().unwrap()]);
    (driver, to)
}

/// Each client that one sender names has a session of its own, and all answers go to that sender, bare.
#[test]
fn clients_of_one_sender_are_told_apart_and_its_answers_come_back_to_it() {
    let server = socket(V4);
    let (mut driver, to) = driver(Config::default(), &server);
    let sender = client(to);
    let mut sessions = Vec::new();
    for round in [b"first".as_slice(), b"again"] {
        for number in 1..=3 {
            sender.send(&named(number, round)).unwrap();
            let (query, session) = driver.receive(&server);
            assert_eq!(query, round);
            sessions.push(session);
            server.send_to(b"answer", session).unwrap();
            assert_eq!(driver.receive(&sender).0, b"answer");
        }
    }
    assert_eq!(sessions[..3], sessions[3..]);
    assert_eq!(driver.udp.sessions(), 3);
    assert_eq!(
        driver.backends.clients,
        [who(1), who(2), who(3)],
        "they are chosen for by their own addresses"
    );
}

/// A header that names nobody leaves the sender a client like others.
#[test]
fn a_sender_that_speaks_for_nobody_is_the_client() {
    let server = socket(V4);
    let (mut driver, to) = driver(Config::default(), &server);
    let sender = client(to);
    let mut datagram = Vec::new();
    preface::write(Version::V2, Transport::Datagram, None, &mut datagram);
    datagram.extend_from_slice(b"probe");
    sender.send(&datagram).unwrap();
    assert_eq!(driver.receive(&server).0, b"probe");
    assert_eq!(driver.backends.clients, [sender.local_addr().unwrap()]);
}

/// Of whom a sender names it is asked whether they may; the sender itself is trusted.
#[test]
fn whoever_is_named_must_be_let_in() {
    let server = socket(V4);
    let (mut driver, to) = driver(Config::default(), &server);
    let sender = client(to);
    driver.backends.refused.extend([1, sender.local_addr().unwrap().port()]);
    sender.send(&named(1, b"refused")).unwrap();
    sender.send(&named(2, b"query")).unwrap();
    assert_eq!(driver.receive(&server).0, b"query");
    let mut for_itself = Vec::new();
    preface::write(Version::V2, Transport::Datagram, None, &mut for_itself);
    sender.send(&[for_itself, b"probe".to_vec()].concat()).unwrap();
    assert_eq!(driver.receive(&server).0, b"probe");
    assert_eq!((driver.backends.denied, driver.udp.sessions()), (1, 2));
}

/// What has no whole header does not reach a backend, and is counted; others are not asked for one.
#[test]
fn what_names_nobody_is_dropped_where_it_must() {
    let server = socket(V4);
    let (mut driver, to) = driver(Config::default(), &server);
    let sender = client(to);
    let whole = named(1, b"");
    for wrong in [b"query".as_slice(), b"", &whole[..whole.len() - 1], b"PROXY UNKNOWN\r\nquery"] {
        sender.send(wrong).unwrap();
    }
    driver.until(|driver| driver.udp.counters().dropped.no_preface == 4);
    assert_eq!((driver.backends.turned_away, driver.udp.sessions()), (4, 0));
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    for payload in [b"query".to_vec(), named(1, b"query")] {
        other.send_to(&payload, to).unwrap();
        assert_eq!(driver.receive(&server).0, payload, "untouched");
    }
    assert_eq!(driver.udp.counters().dropped, Dropped { no_preface: 4, ..Dropped::default() });
}

/// Backends hear of the client that was named and of where it sent to, not of the sender.
#[test]
fn what_was_named_is_passed_on() {
    let server = socket(V4);
    let (mut driver, to) = driver(Config::default(), &server);
    driver.backends.manner = Manner { preface: true, ..Manner::default() };
    let sender = client(to);
    for payload in [b"one".as_slice(), b"two"] {
        let sent = named(7, payload);
        sender.send(&sent).unwrap();
        assert_eq!(driver.receive(&server).0, sent);
    }
}

/// The kernel joins what one sender sends at once (GSO, GRO), for whomever: each datagram has a header of its own.
#[cfg(target_os = "linux")]
#[test]
fn joined_datagrams_each_name_their_own_client() {
    use std::os::fd::AsFd;

    let server = socket(V4);
    // The smallest table: a batch may name more clients than have room.
    let (mut driver, to) = driver(Config { max_sessions: BATCH, ..Config::default() }, &server);
    let sender = client(to);
    let mut sent = 0u16;
    for _ in 0..4 {
        let datagrams: Vec<Vec<u8>> =
            (sent..sent + 50).map(|number| named(number, &number.to_be_bytes())).collect();
        let (contents, segment) = (datagrams.concat(), datagrams[0].len() as u16);
        let joined = sys::Outgoing { before: &[], contents: &contents, segment, to: None, from: None };
        sys::send(sender.as_fd(), std::iter::once(joined)).unwrap();
        sent += 50;
    }
    for number in 0..sent {
        assert_eq!(driver.receive(&server).0, number.to_be_bytes());
    }
    let clients: Vec<SocketAddr> = (0..sent).map(who).collect();
    assert_eq!(driver.backends.clients, clients);
    assert_eq!(driver.udp.counters().dropped, Dropped::default());
}
