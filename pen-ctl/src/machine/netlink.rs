//! rtnetlink sockets: one kind asks, the other listens and says when it missed something.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::proto::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Error, Handle, MulticastGroup};

use crate::background::Background;

/// The kernel answers requests while they are being sent; this long without an answer means a broken socket.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Receive buffer of a listening socket, bytes; the kernel may grant less.
const LISTEN_BUFFER: usize = 4 << 20;

/// A socket to ask the kernel on.
pub(crate) struct Asker {
    handle: Handle,
    connection: Background,
}

impl Asker {
    /// Opens the socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { handle, connection: Background::spawn(connection) })
    }

    /// What requests are made with.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Awaits the answer to a request. A socket that broke down must not look like an empty answer.
    pub(crate) async fn answer<T>(&self, request: impl Future<Output = Result<T, Error>>) -> io::Result<T> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, request).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer on rtnetlink")
        })?;
        if self.connection.has_ended() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the rtnetlink socket broke down"));
        }
        answer.map_err(to_io)
    }

    /// Opens a new socket if this one broke down.
    pub(crate) fn mend(&mut self) {
        if self.connection.has_ended() {
            match Self::open() {
                Ok(new) => *self = new,
                Err(error) => tracing::warn!("open rtnetlink again: {error}"),
            }
        }
    }
}

/// The errno that the kernel answered with, as an I/O error.
fn to_io(error: Error) -> io::Error {
    match &error {
        Error::NetlinkError(message) => message.to_io(),
        _ => io::Error::other(error.to_string()),
    }
}

/// What a listening socket hears.
pub(crate) enum Notice {
    /// A change.
    Message(RouteNetlinkMessage),
    /// Changes may have been missed: look at everything again.
    Missed,
}

/// A socket that listens for changes.
pub(crate) struct Listener {
    groups: &'static [MulticastGroup],
    messages: Messages,
    _connection: Background,
}

/// What a connection hears; boxed, because its concrete type is of a crate that is no dependency of ours.
type Messages = Pin<Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send>>;

impl Listener {
    /// Starts to listen in the network namespace of the calling thread: nothing after this call is missed unsaid.
    pub(crate) fn open(groups: &'static [MulticastGroup]) -> io::Result<Self> {
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(groups)?;
        if let Err(error) = connection.socket_mut().socket_ref().set_rx_buf_sz(LISTEN_BUFFER as libc::c_int) {
            tracing::debug!("rtnetlink receive buffer: {error}");
        }
        Ok(Self { groups, messages: Box::pin(messages), _connection: Background::spawn(connection) })
    }

    /// The next change. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Notice {
        loop {
            match self.messages.next().await {
                Some((message, _)) => match message.payload {
                    NetlinkPayload::InnerMessage(message) => return Notice::Message(message),
                    NetlinkPayload::Overrun(_) => return Notice::Missed,
                    _ => {}
                },
                None => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    match Self::open(self.groups) {
                        Ok(new) => {
                            *self = new;
                            return Notice::Missed;
                        }
                        Err(error) => tracing::warn!("listen to rtnetlink again: {error}"),
                    }
                }
            }
        }
    }
}
