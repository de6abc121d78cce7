//! Follows a stream of server-sent events of a controller.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};

use super::sse::{Parser, ServerSent};
use super::{Client, ClientError, PATIENCE};
use crate::background::Background;

/// After how long without a word, not even a heartbeat (every 15 s), a controller is taken for gone.
const SILENCE: Duration = Duration::from_secs(50);

/// Events as they come.
pub struct Stream {
    body: Incoming,
    parser: Parser,
    /// Read and not yet given away.
    ready: VecDeque<ServerSent>,
    _connection: Background,
}

impl Client {
    /// Opens a stream of events; `last_id` is that of the last one heard, empty for none.
    pub async fn follow(&self, path: &str, last_id: &str) -> Result<Stream, ClientError> {
        let mut request = Request::get(path).header(HOST, "pen").header(ACCEPT, "text/event-stream");
        if !last_id.is_empty() {
            request = request.header("last-event-id", last_id);
        }
        let request = request.body(Full::new(Bytes::new()));
        let request =
            request.map_err(|error| self.garbled(format!("no request can be made of {path}: {error}")))?;
        let opened = tokio::time::timeout(PATIENCE, async {
            let (response, connection) = self.ask(request).await?;
            if !response.status().is_success() {
                return Err(match self.answer(response).await {
                    Err(error) => error,
                    Ok(_) => self.garbled("an answer that is no event stream".to_owned()),
                });
            }
            let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            match kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
                true => Ok((response.into_body(), connection)),
                false => {
                    Err(self.garbled(format!("{} instead of an event stream", kind.unwrap_or("nothing"))))
                }
            }
        });
        let (body, connection) = opened.await.unwrap_or_else(|_| Err(self.silent()))?;
        let parser = Parser::resuming(last_id);
        Ok(Stream { body, parser, ready: VecDeque::new(), _connection: connection })
    }
}

impl Stream {
    /// The next event; `None` when the stream is over, for whatever reason: open another from [`Stream::last_id`] on.
    /// May be dropped and called again.
    pub async fn next(&mut self) -> Option<ServerSent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await.ok()??.ok()?;
            let Some(data) = frame.data_ref() else { continue };
            self.ready.extend(self.parser.feed(data).ok()?);
        }
    }

    /// How far this stream has been heard, once [`Stream::next`] has ended.
    pub fn last_id(&self) -> &str {
        self.parser.last_id()
    }
}
