//! Backends, clients and a proxy between them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use pen_ctl::dataplane::proxy::choose::Policy;
use pen_ctl::dataplane::proxy::endpoint::Endpoint;
use pen_ctl::dataplane::proxy::limit;
use pen_ctl::dataplane::proxy::pool::BackendConfig;
use pen_ctl::dataplane::proxy::service::Settings;
use pen_ctl::dataplane::proxy::single::{Config, Single};
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
    let policy = Policy { affinity: Affinity::Client, tracking, scheduler, tracking_timeout: 0, seed: 1 };
    let backend = |address: &SocketAddr| BackendConfig::new(Endpoint::Inet(*address));
    Config {
        protocol: Protocol::Tcp,
        listen: vec![Endpoint::Inet(listen.parse().unwrap())],
        backends: backends.iter().map(backend).collect(),
        settings: Settings::new(policy),
        tracking_clients: 1000,
        workers: 2,
    }
}

/// The same with other settings.
pub(crate) fn with(mut config: Config, change: impl FnOnce(&mut Settings)) -> Config {
    change(&mut config.settings);
    config
}

/// A client of the proxy.
pub(crate) fn connect(proxy: &Single) -> TcpStream {
    patient(TcpStream::connect(address(proxy)).unwrap())
}

/// The same from an address of its own, which must be one of IPv4.
pub(crate) fn connect_from(source: [u8; 4], proxy: &Single) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address(proxy).into()).unwrap();
    patient(socket.into())
}

/// Where a proxy listens.
pub(crate) fn address(proxy: &Single) -> SocketAddr {
    let Endpoint::Inet(address) = proxy.addresses()[0] else { panic!("a Unix socket") };
    address
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A backend that does this with each connection, in a thread of its own.
pub(crate) fn backend(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    // The 128 of std's listeners overflow when more than a thousand come at once, and then the kernel drops (listen(2)).
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    let listener = TcpListener::from(socket);
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

/// A backend whose queue is full, so that the kernel answers nobody any more (Linux, `tcp_abort_on_overflow` off).
pub(crate) fn silent() -> (SocketAddr, (socket2::Socket, Vec<socket2::Socket>)) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = new();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let client = new();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address);
        clients.push(client);
    }
    (address.as_socket().unwrap(), (listener, clients))
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
