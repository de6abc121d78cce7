//! What passes, and that it passes whole, both ways, to and from the right addresses.

use std::os::fd::AsFd;

use super::*;

/// Every pair of address families, and several and late answers of one query.
#[test]
fn answers_reach_the_client_from_where_it_sent_to() {
    for vip in [V4, V6] {
        for backend in [V4, V6] {
            let server = socket(backend);
            let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
            let client = client(driver.listen(vip));
            client.send(b"query").unwrap();
            let (query, session) = driver.receive(&server);
            assert_eq!(query, b"query");
            for answer in [b"first".as_slice(), b"second", b""] {
                server.send_to(answer, session).unwrap();
                assert_eq!(driver.receive(&client).0, answer);
            }
            driver.now += IDLE - Duration::from_secs(1);
            driver.round(Duration::ZERO);
            server.send_to(b"late", session).unwrap();
            assert_eq!(driver.receive(&client).0, b"late");
            assert_eq!(driver.backends.answered, [0], "counted once for a session");
            assert_eq!(driver.udp.counters().answered, 4);
            assert_eq!(driver.backends.carried, (5, 15));
        }
    }
}

/// On a socket bound to all addresses, each answer leaves from the one that the client sent to (a connected client
/// hears nothing else), and the same client port at two addresses is two sessions.
#[test]
fn wildcard_listener_answers_from_the_address_sent_to() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let port = driver.listen(Ipv4Addr::UNSPECIFIED.into()).port();
    for last in 2..20 {
        let client = client((Ipv4Addr::new(127, 1, 2, last), port).into());
        client.send(&[last]).unwrap();
        let (query, session) = driver.receive(&server);
        server.send_to(&query, session).unwrap();
        assert_eq!(driver.receive(&client).0, [last]);
    }
    let client = socket(V4);
    for last in [100, 200] {
        let to = SocketAddr::from((Ipv4Addr::new(127, 1, 2, last), port));
        client.send_to(b"query", to).unwrap();
        let (query, session) = driver.receive(&server);
        server.send_to(&query, session).unwrap();
        assert_eq!(driver.receive(&client).1, to);
    }
    assert_eq!(driver.udp.sessions(), 20);
}

/// One socket for all addresses of both families; what is asked for a backend is the address that the client has.
#[test]
fn wildcard_listener_serves_both_families() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let port = driver.listen(Ipv6Addr::UNSPECIFIED.into()).port();
    for to in [V6, IpAddr::V4(Ipv4Addr::new(127, 1, 2, 3))] {
        let client = client((to, port).into());
        client.send(b"query").unwrap();
        let (query, session) = driver.receive(&server);
        server.send_to(&query, session).unwrap();
        assert_eq!(driver.receive(&client).0, b"query");
        assert_eq!(driver.backends.clients.last(), Some(&client.local_addr().unwrap()));
    }
}

/// Each length arrives as it was, the empty datagram and the largest one included, both ways.
#[test]
fn every_length_passes_whole() {
    let server = socket(V6);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let client = client(driver.listen(V4));
    for length in [0, 1, 512, 1472, 1473, 9000, 65_506, 65_507] {
        let sent: Vec<u8> = (0..length).map(|at: usize| (at % 251) as u8).collect();
        client.send(&sent).unwrap();
        let (query, session) = driver.receive(&server);
        assert!(query == sent, "{length} bytes to the backend");
        server.send_to(&query, session).unwrap();
        assert!(driver.receive(&client).0 == sent, "{length} bytes to the client");
    }
}

/// An answer that IPv6 can carry and IPv4 cannot is dropped and counted, and nothing else is.
#[test]
fn datagram_too_big_for_the_other_family_is_counted() {
    let server = socket(V6);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let client = client(driver.listen(V4));
    client.send(b"query").unwrap();
    let (_, session) = driver.receive(&server);
    server.send_to(&[1; 65_520], session).unwrap();
    server.send_to(b"small", session).unwrap();
    assert_eq!(driver.receive(&client).0, b"small");
    assert_eq!(driver.udp.counters().dropped, Dropped { too_big: 1, ..Dropped::default() });
    assert_eq!(driver.backends.failed, [0; 0]);
}

/// Datagrams of many clients, interleaved, each in the order in which it was sent.
#[test]
fn order_of_each_client_is_kept() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let to = driver.listen(V4);
    let clients: Vec<UdpSocket> = (0..10).map(|_| client(to)).collect();
    for number in 0..10 {
        for (index, client) in clients.iter().enumerate() {
            client.send(&[index as u8, number]).unwrap();
        }
    }
    let mut seen = [0; 10];
    for _ in 0..100 {
        let (query, session) = driver.receive(&server);
        assert_eq!(query[1], seen[usize::from(query[0])]);
        seen[usize::from(query[0])] += 1;
        server.send_to(&query, session).unwrap();
    }
    for (index, client) in clients.iter().enumerate() {
        for number in 0..10 {
            assert_eq!(driver.receive(client).0, [index as u8, number]);
        }
    }
}

/// What a client's kernel joined into one (GSO) arrives as the datagrams it was, both ways, and counts as them.
#[cfg(target_os = "linux")]
#[test]
fn joined_datagrams_stay_what_they_were() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let client = client(driver.listen(V4));
    let contents: Vec<u8> = (0..10_500).map(|at| (at / 1000) as u8).collect();
    let segments = |to| sys::Outgoing { before: &[], contents: &contents, segment: 1000, to, from: None };
    sys::send(client.as_fd(), std::iter::once(segments(None))).unwrap();
    let queries: Vec<_> = (0..11).map(|_| driver.receive(&server)).collect();
    assert_eq!(driver.udp.counters().forwarded, 11);
    sys::send(server.as_fd(), std::iter::once(segments(Some(queries[0].1)))).unwrap();
    for (query, part) in queries.iter().zip(contents.chunks(1000)) {
        assert_eq!(query.0, part);
        assert_eq!(driver.receive(&client).0, part);
    }
    let counters = driver.udp.counters();
    assert_eq!((counters.received, counters.answers, counters.answered), (11, 11, 11));
}
