//! The plane over loopback, driven by operations as the controller would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::*;
use crate::dataplane::clients::{Fate, Standing};
use crate::dataplane::{
    AccessList, Affinity, BackendTarget, HealthStatus, Member, OnDown, OnEmpty, Protocol, ProxyBackend,
    ProxySettings, Scheduler, Tracking, VipAddress,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn plane() -> ProxyPlane {
    ProxyPlane::new(Arc::new(Proxy::start(2).unwrap()), 10_000)
}

fn settings(protocol: Protocol) -> ServiceSettings {
    ServiceSettings {
        affinity: Affinity::Client,
        scheduler: Scheduler::Maglev,
        tracking: Tracking::Full,
        tracking_timeout: Duration::ZERO,
        transition: Duration::from_secs(600),
        on_empty: OnEmpty::Drop,
        access: AccessList::default(),
        rate_limit: None,
        proxy: Some(ProxySettings::new(protocol)),
    }
}

/// An address that nobody uses just now.
pub(in super::super) fn vip(protocol: Protocol) -> ServiceKey {
    let address = match protocol {
        Protocol::Tcp => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        Protocol::Udp => UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
    };
    ServiceKey { address: VipAddress::Ip(address.ip()), port: address.port(), protocol }
}

fn target(usable: bool, serving: bool) -> BackendTarget {
    let proxy = ProxyBackend {
        weight: 1,
        priority: 0,
        soft_limit: None,
        hard_limit: None,
        standby: false,
        draining: usable && !serving,
    };
    let health = if usable { HealthStatus::Up } else { HealthStatus::Down };
    BackendTarget { path: None, usable, serving, health, health_since: 1, proxy: Some(proxy) }
}

/// What a controller does to have these serve.
pub(in super::super) fn serve(plane: &mut ProxyPlane, key: ServiceKey, backends: &[SocketAddr]) {
    let addresses: Vec<_> = backends.iter().map(|address| BackendAddress::Port(*address)).collect();
    plane.apply(&Operation::SetService { key, settings: settings(key.protocol) }).unwrap();
    for address in &addresses {
        plane.apply(&Operation::SetBackend { key, address: *address, target: target(true, true) }).unwrap();
    }
    let members = addresses.iter().map(|address| Member { address: *address, weight: 1 }).collect();
    plane.apply(&Operation::SetTable { key, members }).unwrap();
}

/// A backend that says its name, then sends back what it gets.
pub(in super::super) fn echo(name: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let _ = stream.write_all(&[name]);
                let mut bytes = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    let _ = stream.write_all(&bytes[..read]);
                }
            });
        }
    });
    address
}

pub(in super::super) fn connect(key: ServiceKey) -> (TcpStream, Option<u8>) {
    let mut stream = TcpStream::connect((key.ip().unwrap(), key.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut name = [0];
    let name = stream.read_exact(&mut name).ok().map(|()| name[0]);
    (stream, name)
}

fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 2];
    stream.write_all(b"hi").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"hi"
}

pub(in super::super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn clients_wait_until_it_is_known_who_serves_and_are_turned_away_where_nobody_does() {
    let (mut plane, key) = (plane(), vip(Protocol::Tcp));
    let address = BackendAddress::Port(echo(1));
    let unknown = BackendTarget { health: HealthStatus::Unknown, ..target(false, false) };
    plane.apply(&Operation::SetService { key, settings: settings(Protocol::Tcp) }).unwrap();
    plane.apply(&Operation::SetBackend { key, address, target: unknown }).unwrap();
    plane.observe().unwrap();
    plane.observe().unwrap();
    let early = thread::spawn(move || connect(key).1);
    thread::sleep(Duration::from_millis(50));
    assert!(!early.is_finished(), "waits");
    plane.apply(&Operation::SetBackend { key, address, target: target(true, true) }).unwrap();
    plane.apply(&Operation::SetTable { key, members: vec![Member { address, weight: 1 }] }).unwrap();
    assert_eq!(early.join().unwrap(), Some(1));
    plane.apply(&Operation::SetTable { key, members: Vec::new() }).unwrap();
    plane.apply(&Operation::SetBackend { key, address, target: target(false, false) }).unwrap();
    assert_eq!(connect(key).1, None);
    assert_eq!(plane.counters().unwrap().dropped["no_backend"].packets, 1);
}

#[test]
fn a_service_without_backends_turns_clients_away() {
    let (mut plane, key) = (plane(), vip(Protocol::Tcp));
    plane.apply(&Operation::SetService { key, settings: settings(Protocol::Tcp) }).unwrap();
    let client = thread::spawn(move || connect(key).1);
    plane.observe().unwrap();
    plane.observe().unwrap();
    assert_eq!(client.join().unwrap(), None);
}

#[test]
fn what_a_plane_was_told_is_what_it_holds() {
    let (mut plane, key) = (plane(), vip(Protocol::Tcp));
    plane.apply(&Operation::SetSeed(7)).unwrap();
    serve(&mut plane, key, &[echo(1), echo(2)]);
    let observed = plane.observe().unwrap();
    let service = &observed.services[&key];
    assert_eq!((observed.seed, service.backends.len(), service.has_table), (7, 2, true));
    assert_eq!(service.settings, settings(Protocol::Tcp));
    plane.apply(&Operation::RemoveService { key }).unwrap();
    assert!(plane.observe().unwrap().services.is_empty());
    eventually("nobody listens", || TcpStream::connect((key.ip().unwrap(), key.port)).is_err());
}

#[test]
fn connections_outlive_their_backend_and_their_service_unless_they_are_not_meant_to() {
    let (mut plane, key, backend) = (plane(), vip(Protocol::Tcp), echo(1));
    let address = BackendAddress::Port(backend);
    serve(&mut plane, key, &[backend]);
    let (mut stream, name) = connect(key);
    assert_eq!(name, Some(1));
    plane.apply(&Operation::SetTable { key, members: Vec::new() }).unwrap();
    plane.apply(&Operation::SetBackend { key, address, target: target(false, false) }).unwrap();
    assert!(echoes(&mut stream), "down takes no new connections and keeps the old ones");
    plane.apply(&Operation::RemoveBackend { key, address }).unwrap();
    assert!(echoes(&mut stream));
    let before = plane.counters().unwrap();
    assert!(before.removed_backends[&key].bytes >= 4, "{before:?}");
    plane.apply(&Operation::RemoveService { key }).unwrap();
    assert!(echoes(&mut stream));
    assert!(plane.counters().unwrap().removed_services.bytes >= 6);

    let (key, backend) = (vip(Protocol::Tcp), echo(2));
    let address = BackendAddress::Port(backend);
    serve(&mut plane, key, &[backend]);
    let closing = ProxySettings { on_down: OnDown::Close, ..ProxySettings::new(Protocol::Tcp) };
    let settings = ServiceSettings { proxy: Some(closing), ..settings(Protocol::Tcp) };
    plane.apply(&Operation::SetService { key, settings }).unwrap();
    let (mut stream, _) = connect(key);
    assert!(echoes(&mut stream));
    plane.apply(&Operation::SetTable { key, members: Vec::new() }).unwrap();
    plane.apply(&Operation::SetBackend { key, address, target: target(false, false) }).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "reset");
}

#[test]
fn whom_it_remembers_can_be_read_and_forgotten() {
    let (mut plane, key) = (plane(), vip(Protocol::Tcp));
    serve(&mut plane, key, &[echo(1), echo(2), echo(3)]);
    let (_stream, name) = connect(key);
    assert!(name.is_some());
    let clients = plane.clients().unwrap();
    let mut seen = Vec::new();
    clients
        .read(&mut |one| {
            seen.push(one.clone());
            Fate::Keep
        })
        .unwrap();
    let [one] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(
        (one.client.to_string().as_str(), one.service, one.standing),
        ("127.0.0.1", Some(key), Standing::Counts)
    );
    assert_eq!(clients.newcomer(&key, one.client).unwrap(), one.backend, "the slot's owner");
    assert_eq!(clients.occupancy().unwrap().v4.used, 1);
    assert_eq!(clients.read(&mut |_| Fate::Forget).unwrap(), 1);
    assert_eq!(clients.occupancy().unwrap().v4.used, 0);
}

#[test]
fn an_address_that_is_taken_is_said_and_tried_again() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let key =
        ServiceKey { address: VipAddress::Ip(address.ip()), port: address.port(), protocol: Protocol::Tcp };
    let mut plane = plane();
    let set = Operation::SetService { key, settings: settings(Protocol::Tcp) };
    let error = plane.apply(&set).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains(&address.to_string()), "{error}");
    assert!(plane.observe().unwrap().services.is_empty());
    drop(holder);
    plane.apply(&set).unwrap();
}

/// A backend whose queue of who waits to be accepted is full, so that connecting to it goes on and on; with who waits.
fn silent() -> (Socket, Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    });
    let waiting = waiting.collect();
    (listener, waiting, address.as_socket().unwrap())
}

#[test]
fn who_waits_for_a_backend_that_is_found_down_meanwhile_is_taken_to_another_at_once() {
    let (mut plane, key) = (plane(), vip(Protocol::Tcp));
    let (_listener, _waiting, silent) = silent();
    let (address, other) = (BackendAddress::Port(silent), BackendAddress::Port(echo(2)));
    serve(&mut plane, key, &[silent]);
    // Far longer than the client has patience.
    let patient = ProxySettings { connect_timeout: 10 * PATIENCE, ..ProxySettings::new(Protocol::Tcp) };
    let settings = ServiceSettings { proxy: Some(patient), ..settings(Protocol::Tcp) };
    plane.apply(&Operation::SetService { key, settings }).unwrap();
    let client = thread::spawn(move || connect(key).1);
    eventually("it connects", || plane.connections()[&(key, address)].open == 1);
    // Alone it is better than nobody, even if it is held to be down.
    plane.apply(&Operation::SetTable { key, members: Vec::new() }).unwrap();
    plane.apply(&Operation::SetBackend { key, address, target: target(false, false) }).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(!client.is_finished());
    plane.apply(&Operation::SetBackend { key, address: other, target: target(true, true) }).unwrap();
    plane.apply(&Operation::SetTable { key, members: vec![Member { address: other, weight: 1 }] }).unwrap();
    assert_eq!(client.join().unwrap(), Some(2));
}
