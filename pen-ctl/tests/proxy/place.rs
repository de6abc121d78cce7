//! Backends, clients and a proxy between them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use pen_ctl::dataplane::proxy::choose::Policy;
use pen_ctl::dataplane::proxy::endpoint::Endpoint;
use pen_ctl::dataplane::proxy::pool::BackendConfig;
use pen_ctl::dataplane::proxy::{Config, Proxy, limit};
use pen_ctl::dataplane::{Affinity, Protocol, Scheduler, Tracking};

/// Longer than anything here takes: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy for these backends that gives every connection to the next one.
pub(crate) fn turns(backends: &[SocketAddr]) -> Config {
    config("127.0.0.1:0", backends, Scheduler::RoundRobin, Tracking::Off)
}

pub(crate) fn config(
    listen: &str,
    backends: &[SocketAddr],
    scheduler: Scheduler,
    tracking: Tracking,
) -> Config {
    limit::raise_descriptors();
    let backend = |address: &SocketAddr| BackendConfig {
        endpoint: Endpoint::Inet(*address),
        weight: 1,
        soft_limit: None,
        hard_limit: None,
    };
    Config {
        protocol: Protocol::Tcp,
        listen: vec![Endpoint::Inet(listen.parse().unwrap())],
        backends: backends.iter().map(backend).collect(),
        policy: Policy {
            affinity: Affinity::Client,
            tracking,
            scheduler,
            tracking_timeout: 0,
            tracking_clients: 1000,
            seed: 1,
        },
        workers: 2,
        connect_timeout: Duration::from_secs(5),
        out_for: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(60),
    }
}

/// A client of the proxy.
pub(crate) fn connect(proxy: &Proxy) -> TcpStream {
    let Endpoint::Inet(address) = proxy.addresses()[0] else { panic!("not TCP") };
    patient(TcpStream::connect(address).unwrap())
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A backend that does this with each connection, in a thread of its own.
pub(crate) fn backend(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, serve);
    address
}

pub(crate) fn serve_on(listener: TcpListener, serve: impl Fn(TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (patient(stream.unwrap()), serve.clone());
            thread::spawn(move || serve(stream));
        }
    });
}

/// A backend that says its name and then sends everything back.
pub(crate) fn echo(name: u8) -> SocketAddr {
    backend(move |stream| echo_with_name(stream, name))
}

pub(crate) fn echo_with_name(mut stream: TcpStream, name: u8) {
    let mut bytes = [0; 4096];
    let _ = stream.write_all(&[name]);
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The name of the echo behind a connection.
pub(crate) fn name(stream: &mut TcpStream) -> u8 {
    let mut name = [0];
    stream.read_exact(&mut name).unwrap();
    name[0]
}

/// Asserts that what is sent comes back.
pub(crate) fn assert_echoes(stream: &mut TcpStream) {
    let mut answer = [0; 5];
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
