//! Takes connections and speaks HTTP/1.1 on each, within limits.

use std::io;
use std::pin::pin;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::gate::{Full, Gate};
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
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = UnixListener::accept(self).await?;
        let peer = Peer::local(&stream);
        Ok((stream, peer))
    }
}

/// Tells connections that the server ends. A handler whose answer goes on for ever finds it in its request's
/// extensions and ends its answer then.
#[derive(Clone, Debug)]
pub struct Ending(Option<watch::Receiver<bool>>);

impl Ending {
    /// Of a server that never ends.
    pub const NEVER: Ending = Ending(None);

    /// Completes when the server ends.
    pub async fn wait(self) {
        match self.0 {
            // An error says that the server is gone, too.
            Some(mut ended) => drop(ended.wait_for(|ended| *ended).await),
            None => std::future::pending().await,
        }
    }
}

/// Serves what comes from `listener` until `end` completes; then takes no more and finishes what was begun.
pub(super) async fn accept_all<L: Listener>(
    mut listener: L,
    app: Router,
    limits: Limits,
    end: impl Future<Output = ()>,
) {
    let gate = Gate::new(limits);
    let (ended, ending) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut words = Words::default();
    let mut end = pin!(end);
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
                    let serving = serve_one(stream, peer, app.clone(), limits, Ending(Some(ending.clone())));
                    connections.spawn(async move {
                        serving.await;
                        drop(pass);
                    });
                }
                Err(full) => {
                    words.refused(peer, full);
                    turn_away(stream, full);
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
    ended.send_replace(true);
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

/// Says why, as far as the other end takes it at once, and closes.
fn turn_away<S: AsyncWrite + Unpin>(mut stream: S, full: Full) {
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
    let mut writing = pin!(stream.write_all(answer.as_bytes()));
    // A new connection has room for this; whoever left none hears nothing.
    let _ = writing.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
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
    const PAUSE: std::time::Duration = std::time::Duration::from_secs(60);

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
