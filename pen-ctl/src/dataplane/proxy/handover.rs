//! Hot restart: a successor gets the listening sockets of a proxy, so that no client is refused, and what it needs to go
//! on as if nothing had happened: whom clients were given, who is healthy, what was counted. Connections that are open
//! end where they are.
//!
//! Over a stream socket of Unix: the successor says hello; whoever is there ends its controller, which frees state and
//! API, and sends letters (JSON, four bytes of length before each, big-endian) and sockets (`SCM_RIGHTS`, unix(7));
//! the successor says that it is ready once clients could be served; the old one accepts nobody any more and tells who
//! came meanwhile; then the successor lets clients in, who have waited in the kernel for the moment between. If the successor fails before, the old one goes on serving, with a controller of its own again.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Proxy;
use super::plane::estate::{Bequest, Estate};
use crate::dataplane::ServiceKey;
use crate::platform::pid_of;
pub(super) use inherited::{Heir, Inherited};
use letter::{Letter, MemoryLetter, ServiceLetter};

mod inherited;
mod letter;
mod sockets;
#[cfg(test)]
mod tests;

/// The form of what is said here. A pen that knows another one is not served.
const FORMAT: u32 = 1;
/// What the successor says when clients are served.
const READY: u8 = b'R';
/// How long the other side may take for a part of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a successor may take to be ready: its first checks take as long as their timeouts, but one that hangs must not
/// keep the state, and with it all control, for ever.
const PATIENCE_FOR_READY: Duration = Duration::from_secs(300);

/// Where a successor of the controller with that socket comes.
pub fn place(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".handover");
    path.into()
}

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Nobody is there.
    #[error(
        "nobody to take over from at {path}: {source}; start without --take-over, or give the same --socket as the \
         controller that runs"
    )]
    Nobody {
        /// Where one would be.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The other side went away or said something else.
    #[error(
        "take over from the controller that runs: {0}; it goes on serving; look at its log, then try again"
    )]
    Broken(#[from] io::Error),
    /// The other side speaks another form.
    #[error(
        "take over from the controller that runs: it knows form {theirs} of that, this pen form {FORMAT}; stop it, then \
         start this one"
    )]
    Format {
        /// Its form.
        theirs: u32,
    },
}

/// What a successor says first.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    format: u32,
}

/// Somebody who wants to take over.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
    pid: Option<u32>,
}

impl Successor {
    /// Hears out who has connected.
    ///
    /// # Errors
    /// It is no successor, or none that can be served.
    pub fn greet(mut stream: UnixStream) -> Result<Successor, HandoverError> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Hello { format } = receive(&mut stream)?;
        send(&mut stream, &Hello { format: FORMAT })?;
        let pid = pid_of(&stream);
        if format == FORMAT {
            Ok(Successor { stream, pid })
        } else {
            Err(HandoverError::Format { theirs: format })
        }
    }

    /// Its process, where the kernel tells.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What ends the handing over from outside.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn breaker(&self) -> io::Result<Breaker> {
        Ok(Breaker(self.stream.try_clone()?))
    }

    /// Hands everything over and waits until clients are served there; then this proxy accepts nobody any more.
    ///
    /// # Errors
    /// The successor failed: this proxy goes on.
    pub fn hand_over(self, estate: &Estate, proxy: &Proxy) -> Result<(), HandoverError> {
        let Successor { mut stream, .. } = self;
        // Whoever had the sockets before this proxy has nothing more to say about them.
        proxy.let_in();
        let mut bequests = estate.bequests();
        // Whoever does not listen yet has nothing that a successor could not make itself.
        bequests.retain(|_, bequest| !proxy.sockets(&bequest.service).is_empty());
        let sockets: Vec<_> = bequests
            .values()
            .map(|bequest| proxy.sockets(&bequest.service).into_iter().flat_map(|(_, sockets)| sockets))
            .map(Iterator::collect::<Vec<_>>)
            .collect();
        let letters = bequests.iter().zip(&sockets);
        let services = letters.map(|((key, bequest), own)| ServiceLetter::of(*key, bequest, own.len()));
        send(&mut stream, &Letter { services: services.collect() })?;
        sockets::send(&stream, sockets.iter().flatten())?;
        let began = Instant::now();
        send_clients(&mut stream, &bequests, None)?;
        stream.set_read_timeout(Some(PATIENCE_FOR_READY))?;
        let mut word = [0];
        stream.read_exact(&mut word)?;
        if word != [READY] {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        }
        proxy.retire();
        // Whoever misses them now serves all the same: some clients may have to be given a backend anew.
        if let Err(error) = send_clients(&mut stream, &bequests, Some(began)) {
            tracing::info!("the successor does not hear who came meanwhile: {error}");
        }
        Ok(())
    }
}

/// Ends a handing over whose successor hangs.
#[derive(Debug)]
pub struct Breaker(UnixStream);

impl Breaker {
    /// From now on the successor is not heard: unless it was ready before, it has failed.
    pub fn end(&self) {
        // Fails only if it is gone: then there is nothing to end.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// Sends whom services remember; those that were seen since then, where that is said.
fn send_clients(
    stream: &mut UnixStream,
    bequests: &BTreeMap<ServiceKey, Bequest>,
    since: Option<Instant>,
) -> io::Result<()> {
    // Memory counts whole seconds.
    let within = |since: Instant| u32::try_from(since.elapsed().as_secs() + 1).unwrap_or(u32::MAX);
    for (key, bequest) in bequests {
        for memory in MemoryLetter::all_of(*key, bequest, since.map_or(u32::MAX, within)) {
            send(stream, &Some(memory))?;
        }
    }
    send(stream, &None::<MemoryLetter>)
}

/// What was taken over, until its old holder is told that it is in good hands.
#[derive(Debug)]
pub struct Takeover {
    stream: UnixStream,
    inherited: Vec<Inherited>,
    /// The workers who take over, and what they know.
    heirs: Option<(Arc<Proxy>, Vec<Heir>)>,
}

impl Takeover {
    /// Takes over from whoever serves there: its controller has ended when this returns.
    ///
    /// # Errors
    /// Nobody is there, or it cannot be taken over from; it goes on serving then.
    pub fn from(path: &Path) -> Result<Takeover, HandoverError> {
        let nobody = |source| HandoverError::Nobody { path: path.display().to_string(), source };
        let mut stream = UnixStream::connect(path).map_err(nobody)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        send(&mut stream, &Hello { format: FORMAT })?;
        let Hello { format } = receive(&mut stream)?;
        if format != FORMAT {
            return Err(HandoverError::Format { theirs: format });
        }
        let letter: Letter = receive(&mut stream)?;
        let count = letter.services.iter().map(|service| service.sockets).sum();
        let mut sockets = sockets::receive(&stream, count)?.into_iter();
        let services = letter.services.into_iter();
        let mut inherited: Vec<_> = services
            .map(|letter| {
                let own = sockets.by_ref().take(letter.sockets).collect();
                Inherited::new(letter, own)
            })
            .collect();
        while let Some(memory) = receive::<Option<MemoryLetter>>(&mut stream)? {
            if let Some(one) = inherited.iter_mut().find(|one| one.key == memory.vip) {
                one.remember(memory);
            }
        }
        Ok(Takeover { stream, inherited, heirs: None })
    }

    /// What there is to go on with; once.
    pub fn inherited(&mut self) -> Vec<Inherited> {
        std::mem::take(&mut self.inherited)
    }

    /// Who takes over. Those workers let nobody in before the old holder lets go.
    pub fn expect(&mut self, proxy: Arc<Proxy>, heirs: Vec<Heir>) {
        proxy.hold_back();
        self.heirs = Some((proxy, heirs));
    }

    /// Clients can be served here now: whoever served them before stops accepting, says who came meanwhile, and from then
    /// on they are.
    ///
    /// # Errors
    /// It has gone already; they are served all the same.
    pub fn ready(mut self) -> Result<(), HandoverError> {
        let told = self.hear_of_the_last();
        if let Some((proxy, _)) = &self.heirs {
            proxy.let_in();
        }
        told
    }

    fn hear_of_the_last(&mut self) -> Result<(), HandoverError> {
        self.stream.write_all(&[READY])?;
        let heirs = self.heirs.iter().flat_map(|(_, heirs)| heirs);
        while let Some(memory) = receive::<Option<MemoryLetter>>(&mut self.stream)? {
            if let Some(heir) = heirs.clone().find(|heir| heir.key == memory.vip) {
                heir.remember(&memory.clients);
            }
        }
        Ok(())
    }
}

/// A letter is no longer than this: about a hundred thousand clients.
const LONGEST: u32 = 64 << 20;

fn send(stream: &mut UnixStream, letter: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(letter)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&bytes)
}

fn receive<T: for<'a> Deserialize<'a>>(stream: &mut UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
