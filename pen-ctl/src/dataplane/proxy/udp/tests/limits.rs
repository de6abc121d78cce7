//! Many sessions, too many sessions, and idle ones.

use std::collections::HashMap;
use std::process::Command;

use super::*;

/// Sends one query from each of that many client sockets and answers it; returns the clients.
fn query_each(driver: &mut Driver, to: SocketAddr, server: &UdpSocket, clients: usize) -> Vec<UdpSocket> {
    let clients: Vec<UdpSocket> = (0..clients).map(|_| client(to)).collect();
    for client in &clients {
        client.send(b"query").unwrap();
        let (query, session) = driver.receive(server);
        server.send_to(&query, session).unwrap();
        driver.receive(client);
    }
    clients
}

/// Idle sessions end, not before their time, and give their sockets back.
#[test]
fn idle_sessions_end() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let to = driver.listen(V4);
    let started = driver.now;
    let _clients = query_each(&mut driver, to, &server, 600);
    driver.now = started + IDLE - Duration::from_secs(1);
    driver.round(Duration::ZERO);
    assert_eq!(driver.udp.sessions(), 600);
    assert_eq!(Rc::strong_count(&driver.backends.places), 601);
    driver.now = started + IDLE;
    let mut due = driver.udp.finish(&mut driver.backends, driver.now);
    assert_eq!(due, Some(driver.now), "more than one turn's worth");
    while due.is_some() {
        due = driver.udp.finish(&mut driver.backends, driver.now);
    }
    assert_eq!((driver.udp.sessions(), driver.udp.counters().expired), (0, 600));
    assert_eq!(Rc::strong_count(&driver.backends.places), 1);
}

/// The bound holds, and newcomers are served at the cost of the oldest.
#[test]
fn oldest_session_gives_way() {
    let server = socket(V4);
    let config = Config { max_sessions: 100, ..Config::default() };
    let mut driver = Driver::new(config, &[server.local_addr().unwrap()]);
    let to = driver.listen(V4);
    let oldest = client(to);
    oldest.send(b"query").unwrap();
    let (_, before) = driver.receive(&server);
    let _clients = query_each(&mut driver, to, &server, 99);
    assert_eq!(driver.udp.counters().evicted, 0);
    let _more = query_each(&mut driver, to, &server, 10);
    assert_eq!((driver.udp.sessions(), driver.udp.counters().evicted), (100, 10));
    oldest.send(b"query").unwrap();
    let (_, after) = driver.receive(&server);
    assert_ne!(before, after, "it has a new session");
}

/// Ten thousand flows at once, each with a session of its own: a hundred clients at a hundred of our addresses.
#[test]
fn ten_thousand_flows_just_work() {
    const EACH: u8 = 100;
    const FLOWS: usize = 10_000;
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let port = driver.listen(Ipv4Addr::UNSPECIFIED.into()).port();
    let clients: Vec<UdpSocket> = (0..EACH).map(|_| socket(V4)).collect();
    for round in 1..=2 {
        let mut answers: HashMap<(usize, SocketAddr), Vec<u8>> = HashMap::new();
        for last in 1..=EACH {
            let to = SocketAddr::from((Ipv4Addr::new(127, 9, 9, last), port));
            for client in &clients {
                client.send_to(&[last, round], to).unwrap();
            }
            let all = usize::from(last) * clients.len();
            driver.until(|_| {
                echo(&server);
                for (number, client) in clients.iter().enumerate() {
                    answers.extend(
                        std::iter::from_fn(|| take(client)).map(|(answer, from)| ((number, from), answer)),
                    );
                }
                answers.len() == all
            });
        }
        for ((_, from), answer) in &answers {
            let IpAddr::V4(from) = from.ip() else { panic!("{from}") };
            assert_eq!(*answer, [from.octets()[3], round]);
        }
    }
    let counters = driver.udp.counters();
    assert_eq!((driver.udp.sessions(), counters.opened, counters.evicted), (FLOWS, FLOWS as u64, 0));
    assert_eq!(counters.dropped, Dropped::default());
}

/// Without a file descriptor left, newcomers are served all the same and the oldest sessions end.
#[test]
fn running_out_of_descriptors_ends_the_oldest() {
    let own = std::env::current_exe().unwrap();
    let name = concat!(module_path!(), "::few_descriptors");
    let name = name.split_once("::").unwrap().1;
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 80 && exec \"$0\" --ignored --exact \"$1\""]).arg(own).arg(name);
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run in a process of its own, with few file descriptors"]
fn few_descriptors() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let port = driver.listen(Ipv4Addr::UNSPECIFIED.into()).port();
    let client = socket(V4);
    for last in 1..=200 {
        client.send_to(&[last], (Ipv4Addr::new(127, 9, 9, last), port)).unwrap();
        let (query, session) = driver.receive(&server);
        server.send_to(&query, session).unwrap();
        assert_eq!(driver.receive(&client).0, [last]);
    }
    let counters = driver.udp.counters();
    assert!(counters.evicted > 100 && driver.udp.sessions() as u64 == 200 - counters.evicted, "{counters:?}");
    assert_eq!(counters.dropped, Dropped::default());
}

fn echo(server: &UdpSocket) {
    while let Some((query, session)) = take(server) {
        server.send_to(&query, session).unwrap();
    }
}

/// Who may not use the service gets no session, so that nobody loses theirs to them.
#[test]
fn who_may_not_gets_no_session() {
    let server = socket(V4);
    let mut driver = Driver::new(Config::default(), &[server.local_addr().unwrap()]);
    let to = driver.listen(V4);
    let (refused, welcome) = (client(to), client(to));
    driver.backends.refused.push(refused.local_addr().unwrap().port());
    (0..3).for_each(|_| _ = refused.send(b"query").unwrap());
    welcome.send(b"hello").unwrap();
    assert_eq!(driver.receive(&server).0, b"hello");
    driver.until(|driver| driver.backends.denied == 3);
    assert_eq!((driver.udp.sessions(), driver.backends.opened, driver.backends.turned_away), (1, 1, 0));
    assert_eq!(driver.udp.counters().dropped, Dropped { denied: 3, ..Dropped::default() });
}
