//! Requests on connections that stay: the next one as soon as the answer is there.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::super::poller::{EventFlags, Poller, Ready};
use super::super::servers::{KEEP, REQUEST, request};
use super::{LOOK, Progress, connect};

/// Connections, each with one request under way.
pub(super) const CONNECTIONS: usize = 64;

/// Asks on all connections.
pub(in super::super) fn run(to: SocketAddr, progress: &Progress) -> io::Result<()> {
    let poller = Poller::new()?;
    let open = |place| -> io::Result<Asker> {
        let mut asker = Asker::connect(to, &poller, place)?;
        asker.ask()?;
        Ok(asker)
    };
    let mut askers = (0..CONNECTIONS).map(open).collect::<io::Result<Vec<_>>>()?;
    let mut ready = Ready::new();
    while !progress.stopped() {
        poller.wait(&mut ready, LOOK)?;
        for (place, _) in ready.iter() {
            match askers[place].go_on() {
                Ok(answered) => progress.add(u64::from(answered)),
                Err(_) => {
                    progress.fail();
                    askers[place] = open(place)?;
                }
            }
        }
    }
    Ok(())
}

/// A connection that stays.
pub(super) struct Asker {
    stream: TcpStream,
    /// Bytes of the answer so far.
    received: usize,
}

impl Asker {
    /// Connects; the poller is to tell when an answer comes.
    pub(super) fn connect(to: SocketAddr, poller: &Poller, place: usize) -> io::Result<Self> {
        let stream = connect(to)?;
        poller.watch(&stream, place, EventFlags::IN)?;
        Ok(Self { stream, received: 0 })
    }

    /// Sends a request.
    pub(super) fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(&request(KEEP))
    }

    /// Reads what has come, and asks again once the answer is complete; true then.
    fn go_on(&mut self) -> io::Result<bool> {
        let answered = self.listen()?;
        if answered {
            self.ask()?;
        }
        Ok(answered)
    }

    /// Reads what has come; true once the answer is complete.
    pub(super) fn listen(&mut self) -> io::Result<bool> {
        let mut bytes = [0; REQUEST];
        match self.stream.read(&mut bytes[self.received..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => self.received += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        let whole = self.received == REQUEST;
        if whole {
            self.received = 0;
        }
        Ok(whole)
    }
}
