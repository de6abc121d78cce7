//! The TCP address where everybody may look (`http`): opened, moved and closed while the server runs.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use serde::de::{Deserialize, Deserializer, Error as _};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::Listener;
use super::peer::Peer;
use crate::api::{ApiError, ErrorCode};
use crate::state::text::TextError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why an address cannot be listened on: what, on what, what to do.
#[derive(Debug, thiserror::Error)]
#[error("listen for HTTP on {address}: {why}; {hint}")]
pub struct TcpError {
    /// Which.
    pub address: SocketAddr,
    /// Why not.
    pub why: String,
    /// What to do.
    pub hint: String,
    /// Somebody else listens there.
    pub in_use: bool,
}

impl From<TcpError> for ApiError {
    fn from(error: TcpError) -> Self {
        let TcpError { address, why, hint, .. } = error;
        Self::new(ErrorCode::Refused, format!("listen for HTTP on {address}: {why}"), hint)
    }
}

/// A door that the controller opens and the server receives callers at; clones are the same door.
#[derive(Clone)]
pub struct Door {
    place: Arc<Mutex<Option<Place>>>,
    /// Changes whenever the place does.
    moved: watch::Sender<()>,
}

/// Where it is open.
#[derive(Debug)]
struct Place {
    /// As it was asked for; port 0 = any.
    asked: SocketAddr,
    listener: TcpListener,
}

impl Default for Door {
    /// A closed one.
    fn default() -> Self {
        Self { place: Arc::default(), moved: watch::Sender::new(()) }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Door").field(&self.address()).finish()
    }
}

impl Door {
    /// Opens it there, moves it there, or closes it; whoever came in elsewhere is shown out. Must be called inside
    /// a runtime.
    ///
    /// # Errors
    /// The address cannot be had: the door stays as it was.
    pub fn open(&self, wanted: Option<SocketAddr>) -> Result<(), TcpError> {
        let mut place = self.lock();
        if place.as_ref().map(|place| place.asked) == wanted {
            return Ok(());
        }
        let before = place.as_ref().and_then(|place| Some((place.asked, place.listener.local_addr().ok()?)));
        // 127.0.0.1:9080 stands in the way of 0.0.0.0:9080 as long as it is open.
        if let (Some((_, at)), Some(wanted)) = (before, wanted)
            && at.port() == wanted.port()
        {
            *place = None;
        }
        match wanted.map(|wanted| Place::at(wanted, wanted)).transpose() {
            Ok(new) => *place = new,
            Err(error) => {
                if place.is_none() {
                    // It was free a moment ago; if it is not any more, there is nothing to go back to.
                    *place = before.and_then(|(asked, at)| Place::at(asked, at).ok());
                    self.moved.send_replace(());
                }
                return Err(error);
            }
        }
        drop(place);
        self.moved.send_replace(());
        Ok(())
    }

    /// Where it is open.
    pub fn address(&self) -> Option<SocketAddr> {
        self.lock().as_ref().and_then(|place| place.listener.local_addr().ok())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn at(asked: SocketAddr, address: SocketAddr) -> Result<Place, TcpError> {
        let listener = listen(address).map_err(|error| refused(address, &error))?;
        Ok(Place { asked, listener })
    }
}

impl Listener for Door {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        loop {
            let mut moved = self.moved.subscribe();
            let next = poll_fn(|context| match self.lock().as_ref() {
                Some(place) => place.listener.poll_accept(context),
                None => Poll::Pending,
            });
            // The other side of the channel is ours: it never closes.
            tokio::select! {
                _ = moved.changed() => {}
                accepted = next => {
                    let (stream, address) = accepted?;
                    // An IPv4 caller at an IPv6 door is one and the same as at an IPv4 one.
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    return Ok((stream, Peer::remote(address)));
                }
            }
        }
    }

    fn moved(&self) -> Option<watch::Receiver<()>> {
        Some(self.moved.subscribe())
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // What was closed a moment ago must not keep us waiting (TIME_WAIT, tcp(7)).
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn refused(address: SocketAddr, error: &io::Error) -> TcpError {
    let (why, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "somebody else listens there".to_owned(),
            format!(
                "`ss -ltnp 'sport = :{}'` shows who; stop that, or give another address (--http ADDR, or http in \
                 the file)",
                address.port()
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this machine does not have that address".to_owned(),
            "`ip address` shows those it has; give one of them, or 127.0.0.1 (--http ADDR, or http in the file)"
                .to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; give a higher one".to_owned(),
        ),
        _ => (error.to_string(), "give another address (--http ADDR, or http in the file)".to_owned()),
    };
    TcpError { address, why, hint, in_use: error.kind() == io::ErrorKind::AddrInUse }
}

/// Reads an address to listen on: `127.0.0.1:9080`, `[::1]:9080`.
///
/// # Errors
/// It is not an IP address with a port: names are not looked up.
pub fn parse(text: &str) -> Result<SocketAddr, TextError> {
    text.parse().map_err(|_| {
        TextError(format!(
            "`{text}` is not an IP address and port to listen on; write for example 127.0.0.1:9080 or [::1]:9080"
        ))
    })
}

/// Reads the key `http`.
pub(crate) fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map(Some).map_err(D::Error::custom)
}
