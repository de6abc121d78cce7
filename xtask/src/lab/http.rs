//! A small HTTP/1.1 server that says which backend it is, and the client for it (RFC 9112, keep-alive).
//!
//! `GET /` answers the backend's name, `GET /bytes/N` that many bytes, `PUT /` counts what it is sent.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{sys, tcp};

/// Port of the server.
pub const PORT: u16 = 80;
/// Bytes of a body are written and read in pieces of this many.
const PIECE: usize = 16 * 1024;

/// Serves one connection until the client ends it.
pub fn serve(stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some((first, length)) = read_head(&mut stream)? {
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let bytes = path.strip_prefix("/bytes/").and_then(|n| n.parse::<u64>().ok());
        match (method, path, bytes) {
            ("GET", "/", _) => respond(stream.get_mut(), "200 OK", name, name.as_bytes())?,
            ("GET", _, Some(bytes)) => {
                write_head(stream.get_mut(), "200 OK", name, bytes)?;
                io::copy(&mut io::repeat(b'x').take(bytes), stream.get_mut())?;
            }
            ("PUT", "/", _) => {
                let got = io::copy(&mut (&mut stream).take(length), &mut io::sink())?;
                respond(stream.get_mut(), "200 OK", name, got.to_string().as_bytes())?;
            }
            _ => respond(stream.get_mut(), "404 Not Found", name, b"")?,
        }
    }
    Ok(())
}

fn respond(to: &mut TcpStream, status: &str, name: &str, body: &[u8]) -> io::Result<()> {
    write_head(to, status, name, body.len() as u64)?;
    to.write_all(body)
}

fn write_head(to: &mut TcpStream, status: &str, name: &str, length: u64) -> io::Result<()> {
    write!(to, "HTTP/1.1 {status}\r\nX-Backend: {name}\r\nContent-Length: {length}\r\n\r\n")
}

/// Reads the first line and the length of the body that follows; `None` where the other side has ended.
fn read_head(from: &mut impl BufRead) -> io::Result<Option<(String, u64)>> {
    let mut first = String::new();
    if from.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            None if line.trim_end().is_empty() => return Ok(Some((first.trim_end().to_owned(), length))),
            Some(("Content-Length", value)) => {
                length = value.parse().map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
            }
            _ => {}
        }
    }
}

/// A client's connection; it belongs to the network namespace of the thread that opened it, for good.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects from this source address (any port); every later wait is bounded by `patience` too.
    pub fn open(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<Self> {
        Ok(Self(BufReader::new(tcp::connect(source, to, patience)?)))
    }

    /// Asks who is there, over this connection.
    pub fn who(&mut self) -> io::Result<String> {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        self.read_body("200 OK")
    }

    /// Fetches so many bytes, runs `midway` once half of them are here, and gives how many came.
    pub fn download(&mut self, bytes: u64, midway: impl FnOnce()) -> io::Result<u64> {
        write!(self.0.get_mut(), "GET /bytes/{bytes} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let length = self.read_status("200 OK")?;
        let mut piece = [0; PIECE];
        let mut got = 0;
        let mut midway = Some(midway);
        while got < length {
            let more = self.0.read(&mut piece)?;
            if more == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            got += more as u64;
            if got >= length / 2
                && let Some(midway) = midway.take()
            {
                midway();
            }
        }
        Ok(got)
    }

    /// Sends so many bytes, runs `midway` once half of them are sent, and gives how many the server counted.
    pub fn upload(&mut self, bytes: u64, midway: impl FnOnce()) -> io::Result<u64> {
        write!(self.0.get_mut(), "PUT / HTTP/1.1\r\nHost: lab\r\nContent-Length: {bytes}\r\n\r\n")?;
        io::copy(&mut io::repeat(b'y').take(bytes / 2), self.0.get_mut())?;
        midway();
        io::copy(&mut io::repeat(b'y').take(bytes - bytes / 2), self.0.get_mut())?;
        self.read_body("200 OK")?.parse().map_err(|_| ErrorKind::InvalidData.into())
    }

    /// Stores what `from` yields, so many bytes, at a path of the server's.
    pub fn put(&mut self, path: &str, from: &mut impl Read, bytes: u64) -> io::Result<()> {
        write!(self.0.get_mut(), "PUT {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: {bytes}\r\n\r\n")?;
        io::copy(from, self.0.get_mut())?;
        self.read_body("201 Created").map(drop)
    }

    /// Fetches what is at a path of the server's.
    pub fn get(&mut self, path: &str, into: &mut impl Write) -> io::Result<u64> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let bytes = self.read_status("200 OK")?;
        io::copy(&mut (&mut self.0).take(bytes), into)
    }

    /// How often the kernel had to send something again on this connection.
    pub fn retransmissions(&self) -> io::Result<u32> {
        sys::retransmissions(self.0.get_ref())
    }

    /// Reads the head of an answer that must have this status; gives the length of its body.
    fn read_status(&mut self, wanted: &str) -> io::Result<u64> {
        let (status, length) =
            read_head(&mut self.0)?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        if status.strip_prefix("HTTP/1.1 ") == Some(wanted) {
            Ok(length)
        } else {
            Err(io::Error::other(status))
        }
    }

    fn read_body(&mut self, status: &str) -> io::Result<String> {
        let length = self.read_status(status)?;
        let mut body = String::new();
        (&mut self.0).take(length).read_to_string(&mut body)?;
        Ok(body)
    }
}

/// One request on a connection of its own: who answered.
pub fn who(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    Connection::open(source, to, patience)?.who()
}
