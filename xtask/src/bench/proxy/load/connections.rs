//! New connections: connect, one request, its answer, the end that the server makes.
//!
//! The server closes first and so do, on its behalf, the proxies: the client's ports are free again at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::super::poller::{EventFlags, Poller, Ready};
use super::super::servers::{CLOSE, REQUEST, request};
use super::{LOOK, Progress};

/// Connections at once.
const AT_ONCE: usize = 64;
/// Clients, each with an address of its own.
const CLIENTS: u8 = 64;

/// Opens one connection after the other.
pub(in super::super) fn run(to: SocketAddr, progress: &Progress) -> io::Result<()> {
    let poller = Poller::new()?;
    let mut clients = (1..=CLIENTS).cycle();
    let mut begin = |place| {
        let client = Ipv4Addr::new(127, 0, 1, clients.next().unwrap_or(1));
        Attempt::begin(client, to, &poller, place)
    };
    let mut attempts = (0..AT_ONCE).map(&mut begin).collect::<io::Result<Vec<_>>>()?;
    let mut ready = Ready::new();
    while !progress.stopped() {
        poller.wait(&mut ready, LOOK)?;
        for (place, _) in ready.iter() {
            match attempts[place].go_on(&poller, place) {
                Ok(State::Goes) => continue,
                Ok(State::Done) => progress.add(1),
                Err(_) => progress.fail(),
            }
            attempts[place] = begin(place)?;
        }
    }
    Ok(())
}

/// A connection.
struct Attempt {
    stream: TcpStream,
    asked: bool,
    answered: usize,
}

/// Where it stands.
enum State {
    Goes,
    Done,
}

impl Attempt {
    fn begin(client: Ipv4Addr, to: SocketAddr, poller: &Poller, place: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((client, 0)).into())?;
        match socket.connect(&to.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
            _ => {}
        }
        let mut attempt = Self { stream: socket.into(), asked: false, answered: 0 };
        // Over loopback the connection mostly stands by now.
        attempt.ask()?;
        poller.watch(&attempt.stream, place, attempt.interest())?;
        Ok(attempt)
    }

    fn ask(&mut self) -> io::Result<()> {
        match self.stream.write_all(&request(CLOSE)) {
            Ok(()) => self.asked = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn interest(&self) -> EventFlags {
        if self.asked { EventFlags::IN } else { EventFlags::OUT }
    }

    fn go_on(&mut self, poller: &Poller, place: usize) -> io::Result<State> {
        if !self.asked {
            self.ask()?;
            poller.change(&self.stream, place, self.interest())?;
            return Ok(State::Goes);
        }
        loop {
            let mut bytes = [0; 2 * REQUEST];
            match self.stream.read(&mut bytes) {
                Ok(0) if self.answered == REQUEST => return Ok(State::Done),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => self.answered += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(State::Goes),
                Err(error) => return Err(error),
            }
        }
    }
}
