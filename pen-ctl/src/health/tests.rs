//! Checks against real sockets on loopback and, where nobody answers, in a namespace.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use super::*;
use crate::check::Kind;
use crate::dataplane::Protocol;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

fn probe(address: IpAddr, port: u16, initial: HealthStatus) -> Probe {
    let key = ServiceKey { address: Ipv4Addr::new(10, 0, 0, 100).into(), port: 80, protocol: Protocol::Tcp };
    let interval = Duration::from_millis(50);
    let pace = Pace { interval, timeout: Duration::from_millis(200), ..Pace::default() };
    let check = Check { port: Some(port), pace, ..Check::of(Kind::Tcp) };
    Probe { key, address: address.into(), check, hop: Hop::Own, initial }
}

fn loopback(listener: &TcpListener, initial: HealthStatus) -> Probe {
    probe(Ipv4Addr::LOCALHOST.into(), listener.local_addr().unwrap().port(), initial)
}

pub(super) async fn heard(events: &mut mpsc::Receiver<Event>) -> (HealthStatus, String) {
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
    let mut health = Health::new(sender, place::nowhere(), Timings::default());
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
    let (status, detail) = heard(&mut events).await;
    assert_eq!(status, HealthStatus::Down, "rise is not reached");
    assert!(detail.starts_with("recovering: connected in "), "{detail}");
    assert!(detail.ends_with(" ms; up after 2 good checks in a row (rise)"), "{detail}");
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);
}

#[tokio::test]
async fn checks_that_did_not_change_go_on_and_changed_ones_start_from_their_verdict() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender, place::nowhere(), Timings::default());
    let server = listener();
    let first = loopback(&server, HealthStatus::Unknown);
    health.probe(vec![first.clone()]);
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);

    health.probe(vec![Probe { initial: HealthStatus::Down, ..first.clone() }]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(events.try_recv().is_err(), "the same check: nothing is told again");

    drop(server);
    let check = Check { pace: Pace { fall: 2, ..first.check.pace }, ..first.check.clone() };
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
    let mut health = Health::new(sender, place::nowhere(), Timings::default());
    let server = listener();
    health.probe(vec![loopback(&server, HealthStatus::Down)]);
    assert_eq!(heard(&mut events).await.0, HealthStatus::Down);
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);
}

#[tokio::test]
async fn few_connections_suffice_for_many_backends() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::with_permits(sender, place::nowhere(), Timings::default(), Permits::with(2, 1));
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

#[tokio::test]
async fn programs_that_hang_delay_only_programs() {
    let (sender, mut events) = mpsc::channel(16);
    let permits = Permits::with(2, 1);
    let mut health = Health::with_permits(sender, place::nowhere(), Timings::default(), permits.clone());
    let command = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
    let hangs = |n: u8| {
        let pace = Pace { timeout: Duration::from_secs(3600), ..Pace::default() };
        let kind = Kind::Exec(crate::check::ExecCheck { command: command.clone() });
        let probe = probe(IpAddr::from([127, 0, 1, n]), 80, HealthStatus::Unknown);
        Probe { check: Check { port: None, pace, ..Check::of(kind) }, ..probe }
    };
    health.probe((0..10).map(hangs).collect());
    let give_up = Instant::now() + PATIENCE;
    while permits.programs_left() > 0 {
        assert!(Instant::now() < give_up, "none has begun");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let server = listener();
    health.probe((0..10).map(hangs).chain([loopback(&server, HealthStatus::Unknown)]).collect());
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);
}

#[tokio::test]
async fn what_an_agent_asks_for_is_told_once_and_again_when_it_asks_for_something_else() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender, place::nowhere(), Timings::default());
    let agent = listener();
    let mut probe = loopback(&agent, HealthStatus::Unknown);
    probe.check.kind = Kind::Agent(crate::check::AgentCheck::default());
    probe.check.pace.timeout = PATIENCE;
    let says = std::thread::spawn(move || {
        for line in ["50%", "", "drain", "ready"].map(|words| format!("up {words}\n")) {
            std::io::Write::write_all(&mut agent.accept().unwrap().0, line.as_bytes()).unwrap();
        }
    });
    health.probe(vec![probe]);
    for drain in [false, true, false] {
        match tokio::time::timeout(PATIENCE, events.recv()).await.expect("nothing heard").unwrap() {
            Event::Health { status: HealthStatus::Up, advice, .. } => {
                assert_eq!(advice, Advice { weight: Some(50), drain });
            }
            other => panic!("{other:?}"),
        }
    }
    health.probe(vec![]);
    says.join().unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn checks_leave_no_sockets_behind_and_no_connection_to_the_server() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health = Health::new(sender, place::nowhere(), Timings::default());
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
        let mut health = Health::new(sender, place::nowhere(), Timings::default());
        let nobody = "10.9.0.9".parse().unwrap();
        health.probe(vec![probe(nobody, 80, HealthStatus::Unknown)]);
        assert_eq!(heard(&mut events).await, (HealthStatus::Down, "no answer within 200 ms".into()));
        assert_eq!(heard(&mut events).await, (HealthStatus::Down, "no route to host".into()));
        let nowhere = "192.0.2.1".parse().unwrap();
        health.probe(vec![probe(nowhere, 80, HealthStatus::Unknown)]);
        assert_eq!(heard(&mut events).await, (HealthStatus::Down, "network unreachable".into()));
    });
}

/// The routes that a probe address leaves behind where its way is gone; any other address may be unreachable like that, too.
#[cfg(target_os = "linux")]
#[test]
fn a_probe_address_that_leads_nowhere_says_nothing_about_the_backend() {
    let Some(net) = testing::router() else { return };
    let addresses = ["240.1.35.107", "fd70:656e:9c4d::1", "10.8.0.9", "fd08::9"];
    for address in addresses {
        let length = if address.contains(':') { 128 } else { 32 };
        net.near(&format!("ip route add blackhole {address}/{length}"));
    }
    net.in_balancer(async || {
        for (address, gone) in addresses.into_iter().zip([true, true, false, false]) {
            let backend = (address.parse::<IpAddr>().unwrap(), 80).into();
            for check in ["tcp", "udp", "icmp", "dns", "smtp"] {
                let said = testing::asked(&testing::question(check, backend, PATIENCE)).await;
                let wanted = if gone { "unable: the way to it has just gone" } else { "bad: " };
                assert!(said.starts_with(wanted), "{check} {address}: {said}");
            }
        }
    });
}
