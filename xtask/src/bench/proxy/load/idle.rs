//! Idle connections: each had a request answered, so that all of the way to a backend stands, and asks no more.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::super::servers::{KEEP, REQUEST, request};
use super::PATIENCE;
use crate::lab::sys;

/// Opens so many, one after the other.
pub(in super::super) fn open(to: SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    (0..connections).map(|_| one(to)).collect()
}

fn one(to: SocketAddr) -> io::Result<TcpStream> {
    if sys::interrupted() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&request(KEEP))?;
    stream.read_exact(&mut [0; REQUEST])?;
    Ok(stream)
}
