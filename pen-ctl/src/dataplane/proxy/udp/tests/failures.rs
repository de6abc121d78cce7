//! Backends that are dead, die or fall silent.

use super::*;

/// The client asks once: what a dead backend did not take goes to the next one, over IPv4 and IPv6.
#[test]
fn refused_datagram_goes_to_the_next_backend() {
    for family in [V4, V6] {
        let server = socket(family);
        let dead = [closed(family), closed(family)];
        let mut driver = Driver::new(Config::default(), &[dead[0], dead[1], server.local_addr().unwrap()]);
        let client = client(driver.listen(V4));
        client.send(b"query").unwrap();
        let (query, session) = driver.receive(&server);
        assert_eq!(query, b"query");
        server.send_to(b"answer", session).unwrap();
        assert_eq!(driver.receive(&client).0, b"answer");
        assert_eq!(driver.backends.failed, [0, 1]);
        let counters = driver.udp.counters();
        assert_eq!((counters.failures, counters.resent, counters.opened), (2, 2, 1));
        assert_eq!(counters.dropped, Dropped::default());
    }
}

/// A backend that dies between two queries of a client costs none of them.
#[test]
fn client_moves_when_its_backend_dies() {
    let (first, second) = (socket(V4), socket(V4));
    let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
    let mut driver = Driver::new(Config::default(), &addresses);
    let client = client(driver.listen(V4));
    client.send(b"one").unwrap();
    let (_, session) = driver.receive(&first);
    first.send_to(b"answer", session).unwrap();
    driver.receive(&client);
    drop(first);
    for query in [b"two".as_slice(), b"three"] {
        client.send(query).unwrap();
        let (received, session) = driver.receive(&second);
        assert_eq!(received, query);
        second.send_to(b"answer", session).unwrap();
        driver.receive(&client);
    }
    assert_eq!(driver.backends.failed, [0]);
    assert_eq!(driver.udp.sessions(), 1);
}

/// All are dead: every one is tried once for each datagram, it is counted, and the first that is back is found.
#[test]
fn only_backend_is_tried_again_after_it_failed() {
    let address = closed(V4);
    let mut driver = Driver::new(Config::default(), &[address, closed(V4)]);
    let client = client(driver.listen(V4));
    for round in 1..4 {
        client.send(b"lost").unwrap();
        driver.until(|driver| driver.udp.counters().dropped.no_backend == round);
        assert_eq!(driver.udp.counters().failures, 2 * round);
    }
    let server = UdpSocket::bind(address).unwrap();
    server.set_nonblocking(true).unwrap();
    // Whichever of the two failed last, the datagram finds the one that lives.
    client.send(b"query").unwrap();
    assert_eq!(driver.receive(&server).0, b"query");
}

#[test]
fn nobody_to_choose_is_counted() {
    let mut driver = Driver::new(Config::default(), &[]);
    let client = client(driver.listen(V4));
    client.send(b"query").unwrap();
    driver.until(|driver| driver.udp.counters().dropped.no_backend == 1);
}

/// An address that the system refuses to send to counts at once, without any packet.
#[test]
fn unreachable_address_counts_as_failure() {
    let server = socket(V4);
    // Sending to the broadcast address takes SO_BROADCAST, else EACCES.
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
    let mut driver = Driver::new(Config::default(), &[nowhere, server.local_addr().unwrap()]);
    let client = client(driver.listen(V4));
    client.send(b"query").unwrap();
    assert_eq!(driver.receive(&server).0, b"query");
    assert_eq!(driver.backends.failed, [0]);
    assert_eq!(driver.backends.why, [Errno::ACCESS], "it is known why");
}

/// A backend that swallows everything is left, but only where backends answer at all, and it is no failure: one
/// client that asks nonsense could else take every backend out.
#[test]
fn silent_backend_is_left() {
    let (silent, server) = (socket(V4), socket(V4));
    let addresses = [silent.local_addr().unwrap(), server.local_addr().unwrap()];
    let config = Config { answer_timeout: Some(Duration::from_secs(5)), ..Config::default() };
    let mut driver = Driver::new(config, &addresses);
    let to = driver.listen(V4);
    let first = client(to);
    first.send(b"one").unwrap();
    driver.receive(&silent);
    driver.now += Duration::from_secs(6);
    first.send(b"two").unwrap();
    let (_, session) = driver.receive(&silent);
    assert_eq!(driver.udp.counters().silent, 0, "perhaps these never answer");
    silent.send_to(b"answer", session).unwrap();
    driver.receive(&first);
    for query in [b"three".as_slice(), b"four"] {
        first.send(query).unwrap();
        driver.receive(&silent);
        driver.now += Duration::from_secs(3);
    }
    first.send(b"five").unwrap();
    assert_eq!(driver.receive(&server).0, b"five");
    assert_eq!(driver.udp.counters().silent, 1);
    assert_eq!(driver.backends.failed, [0; 0]);
}

/// What a backend was asked before it was removed, it may answer; then its sessions end. It is asked nothing more.
#[test]
fn sessions_of_a_removed_backend_end_with_the_answer_that_they_wait_for() {
    let (removed, other) = (socket(V4), socket(V4));
    let mut driver = Driver::new(Config::default(), &[removed.local_addr().unwrap()]);
    let to = driver.listen(V4);
    let clients = [client(to), client(to), client(to)];
    let mut sessions = Vec::new();
    for client in &clients {
        client.send(b"query").unwrap();
        sessions.push(driver.receive(&removed).1);
    }
    // The first one is answered, the others wait.
    removed.send_to(b"answer", sessions[0]).unwrap();
    driver.receive(&clients[0]);
    driver.backends.addresses.push(other.local_addr().unwrap());
    assert_eq!(driver.udp.retain(|_, backend| *backend != 0, driver.now), 1);
    assert_eq!(driver.udp.sessions(), 2);
    removed.send_to(b"late", sessions[1]).unwrap();
    assert_eq!(driver.receive(&clients[1]).0, b"late");
    driver.until(|driver| driver.udp.sessions() == 1);
    driver.backends.addresses.swap(0, 1);
    clients[2].send(b"again").unwrap();
    assert_eq!(driver.receive(&other).0, b"again");
    // Who is never answered does not wait for ever.
    let late = driver.now + Duration::from_secs(6);
    assert_eq!(driver.udp.retain(|_, _| false, late), 1);
}

/// A backend that is back before it has answered is as if it had never been away.
#[test]
fn a_session_whose_backend_is_back_goes_on() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let to = driver.listen(V4);
    let client = client(to);
    client.send(b"query").unwrap();
    let session = driver.receive(&server).1;
    assert_eq!(driver.udp.retain(|_, _| false, driver.now), 0);
    assert_eq!(driver.udp.retain(|_, _| true, driver.now), 0);
    server.send_to(b"answer", session).unwrap();
    driver.receive(&client);
    client.send(b"another").unwrap();
    assert_eq!(driver.receive(&server), (b"another".to_vec(), session));
}
