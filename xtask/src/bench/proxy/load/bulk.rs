//! Bulk: a few connections on which the server sends as fast as it can.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::super::poller::{EventFlags, Poller, Ready};
use super::super::servers::{STREAM, request};
use super::{LOOK, Progress, connect};

/// Connections.
const CONNECTIONS: usize = 4;
/// Bytes taken from one of them before the others have their turn.
const PIECE: usize = 1 << 20;

/// Receives on all connections; counts bytes.
pub(in super::super) fn run(to: SocketAddr, progress: &Progress) -> io::Result<()> {
    let poller = Poller::new()?;
    let open = |place| -> io::Result<TcpStream> {
        let mut stream = connect(to)?;
        stream.write_all(&request(STREAM))?;
        poller.watch(&stream, place, EventFlags::IN)?;
        Ok(stream)
    };
    let mut streams = (0..CONNECTIONS).map(open).collect::<io::Result<Vec<_>>>()?;
    let (mut ready, mut bytes) = (Ready::new(), vec![0; PIECE]);
    while !progress.stopped() {
        poller.wait(&mut ready, LOOK)?;
        for (place, _) in ready.iter() {
            match receive(&streams[place], &mut bytes) {
                Ok(received) => progress.add(received),
                Err(_) => {
                    progress.fail();
                    streams[place] = open(place)?;
                }
            }
        }
    }
    Ok(())
}

/// Takes what is there; the kernel discards it rather than copy it here (MSG_TRUNC: tcp(7)), so that the client costs
/// as little as can be.
fn receive(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<u64> {
    match recv(stream, bytes, RecvFlags::TRUNC) {
        Ok((_, 0)) => Err(ErrorKind::UnexpectedEof.into()),
        Ok((_, received)) => Ok(received as u64),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
