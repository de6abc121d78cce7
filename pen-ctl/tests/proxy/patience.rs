//! What ends because nothing happens: attempts to connect, connections and sessions without a byte.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use pen_ctl::dataplane::Protocol;
use pen_ctl::dataplane::proxy::single::{Config, Single};
use socket2::{Domain, Socket, Type};

use crate::place::{PATIENCE, address, backend, connect, echo, eventually, silent, turns, with};
use crate::udp;

const IDLE: Duration = Duration::from_millis(1500);
/// From one sign of life to the next.
const BEAT: Duration = Duration::from_millis(100);

/// Does it with every beat for much longer than may pass without one.
fn for_long(mut beat: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < 3 * IDLE {
        beat();
        thread::sleep(BEAT);
    }
}

/// Sends a byte with every beat until that fails, or says how many bytes it got: what the first byte asks for.
fn sends_or_counts(mut stream: TcpStream) {
    let mut wish = [0];
    stream.read_exact(&mut wish).unwrap();
    if wish == *b"s" {
        while stream.write_all(b"x").is_ok() {
            thread::sleep(BEAT);
        }
    } else {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = stream.write_all(&[u8::try_from(bytes.len()).unwrap()]);
    }
}

#[test]
fn a_connection_without_a_byte_is_reset_and_one_with_bytes_either_way_lives() {
    let config = with(turns(&[backend(sends_or_counts)]), |settings| settings.idle_timeout = IDLE);
    let proxy = Single::start(config).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut idle = connect(&proxy);
            idle.write_all(b"c").unwrap();
            assert_eq!(idle.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        });
        scope.spawn(|| {
            let mut hears = connect(&proxy);
            hears.write_all(b"s").unwrap();
            for_long(|| hears.read_exact(&mut [0]).unwrap());
        });
        scope.spawn(|| {
            let mut speaks = connect(&proxy);
            let mut sent = 0;
            speaks.write_all(b"c").unwrap();
            for_long(|| sent += speaks.write(b"x").unwrap());
            speaks.shutdown(Shutdown::Write).unwrap();
            let mut got = [0];
            speaks.read_exact(&mut got).unwrap();
            assert_eq!(usize::from(got[0]), sent);
        });
    });
    eventually("all have ended", || proxy.statistics().backends[0].open == 0);
}

#[test]
fn a_slow_reader_is_not_idle_while_it_reads_what_the_kernel_holds_for_it() {
    const LENGTH: usize = 3 << 20;
    let gives = |mut stream: TcpStream| {
        stream.write_all(&vec![7; LENGTH]).unwrap();
        // Nothing more comes from here, and it does not end.
        let _ = stream.read(&mut [0]);
    };
    let idle = Duration::from_millis(300);
    let config = with(turns(&[backend(gives)]), |settings| settings.idle_timeout = idle);
    let proxy = Single::start(config).unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(16 << 10).unwrap();
    client.connect(&address(&proxy).into()).unwrap();
    let mut client = TcpStream::from(client);
    let (mut read, mut buffer) = (0, [0; 16 << 10]);
    while read < LENGTH {
        read += client.read(&mut buffer).unwrap();
        thread::sleep(Duration::from_millis(15));
    }
    // From now on it is idle.
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// A backend that never answers; gives the first byte of each datagram and the port that it came from.
fn mute() -> (SocketAddr, Receiver<(u8, u16)>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (heard, hears) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = heard.send((buffer[0], from.port()));
        }
    });
    (address, hears)
}

#[test]
fn a_session_of_udp_ends_when_it_is_idle_and_lasts_while_its_client_sends_though_nobody_answers() {
    let (backend, hears) = mute();
    let config = with(turns(&[backend]), |settings| settings.idle_timeout = IDLE);
    let proxy = Single::start(Config { protocol: Protocol::Udp, ..config }).unwrap();
    let (active, idle) = (udp::client(&proxy), udp::client(&proxy));
    idle.send(b"i").unwrap();
    for_long(|| assert_eq!(active.send(b"a").unwrap(), 1));
    assert_eq!(proxy.statistics().backends[0].open, 1);
    idle.send(b"i").unwrap();
    let (mut of_active, mut of_idle) = (HashSet::new(), HashSet::new());
    while of_idle.len() < 2 {
        let (who, port) = hears.recv_timeout(PATIENCE).unwrap();
        let sessions = if who == b'a' { &mut of_active } else { &mut of_idle };
        sessions.insert(port);
    }
    assert_eq!(of_active.len(), 1, "one session all the time");
}

#[test]
fn what_a_client_says_while_a_silent_backend_is_tried_reaches_the_next_one() {
    let (address, _kept) = silent();
    let config =
        with(turns(&[address, echo(2)]), |settings| settings.connect_timeout = Duration::from_millis(200));
    let proxy = Single::start(config).unwrap();
    let mut client = connect(&proxy);
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"\x02hello");
}

#[test]
fn where_everybody_is_silent_the_client_is_reset_and_does_not_hang() {
    let ((one, _one), (other, _other)) = (silent(), silent());
    let config = with(turns(&[one, other]), |settings| settings.connect_timeout = Duration::from_millis(100));
    let proxy = Single::start(config).unwrap();
    let error = connect(&proxy).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let statistics = proxy.statistics();
    assert_eq!(statistics.turned_away, 1);
    assert!(statistics.backends.iter().all(|backend| backend.totals.failures == 1), "{statistics:?}");
}
