//! Thousands of connections and flows, what each takes, and too few descriptors for them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::place::{PATIENCE, assert_echoes, eventually, name};
use crate::process::OneLiner;

/// Connections that are idle at once.
const IDLE: usize = 9_000;
/// Bytes of memory of our own that one of them may take; the kernel's share is not in it.
const BUDGET: usize = 1024;
/// UDP clients at once.
const FLOWS: usize = 10_000;

/// One at a time, and only with so many descriptors for this process; `None`, and said so, where it may not have them.
fn turn(descriptors: u64) -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = |most: Option<u64>| Rlimit { current: most, maximum: most };
    let most = getrlimit(Resource::Nofile).maximum;
    if most.is_none_or(|most| most >= descriptors) {
        setrlimit(Resource::Nofile, limit(most)).unwrap();
    } else if setrlimit(Resource::Nofile, limit(Some(descriptors))).is_err() {
        // Past the test harness, which would hide what a passing test prints.
        let _ = writeln!(std::io::stderr(), "skipped: needs {descriptors} file descriptors (ulimit -Hn)");
        return None;
    }
    Some(turn)
}

/// Says its name to each client, and then everything that it hears, in one thread for all.
fn echo_to_thousands() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut poll = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(1024);
        let mut listener = {
            listener.set_nonblocking(true).unwrap();
            mio::net::TcpListener::from_std(listener)
        };
        let token = mio::Token(usize::MAX - 1);
        poll.registry().register(&mut listener, token, mio::Interest::READABLE).unwrap();
        let mut streams = slab::Slab::new();
        loop {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                if event.token() != token {
                    answer(&mut streams, event.token().0);
                    continue;
                }
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.write_all(&[1]).unwrap();
                    let place = streams.vacant_entry();
                    let own = mio::Token(place.key());
                    poll.registry().register(&mut stream, own, mio::Interest::READABLE).unwrap();
                    place.insert(stream);
                }
            }
        }
    });
    address
}

fn answer(streams: &mut slab::Slab<mio::net::TcpStream>, key: usize) {
    let Some(stream) = streams.get_mut(key) else { return };
    let mut bytes = [0; 64];
    loop {
        match stream.read(&mut bytes) {
            Ok(read @ 1..) => stream.write_all(&bytes[..read]).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            _ => return drop(streams.remove(key)),
        }
    }
}

/// Bytes of memory of its own that a process has.
fn memory(proxy: &OneLiner) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// How many sockets and pipes a process has.
fn descriptors(proxy: &OneLiner) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.process.id())).unwrap().count()
}

fn greeted(proxy: &OneLiner) -> TcpStream {
    let mut client = proxy.connect();
    name(&mut client);
    assert_echoes(&mut client);
    client
}

#[test]
fn nine_thousand_idle_connections_take_less_than_a_kibibyte_each_and_all_of_them_work() {
    let Some(_turn) = turn(19_000) else { return };
    let backend = echo_to_thousands().to_string();
    let proxy = OneLiner::start(19_000, &["127.0.0.1:0", &backend, "--workers", "1"]);
    // What one connection needs and the next one uses again.
    (0..100).for_each(|_| drop(greeted(&proxy)));
    let (memory_before, before) = (memory(&proxy), descriptors(&proxy));
    let mut clients: Vec<TcpStream> = (0..IDLE).map(|_| greeted(&proxy)).collect();
    let each = memory(&proxy).saturating_sub(memory_before) / IDLE;
    println!("{each} bytes for each idle connection");
    assert!(each < BUDGET, "{each} bytes for each");
    clients.iter_mut().for_each(assert_echoes);
    drop(clients);
    eventually("all descriptors are closed", || descriptors(&proxy) <= before);
}

/// Answers each datagram with where it came from.
fn tell_who_asks(socket: UdpSocket) {
    let mut buffer = [0; 64];
    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
        socket.send_to(from.to_string().as_bytes(), from).unwrap();
    }
}

/// A client of UDP, and which session it has.
fn ask(client: &UdpSocket) -> String {
    client.send(b"who am I?").unwrap();
    let mut answer = [0; 64];
    let length = client.recv(&mut answer).unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

fn client(proxy: &OneLiner) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(proxy.address.unwrap()).unwrap();
    socket
}

/// A proxy for UDP with that limit of descriptors, and one backend.
fn udp(descriptors: u32) -> OneLiner {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap().to_string();
    thread::spawn(move || tell_who_asks(backend));
    OneLiner::start(descriptors, &["127.0.0.1:0", &address, "--udp", "--workers", "1"])
}

#[test]
fn ten_thousand_flows_of_udp_have_a_session_each_and_keep_it() {
    let Some(_turn) = turn(11_000) else { return };
    let proxy = udp(11_000);
    let clients: Vec<UdpSocket> = (0..FLOWS).map(|_| client(&proxy)).collect();
    let sessions: Vec<String> = clients.iter().map(ask).collect();
    let different: std::collections::HashSet<&String> = sessions.iter().collect();
    assert_eq!(different.len(), FLOWS);
    for (client, session) in clients.iter().zip(&sessions) {
        assert_eq!(ask(client), *session);
    }
}

#[test]
fn with_few_descriptors_each_new_client_of_udp_is_answered_and_the_idlest_one_gives_way() {
    let Some(_turn) = turn(1_000) else { return };
    let proxy = udp(64);
    let clients: Vec<UdpSocket> = (0..200).map(|_| client(&proxy)).collect();
    let first = ask(&clients[0]);
    let mut last = String::new();
    for client in &clients[1..] {
        last = ask(client);
    }
    assert_eq!(ask(&clients[199]), last, "the newest keeps its session");
    assert_ne!(ask(&clients[0]), first, "the oldest has a new one");
    proxy.logs("more UDP clients than there is room for");
    for client in &clients {
        ask(client);
    }
    let again = proxy.log.try_iter().filter(|line| line.contains("more UDP clients")).count();
    assert_eq!(again, 0, "said once");
}
