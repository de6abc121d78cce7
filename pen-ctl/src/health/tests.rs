//! Checks against real sockets on loopback and, where nobody answers, in a namespace.

use std::net::{Ipv4Addr, TcpListener};

use super::*;
use crate::dataplane::Protocol;

const PATIENCE: Duration = Duration::from_secs(30);

fn probe(address: IpAddr, port: u16, initial: HealthStatus) -> Probe {
    let key = ServiceKey { address: Ipv4Addr::new(10, 0, 0, 100).into(), port: 80, protocol: Protocol::Tcp };
    let interval = Duration::from_millis(50);
    let check = Check::Tcp { port, interval, timeout: Duration::from_millis(200), rise: 2, fall: 3 };
    Probe { key, address, check, initial }
}

fn loopback(listener: &TcpListener, initial: HealthStatus) -> Probe {
    probe(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port(), initial)
}

async fn heard(events: &mut mpsc::Receiver<Event>) -> (HealthStatus, String) {
    match tokio::time::timeout(PATIENCE, events.recv()).await.expect("nothing heard").unwrap() {
        Event::Health { status, detail, .. } => (status, detail),
        other => panic!("{other:?}"),
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[tokio::test]
async fn a_verdict_is_told_once_with_its_reason_and_again_when_it_changes() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender);
    let server = listener();
    health.probe(vec![loopback(&server, HealthStatus::Unknown)]);
    let (status, detail) = heard(&mut events).await;
    assert_eq!(status, HealthStatus::Up);
    assert!(detail.starts_with("connected in ") && detail.ends_with(" ms"), "{detail}");

    let address = server.local_addr().unwrap();
    drop(server);
    assert_eq!(
        heard(&mut events).await,
        (HealthStatus::Up, "connection refused".into()),
        "fall is not reached"
    );
    assert_eq!(heard(&mut events).await, (HealthStatus::Down, "connection refused".into()));
    let _server = TcpListener::bind(address).unwrap();
    assert_eq!(heard(&mut events).await.0, HealthStatus::Down, "rise is not reached");
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);
}

#[tokio::test]
async fn checks_that_did_not_change_go_on_and_changed_ones_start_from_their_verdict() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender);
    let server = listener();
    let first = loopback(&server, HealthStatus::Unknown);
    health.probe(vec![first.clone()]);
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);

    health.probe(vec![Probe { initial: HealthStatus::Down, ..first.clone() }]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(events.try_recv().is_err(), "the same check: nothing is told again");

    drop(server);
    let Check::Tcp { port, interval, timeout, rise, .. } = first.check else { panic!() };
    let check = Check::Tcp { port, interval, timeout, rise, fall: 2 };
    health.probe(vec![Probe { check, ..first }]);
    let (mut last, mut count) = (heard(&mut events).await, 1);
    assert_eq!(last.0, HealthStatus::Up, "one failure is fewer than fall: it did not start from unknown");
    while last.0 == HealthStatus::Up {
        last = heard(&mut events).await;
        count += 1;
    }
    assert!(count <= 3, "told more often than something changed");

    health.probe(vec![]);
    while events.try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(events.try_recv().is_err(), "nothing is checked any more");
}

#[tokio::test]
async fn an_adopted_verdict_stands_until_checks_say_otherwise() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender);
    let server = listener();
    health.probe(vec![loopback(&server, HealthStatus::Down)]);
    assert_eq!(heard(&mut events).await.0, HealthStatus::Down);
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);
}

#[tokio::test]
async fn without_a_check_a_backend_is_up_at_once() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender);
    let check = Check::None;
    health.probe(vec![Probe { check, ..probe(Ipv4Addr::LOCALHOST.into(), 1, HealthStatus::Unknown) }]);
    assert_eq!(heard(&mut events).await, (HealthStatus::Up, "not checked".into()));
}

#[tokio::test]
async fn few_connections_suffice_for_many_backends() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::with_connections(sender, 2);
    let server = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let address = |n: u8| IpAddr::from([127, 0, 1, n]);
    health.probe((0..100).map(|n| probe(address(n), port, HealthStatus::Unknown)).collect());
    let mut up = std::collections::BTreeSet::new();
    while up.len() < 100 {
        match tokio::time::timeout(PATIENCE, events.recv()).await.expect("nothing heard").unwrap() {
            Event::Health { address, status: HealthStatus::Up, .. } => up.insert(address),
            other => panic!("{other:?}"),
        };
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn checks_leave_no_sockets_behind_and_no_connection_to_the_server() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender);
    let server = listener();
    server.set_nonblocking(true).unwrap();
    let port = server.local_addr().unwrap().port();
    health.probe(vec![loopback(&server, HealthStatus::Unknown)]);
    heard(&mut events).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    health.probe(vec![]);
    assert!(server.accept().is_err(), "the server's program saw a connection");
    let here = format!(":{port:04X} ");
    let left = || -> Vec<String> {
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let others = table.lines().filter(|line| line.contains(&here) && !line.contains(" 0A "));
        others.map(str::to_owned).collect()
    };
    // A check in progress may take a moment to end; what a close leaves behind stays a minute (TIME_WAIT).
    let give_up = Instant::now() + PATIENCE;
    while !left().is_empty() && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = left();
    assert!(left.is_empty(), "{left:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn silence_and_a_missing_neighbor_are_named() {
    use crate::machine::testing::{Net, can_run};
    if !can_run() {
        return;
    }
    let net = Net::new();
    net.in_balancer(async || {
        let (sender, mut events) = mpsc::channel(16);
        let mut health = Health::new(sender);
        let nobody = "10.9.0.9".parse().unwrap();
        health.probe(vec![probe(nobody, 80, HealthStatus::Unknown)]);
        assert_eq!(heard(&mut events).await, (HealthStatus::Down, "no answer within 200 ms".into()));
        assert_eq!(heard(&mut events).await, (HealthStatus::Down, "no route to host".into()));
        let nowhere = "192.0.2.1".parse().unwrap();
        health.probe(vec![probe(nowhere, 80, HealthStatus::Unknown)]);
        assert_eq!(heard(&mut events).await, (HealthStatus::Down, "network unreachable".into()));
    });
}
