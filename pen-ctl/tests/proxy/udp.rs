//! UDP through the whole proxy: workers, the pool they share, dead backends.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use pen_ctl::dataplane::proxy::endpoint::Endpoint;
use pen_ctl::dataplane::proxy::{Config, Proxy};
use pen_ctl::dataplane::{Protocol, Scheduler, Tracking};

use crate::place::{PATIENCE, config, turns};

/// A backend that answers each datagram with its own name and that datagram.
fn echo(name: u8) -> SocketAddr {
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

fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn client(proxy: &Proxy) -> UdpSocket {
    let Endpoint::Inet(address) = proxy.addresses()[0] else { panic!("not UDP") };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(address).unwrap();
    socket
}

/// Asks once; returns the name of the backend that answered.
fn ask(client: &UdpSocket) -> u8 {
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
    let proxy = Proxy::start(config).unwrap();
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
    assert!(dead.failing && dead.failures > 0 && dead.open == 0, "{dead:?}");
    assert_eq!(first.open + second.open, 20);
    assert_eq!(first.sent + second.sent, 40 * 6);
}

/// A client is remembered by its address: all its ports go to one backend.
#[test]
fn client_is_remembered() {
    let backends = [echo(1), echo(2), echo(3), echo(4)];
    let config = config("127.0.0.1:0", &backends, Scheduler::RoundRobin, Tracking::Full);
    let proxy = Proxy::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    let name = ask(&client(&proxy));
    for _ in 0..10 {
        assert_eq!(ask(&client(&proxy)), name);
    }
}

/// No client waits: an order to drain ends it.
#[test]
fn draining_ends_when_nobody_waits() {
    let mut proxy = Proxy::start(Config { protocol: Protocol::Udp, ..turns(&[echo(1)]) }).unwrap();
    ask(&client(&proxy));
    proxy.drain();
    for thread in proxy.take_threads() {
        thread.join().unwrap().unwrap();
    }
}
