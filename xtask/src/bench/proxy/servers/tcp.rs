//! TCP: answers requests, closes or streams as they ask.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

use super::super::poller::{EventFlags, Poller};
use super::{CLOSE, REQUEST, STREAM};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Connections accepted, and pieces of a stream sent, before others have their turn.
const TURNS: usize = 16;
/// Bytes of a stream offered to the kernel at once.
const PIECE: usize = 256 * 1024;

/// A socket that listens on a port of the system's choice.
pub(super) fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Connections inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Every connection there is, by descriptor.
pub(super) struct Connections {
    /// Keys of the poller below this one are others'.
    first_key: usize,
    by_descriptor: Vec<Option<Connection>>,
    piece: Box<[u8]>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes received of a request that is not complete.
    received: usize,
    /// What it asks for: the first of those bytes.
    wanted: u8,
}

/// What is to become of a connection.
enum Next {
    Stays,
    Streams,
    Closes,
}

impl Connections {
    /// None yet.
    pub(super) fn new(first_key: usize) -> Self {
        Self { first_key, by_descriptor: Vec::new(), piece: vec![STREAM; PIECE].into() }
    }

    /// Accepts who waits.
    pub(super) fn accept(&mut self, poller: &Poller, listener: &TcpListener) -> io::Result<()> {
        for _ in 0..TURNS {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The client has gone already: accept(2).
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let descriptor = stream.as_raw_fd() as usize;
            poller.watch(&stream, self.first_key + descriptor, EventFlags::IN)?;
            if self.by_descriptor.len() <= descriptor {
                self.by_descriptor.resize_with(descriptor + 1, || None);
            }
            self.by_descriptor[descriptor] = Some(Connection { stream, received: 0, wanted: 0 });
        }
        Ok(())
    }

    /// Does what a connection can do now.
    pub(super) fn serve(&mut self, poller: &Poller, key: usize, flags: EventFlags) -> io::Result<()> {
        let place = self.by_descriptor.get_mut(key - self.first_key);
        let Some(place @ Some(_)) = place else { return Ok(()) };
        let Some(connection) = place else { return Ok(()) };
        let next = if flags.contains(EventFlags::OUT) {
            connection.stream(&self.piece)
        } else {
            connection.answer()
        };
        match next {
            Next::Stays => {}
            Next::Streams => poller.change(&connection.stream, key, EventFlags::OUT)?,
            Next::Closes => *place = None,
        }
        Ok(())
    }
}

impl Connection {
    /// Answers what has come.
    fn answer(&mut self) -> Next {
        let mut bytes = [0; REQUEST];
        let received = match self.stream.read(&mut bytes[self.received..]) {
            Ok(received @ 1..) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Stays,
            // Its client has gone.
            Ok(_) | Err(_) => return Next::Closes,
        };
        if self.received == 0 {
            self.wanted = bytes[0];
        }
        self.received += received;
        if self.received < REQUEST {
            return Next::Stays;
        }
        self.received = 0;
        match self.wanted {
            STREAM => Next::Streams,
            wanted if self.stream.write_all(&[wanted; REQUEST]).is_err() || wanted == CLOSE => Next::Closes,
            _ => Next::Stays,
        }
    }

    /// Sends as much of an endless stream as is taken.
    fn stream(&mut self, piece: &[u8]) -> Next {
        for _ in 0..TURNS {
            match self.stream.write(piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Next::Closes,
            }
        }
        Next::Stays
    }
}
