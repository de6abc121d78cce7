//! UDP queries from many client sockets, each with one query under way.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::super::poller::{EventFlags, Poller, Ready};
use super::super::servers::{ANSWER, ID, QUERY};
use super::{LOOK, Progress};

/// Client sockets. What all of them send at once fits into a socket's buffer of the usual size.
const CLIENTS: usize = 128;
/// After so long a query counts as lost and is asked again.
const PATIENCE: Duration = Duration::from_millis(250);

/// Asks with all sockets.
pub(in super::super) fn run(to: SocketAddr, progress: &Progress) -> io::Result<()> {
    let poller = Poller::new()?;
    let open = |place| -> io::Result<Asker> {
        let mut asker = Asker::open(to)?;
        poller.watch(&asker.socket, place, EventFlags::IN)?;
        asker.ask()?;
        Ok(asker)
    };
    let mut askers = (0..CLIENTS).map(open).collect::<io::Result<Vec<_>>>()?;
    let (mut ready, mut looked) = (Ready::new(), Instant::now());
    while !progress.stopped() {
        poller.wait(&mut ready, LOOK)?;
        for (place, _) in ready.iter() {
            if askers[place].listen()? {
                progress.add(1);
                askers[place].ask()?;
            }
        }
        if looked.elapsed() >= PATIENCE {
            looked = Instant::now();
            for asker in askers.iter_mut().filter(|asker| looked.duration_since(asker.asked) >= PATIENCE) {
                progress.fail();
                asker.ask()?;
            }
        }
    }
    Ok(())
}

/// A client socket.
pub(in super::super) struct Asker {
    socket: UdpSocket,
    /// Number of the query under way.
    id: u64,
    asked: Instant,
}

impl Asker {
    /// One that has asked nothing yet and never waits.
    pub(in super::super) fn open(to: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, id: 0, asked: Instant::now() })
    }

    /// Sends the next query.
    pub(in super::super) fn ask(&mut self) -> io::Result<()> {
        self.id += 1;
        self.asked = Instant::now();
        let mut query = [0; QUERY];
        query[..ID].copy_from_slice(&self.id.to_be_bytes());
        // What was refused or did not fit counts as lost.
        quietly(self.socket.send(&query)).map(drop)
    }

    /// Takes what has come; true if that is the answer to the query under way.
    pub(in super::super) fn listen(&self) -> io::Result<bool> {
        let mut answer = [0; 2 * ANSWER];
        let length = quietly(self.socket.recv(&mut answer))?;
        Ok(length == Some(ANSWER) && answer[..ID] == self.id.to_be_bytes())
    }
}

/// Nothing there, or nobody there yet, is no failure.
fn quietly(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
