//! Talks HTTP/1.1 with the controller over its Unix socket: one request a connection.

pub mod follow;
pub mod sse;
mod version;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, IF_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::{ApiError, ErrorCode, ErrorDocument};
use crate::background::Background;
use crate::server::limits::LONGEST_BODY;

/// How long an answer may take; attaching to a slow driver takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer taken.
const LONGEST: usize = 64 << 20;

/// What to do where no controller answers.
const START_ONE: &str = "start one with `pen-ctl attach IFACE` or `pen-ctl run`";

/// What to do where a request is too long.
const SHORTEN: &str = "give shorter lists: prefixes side by side make one, and what a longer prefix is in needs no line of its own";

/// What to do where something else answers.
const OTHER_SOCKET: &str = "give a controller's with --socket";

/// Why there is no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no controller answers on {}: {why}; {START_ONE}", .socket.display())]
    NoController {
        /// The socket.
        socket: PathBuf,
        /// Why, in words.
        why: String,
    },
    /// We may not connect.
    #[error("permission denied on {}; become root, or join the group pen to look", .0.display())]
    PermissionDenied(PathBuf),
    /// A controller would not take it: it closes the connection before all is sent, which looks as if it were not there.
    #[error(
        "the request to {path} is {} long and a controller takes {}, about 700000 prefixes of IPv4 or half as many of IPv6; \
         {SHORTEN}",
        mebibytes(*.length),
        mebibytes(LONGEST_BODY)
    )]
    TooLong {
        /// What is asked for.
        path: String,
        /// Bytes of the body.
        length: usize,
    },
    /// The controller said no.
    #[error(transparent)]
    Refused(ApiError),
    /// What came back is not what a controller says.
    #[error("the answer on {} is not a controller's: {why}; {OTHER_SOCKET}", .socket.display())]
    Garbled {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// The same as the API says it.
    pub fn as_api_error(&self) -> ApiError {
        let (code, hint) = match self {
            ClientError::Refused(error) => return error.clone(),
            ClientError::NoController { .. } => (ErrorCode::NoController, START_ONE),
            ClientError::PermissionDenied(_) => {
                (ErrorCode::Denied, "become root, or join the group pen to look")
            }
            ClientError::TooLong { .. } => (ErrorCode::Invalid, SHORTEN),
            ClientError::Garbled { .. } => (ErrorCode::Internal, OTHER_SOCKET),
        };
        let whole = self.to_string();
        let message = whole.strip_suffix(hint).map_or(whole.as_str(), |start| start.trim_end_matches("; "));
        ApiError::new(code, message, hint)
    }
}

/// An answer: the document as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The bytes of the body, a JSON document (or nothing).
    pub text: String,
    socket: PathBuf,
}

impl Answer {
    /// Reads the document.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_str(&self.text)
            .map_err(|error| ClientError::Garbled { socket: self.socket.clone(), why: error.to_string() })
    }
}

/// A controller, by its socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    condition: Option<String>,
}

impl Client {
    /// The controller that listens on `socket`; connects with each request.
    pub fn new(socket: PathBuf) -> Client {
        Client { socket, condition: None }
    }

    /// The same, whose changes are refused unless the desired state is at that revision (`If-Match`).
    pub fn at_revision(self, revision: Option<String>) -> Client {
        Client { condition: revision, ..self }
    }

    /// Sends a request and waits for the answer, on a runtime of its own.
    pub fn call(&self, method: Method, path: &str, body: Option<String>) -> Result<Answer, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.no_controller(&error.to_string()))?;
        runtime.block_on(self.send(method, path, body))
    }

    /// Sends a request and waits for the answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, ClientError> {
        let exchange = self.exchange(method, path, body);
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, ClientError> {
        let body = body.unwrap_or_default();
        if body.len() > LONGEST_BODY {
            let path = path.split('?').next().unwrap_or_default().to_owned();
            return Err(ClientError::TooLong { path, length: body.len() });
        }
        let mut request = Request::builder();
        if let Some(condition) = &self.condition {
            request = request.header(IF_MATCH, condition);
        }
        let request = request
            .method(method)
            .uri(path)
            .header(HOST, "pen")
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.garbled(format!("no request can be made of {path}: {error}")))?;
        let (response, _connection) = self.ask(request).await?;
        self.answer(response).await
    }

    /// Sends a request over a connection of its own; the body of the response comes as long as that lives.
    async fn ask(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Background), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(&error))?;
        let lost = |error: hyper::Error| self.no_controller(&error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // Its errors reach us through the request as well.
        let connection = Background::spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(lost)?;
        version::warn(response.headers());
        Ok((response, connection))
    }

    /// Reads a response to its end.
    async fn answer(&self, response: Response<Incoming>) -> Result<Answer, ClientError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let bytes = body.map_err(|error| self.garbled(error.to_string()))?.to_bytes();
        let text = String::from_utf8(bytes.into()).map_err(|error| self.garbled(error.to_string()))?;
        self.judge(status, Answer { text, socket: self.socket.clone() })
    }

    fn judge(&self, status: StatusCode, answer: Answer) -> Result<Answer, ClientError> {
        if status.is_success() {
            return Ok(answer);
        }
        match answer.read::<ErrorDocument>() {
            Ok(document) => Err(ClientError::Refused(document.error)),
            Err(_) => Err(self.garbled(format!("HTTP status {status} without an error document"))),
        }
    }

    fn not_connected(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied(self.socket.clone()),
            io::ErrorKind::NotFound => self.no_controller("there is no such socket"),
            io::ErrorKind::ConnectionRefused => self.no_controller("it was left behind by one that died"),
            _ => self.no_controller(&error.to_string()),
        }
    }

    fn no_controller(&self, why: &str) -> ClientError {
        ClientError::NoController { socket: self.socket.clone(), why: why.to_owned() }
    }

    fn silent(&self) -> ClientError {
        self.no_controller(&format!("silent for {} s", PATIENCE.as_secs()))
    }

    fn garbled(&self, why: String) -> ClientError {
        ClientError::Garbled { socket: self.socket.clone(), why }
    }

    /// The controller's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Bytes in MiB, rounded up to a tenth.
fn mebibytes(bytes: usize) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    match tenths % 10 {
        0 => format!("{} MiB", tenths / 10),
        rest => format!("{}.{rest} MiB", tenths / 10),
    }
}

/// Writes one segment of a path: everything but RFC 3986's unreserved characters and `:` percent-encoded.
pub fn segment(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_no_controller_takes_is_not_sent_and_says_how_long_it_may_be() {
        let home = tempfile::tempdir().unwrap();
        let call = |length| {
            let client = Client::new(home.path().join("pen.sock"));
            client.call(Method::PUT, "/v1/config?file=x", Some(" ".repeat(length))).unwrap_err()
        };
        assert!(matches!(call(LONGEST_BODY), ClientError::NoController { .. }));
        let error = call(LONGEST_BODY + 1).as_api_error();
        assert_eq!((error.code, error.code.exit_status()), (ErrorCode::Invalid, 1));
        for word in ["/v1/config is 16.1 MiB", "takes 16 MiB", "about 700000 prefixes"] {
            assert!(error.message.contains(word), "{error}");
        }
        assert!(error.hint.starts_with("give shorter lists"), "{error}");
    }

    #[test]
    fn odd_names_stay_one_segment() {
        assert_eq!(segment("2001:db8::1"), "2001:db8::1");
        assert_eq!(segment("a/b ?#%ü"), "a%2Fb%20%3F%23%25%C3%BC");
    }
}
