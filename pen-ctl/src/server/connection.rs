//! Takes connections and speaks HTTP/1.1 on each, within limits.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::gate::{Full, Gate};
use super::hangup::{Hangup, Watchable};
use super::limits::Limits;
use super::patient::Patient;
use super::peer::Peer;
use crate::api::{ApiError, ErrorCode, ErrorDocument};

/// Where connections come from.
pub trait Listener: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one, and who is at its other end.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// Changes when those who came in so far are to leave; `None` where that is at the server's end only.
    fn moved(&self) -> Option<watch::Receiver<()>> {
        None
    }

    /// Tells when nobody is left at the other end of a connection, where that can be seen.
    fn hangup(_: &Self::Stream) -> Hangup {
        Hangup::UNSEEN
    }
}

impl Listener for UnixListener {
    type Stream = Watchable;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = UnixListener::accept(self).await?;
        let peer = Peer::local(&stream);
        Ok((Watchable::new(stream), peer))
    }

    fn hangup(stream: &Self::Stream) -> Hangup {
        stream.hangup()
    }
}

/// Tells a connection that it is to end, or has. A handler whose answer goes on for ever, or takes long to find, has it
/// in its request's extensions and ends its work then.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Of the whole server.
    server: Option<watch::Receiver<bool>>,
    /// Of the place where it came in.
    moved: Option<watch::Receiver<()>>,
    /// Of whoever is at its other end.
    hangup: Hangup,
}

impl Ending {
    /// Of what never ends.
    pub const NEVER: Ending = Ending { server: None, moved: None, hangup: Hangup::UNSEEN };

    /// Of what ends with whoever is at its other end.
    #[cfg(test)]
    pub(super) fn with(hangup: Hangup) -> Ending {
        Ending { hangup, ..Ending::NEVER }
    }

    /// Completes when nobody is left to hear an answer; not before, though we are to end.
    pub async fn unheard(self) {
        self.hangup.wait().await;
    }

    /// Completes when it is to end.
    pub async fn wait(self) {
        let server = async {
            match self.server {
                // An error says that the server is gone, too.
                Some(mut ended) => drop(ended.wait_for(|ended| *ended).await),
                None => std::future::pending().await,
            }
        };
        let moved = async {
            match self.moved {
                Some(mut moved) => drop(moved.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = server => {}
            () = moved => {}
        }
    }
}

/// Serves what comes from `listener` until `ended` says so; then takes no more and finishes what was begun.
pub(super) async fn accept_all<L: Listener>(
    mut listener: L,
    app: Router,
    limits: Limits,
    ended: watch::Receiver<bool>,
) {
    let gate = Gate::new(limits);
    let mut connections = JoinSet::new();
    let telling = Arc::new(Semaphore::new(TOLD));
    let mut words = Words::default();
    let mut end = pin!(Ending { server: Some(ended.clone()), ..Ending::NEVER }.wait());
    loop {
        // Those that are done are let go of as they end, not when the server does.
        let accepted = tokio::select! {
            biased;
            () = &mut end => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match gate.admit(peer) {
                Ok(pass) => {
                    let ending = Ending {
                        server: Some(ended.clone()),
                        moved: listener.moved(),
                        hangup: L::hangup(&stream),
                    };
                    let serving = serve_one(stream, peer, app.clone(), limits, ending);
                    connections.spawn(async move {
                        serving.await;
                        drop(pass);
                    });
                }
                Err(full) => {
                    words.refused(peer, full);
                    if let Ok(told) = telling.clone().try_acquire_owned() {
                        connections.spawn(async move {
                            turn_away(stream, full).await;
                            drop(told);
                        });
                    }
                }
            },
            Err(error) if gone_already(&error) => {}
            Err(error) => {
                words.failed(&error);
                tokio::select! {
                    () = &mut end => break,
                    () = sleep(limits.accept_pause) => {}
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until either end closes it, a limit is met, or the server ends.
pub async fn serve_one<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    app: Router,
    limits: Limits,
    ending: Ending,
) {
    let app = TowerToHyperService::new(app);
    let told = ending.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(told.clone());
        app.call(request)
    });
    let stream = TokioIo::new(Patient::new(stream, limits.write_time));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_headers(limits.header_fields)
        .max_buf_size(limits.header_bytes)
        // Who has said everything may close that half and wait for the answer.
        .half_close(true)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = ending.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("connection of {peer:?}: {error}");
    }
}

/// Connections turned away that may still be told why; those beyond are closed without a word.
const TOLD: usize = 32;
/// How long one that is turned away may take to ask, and then to hear the answer.
const HEARING: Duration = Duration::from_secs(1);

/// Hears the question, since a client need not listen before it has asked; says why there is no answer, and closes.
async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, full: Full) {
    let message = match full {
        Full::Everywhere => "there are too many connections",
        Full::ForCaller => "you have too many connections",
    };
    let error = ApiError::new(ErrorCode::Busy, message, "close some, then try again");
    // Strings and no maps: cannot fail.
    let body = serde_json::to_string(&ErrorDocument { error }).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let mut heard = [0; 1024];
    let _ = timeout(HEARING, stream.read(&mut heard)).await;
    let telling = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with something unread, the answer might be lost.
        while stream.read(&mut heard).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    let _ = timeout(HEARING, telling).await;
}

/// The client went away before it was accepted (accept(2)): nothing is wrong with us.
fn gone_already(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What is said of troubles that may come a thousand times a second: the first, then one in a while.
#[derive(Debug, Default)]
struct Words {
    refused: Option<Instant>,
    failed: Option<Instant>,
}

impl Words {
    /// From one word to the next of the same kind.
    const PAUSE: Duration = Duration::from_secs(60);

    fn refused(&mut self, peer: Peer, full: Full) {
        if Self::due(&mut self.refused) {
            let who = match peer {
                Peer { address: Some(address), .. } => address.ip().to_string(),
                Peer { uid: Some(uid), .. } => format!("user {uid}"),
                Peer { .. } => "an unknown user".to_owned(),
            };
            tracing::warn!(
                "a connection of {who} was refused: {}",
                match full {
                    Full::Everywhere => "there are too many (of everybody who may only look)",
                    Full::ForCaller => "it has as many as one may have",
                }
            );
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if Self::due(&mut self.failed) {
            tracing::warn!(
                "connections cannot be accepted: {error}; tried again every second (too many open files: raise \
                 LimitNOFILE)"
            );
        }
    }

    fn due(last: &mut Option<Instant>) -> bool {
        let due = last.is_none_or(|last| last.elapsed() >= Self::PAUSE);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
