//! The UDP half end to end over loopback: real sockets, a loop of events around it, injected time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::*;

mod failures;
mod limits;
mod named;
mod passing;
mod told;

const IDLE: Duration = Duration::from_secs(30);
/// Far longer than anything here takes; a test that waits so long fails.
const PATIENCE: Duration = Duration::from_secs(10);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Backends by turns from the first on; those that failed are remembered but not avoided, so that what avoids them is
/// the session.
#[derive(Default)]
struct Listed {
    addresses: Vec<SocketAddr>,
    clients: Vec<SocketAddr>,
    failed: Vec<usize>,
    why: Vec<Errno>,
    answered: Vec<usize>,
    manner: Manner,
    opened: u64,
    turned_away: u64,
    /// Ports of clients that may not.
    refused: Vec<u16>,
    denied: u64,
    /// Bytes to and from backends.
    carried: (u64, u64),
    /// As many as there are sessions with a backend, and one.
    places: Rc<()>,
}

impl Backends for Listed {
    type Id = usize;
    type Lease = Rc<()>;

    fn choose(&mut self, _: usize, client: SocketAddr, excluded: &[usize]) -> Option<(usize, SocketAddr)> {
        self.clients.push(client);
        let mut left = self.addresses.iter().copied().enumerate();
        left.find(|(id, _)| !excluded.contains(id))
    }

    fn admits(&mut self, _: usize, client: SocketAddr) -> bool {
        !self.refused.contains(&client.port())
    }

    fn denied(&mut self, _: usize, datagrams: u64) {
        self.denied += datagrams;
    }

    fn enter(&mut self, _: usize, _: &usize) -> Option<Rc<()>> {
        Some(Rc::clone(&self.places))
    }

    fn manner(&mut self, _: usize) -> Manner {
        self.manner
    }

    fn opened(&mut self, _: usize) {
        self.opened += 1;
    }

    fn turned_away(&mut self, _: usize, datagrams: u64) {
        self.turned_away += datagrams;
    }

    fn carried(&mut self, _: usize, _: &usize, load: Load) {
        self.carried = (self.carried.0 + load.sent, self.carried.1 + load.received);
    }

    fn failed(&mut self, _: usize, backend: &usize, why: Errno) {
        self.failed.push(*backend);
        self.why.push(why);
    }

    fn answered(&mut self, _: usize, backend: &usize) {
        self.answered.push(*backend);
    }
}

/// A loop of events around the UDP half, on a clock that only a test moves.
struct Driver {
    poll: Poll,
    udp: Udp<Listed>,
    backends: Listed,
    now: Instant,
}

impl Driver {
    fn new(config: Config, backends: &[SocketAddr]) -> Self {
        let poll = Poll::new().unwrap();
        let udp = Udp::new(config, poll.registry()).unwrap();
        let backends = Listed { addresses: backends.to_vec(), ..Listed::default() };
        Self { poll, udp, backends, now: Instant::now() }
    }

    /// One listener on that address, any port; returns where clients send to.
    fn listen(&mut self, address: IpAddr) -> SocketAddr {
        let socket = listen(SocketAddr::new(address, 0), false).unwrap();
        let address = socket.local_addr().unwrap();
        self.udp.add_listener(Arc::new(socket.into()), IDLE).unwrap();
        address
    }

    /// One round of events; waits at most so long for the first.
    fn round(&mut self, wait: Duration) {
        let mut events = Events::with_capacity(256);
        let result = self.poll.poll(&mut events, Some(wait));
        assert!(result.as_ref().is_ok_and(|()| true) || is_interrupted(&result));
        for event in &events {
            self.udp.ready(Source::of(event.token()), &mut self.backends, self.now);
        }
        self.udp.finish(&mut self.backends, self.now);
    }

    /// Runs until the condition holds.
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{:?}", self.udp.counters());
            self.round(Duration::from_millis(1));
        }
    }

    /// Runs until the socket has received a datagram; returns it and its sender.
    fn receive(&mut self, socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut received = None;
        self.until(|_| {
            received = take(socket);
            received.is_some()
        });
        received.unwrap()
    }
}

fn is_interrupted(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

/// A socket of a client or a backend.
fn socket(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A client that hears of that address and port alone.
fn client(to: SocketAddr) -> UdpSocket {
    let socket = socket(if to.is_ipv6() { V6 } else { V4 });
    socket.connect(to).unwrap();
    socket
}

fn take(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65_536];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Some((buffer[..length].to_vec(), from)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// An address of a port where nobody listens.
fn closed(address: IpAddr) -> SocketAddr {
    socket(address).local_addr().unwrap()
}
