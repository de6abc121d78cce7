//! UDP through the whole proxy: workers, the pool they share, dead backends.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use pen_ctl::dataplane::proxy::single::{Config, Single};
use pen_ctl::dataplane::{Protocol, Scheduler, Tracking};

use crate::place::{PATIENCE, address, config, eventually, turns, with};

/// A backend that answers each datagram with its own name and that datagram.
pub(crate) fn echo(name: u8) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer[1..]) {
            buffer[0] = name;
            socket.send_to(&buffer[..=length], from).unwrap();
        }
    });
    address
}

pub(crate) fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn client(proxy: &Single) -> UdpSocket {
    let to = address(proxy);
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// Asks once; returns the name of the backend that answered.
pub(crate) fn ask(client: &UdpSocket) -> u8 {
    client.send(b"query").unwrap();
    let mut answer = [0; 16];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[1..length], b"query");
    answer[0]
}

/// Clients take turns, each stays where it is, and a dead backend costs no client a single datagram.
#[test]
fn every_query_is_answered_though_one_backend_is_dead() {
    let config = Config { protocol: Protocol::Udp, ..turns(&[echo(1), nobody(), echo(2)]) };
    let proxy = Single::start(config).unwrap();
    let mut seen = [0; 3];
    for _ in 0..20 {
        let client = client(&proxy);
        let name = ask(&client);
        seen[usize::from(name)] += 1;
        assert_eq!(ask(&client), name);
    }
    assert!(seen[1] >= 5 && seen[2] >= 5, "{seen:?}");
    let statistics = proxy.statistics();
    assert_eq!((statistics.accepted, statistics.turned_away), (20, 0));
    let [first, dead, second] = &statistics.backends[..] else { panic!("{statistics:?}") };
    assert!(dead.failing && dead.totals.failures > 0 && dead.open == 0, "{dead:?}");
    assert_eq!(first.open + second.open, 20);
    assert_eq!(first.totals.sent + second.totals.sent, 40 * 6);
}

/// A client is remembered by its address: all its ports go to one backend.
#[test]
fn client_is_remembered() {
    let backends = [echo(1), echo(2), echo(3), echo(4)];
    let config = config("127.0.0.1:0", &backends, Scheduler::RoundRobin, Tracking::Full);
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    let name = ask(&client(&proxy));
    for _ in 0..10 {
        assert_eq!(ask(&client(&proxy)), name);
    }
}

/// No client waits: an order to drain ends it.
#[test]
fn draining_ends_when_nobody_waits() {
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..turns(&[echo(1)]) }).unwrap();
    ask(&client(&proxy));
    proxy.drain();
    proxy.workers().join().unwrap();
}

/// Servers that never answer (syslog, statsd) cannot tell by an answer that they are back.
#[test]
fn a_backend_that_never_answers_gets_clients_again_after_it_was_down() {
    let silent = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (one, other) = (silent(), silent());
    let (address, backends) =
        (other.local_addr().unwrap(), [one.local_addr().unwrap(), other.local_addr().unwrap()]);
    let config = with(turns(&backends), |settings| settings.out_for = Duration::from_millis(100));
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    let say = || client(&proxy).send(b"message").unwrap();
    drop(other);
    eventually("its failure is seen", || {
        say();
        proxy.statistics().backends[1].totals.failures > 0
    });
    let other = UdpSocket::bind(address).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::sleep(Duration::from_millis(200));
    (0..20).for_each(|_| {
        say();
    });
    for _ in 0..5 {
        other.recv(&mut [0; 16]).unwrap();
    }
}
