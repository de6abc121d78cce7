//! What must hold of any bytes that are sent to the API; the fuzz target and the replay of its corpus share it.

use std::time::Duration;

use pen_ctl::api::document::{BackendList, ChangeDocument, InterfaceList, ServiceList};
use pen_ctl::api::{Answered, ApiError, ErrorCode, ErrorDocument, Reply, Request};
use pen_ctl::controller::ControllerHandle;
use pen_ctl::server::connection::{Ending, serve_one};
use pen_ctl::server::limits::Limits;
use pen_ctl::server::peer::Peer;
use pen_ctl::server::{app, looking_app};
use pen_ctl::state::desired::Desired;
use pen_ctl::state::revision::Revision;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Longer than any answer takes.
const HANG: Duration = Duration::from_secs(10);

/// Sends bytes to the whole API, with a made-up controller behind it. The first byte says who does: `w` root, `r`
/// somebody who may only read, `n` somebody over TCP.
///
/// # Panics
/// The API hangs, an answer is not well formed, or somebody who may only look had something changed.
pub(crate) fn check(input: &[u8]) {
    let Some((who, bytes)) = input.split_first() else { return };
    let peer = match who {
        b'r' => Peer { uid: Some(stranger()), ..Peer::UNKNOWN },
        b'n' => Peer::remote(([192, 0, 2, 1], 1).into()),
        _ => Peer { uid: Some(0), ..Peer::UNKNOWN },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = runtime.block_on(async {
        let whole = tokio::time::timeout(HANG, exchange(peer, bytes)).await;
        whole.unwrap_or_else(|_| panic!("the API hangs"))
    });
    judge(&answers);
}

/// A user who is neither root nor us.
fn stranger() -> u32 {
    u32::MAX - 7
}

/// Sends all, then hears all.
async fn exchange(peer: Peer, bytes: &[u8]) -> Vec<u8> {
    let (handle, mut calls) = ControllerHandle::new();
    let may_write = peer.may_write().is_ok();
    let controller = tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            assert!(may_write || looks(&call.asked.request), "{:?}", call.asked.request);
            let revision = Revision::of(&Desired::new(1));
            let reply = reply(&call.asked.request).map(|reply| Answered { reply, revision });
            let _ = call.answer.send(reply);
        }
    });
    let limits = if peer.address.is_some() { Limits::NETWORK } else { Limits::LOCAL };
    let app = if peer.address.is_some() { looking_app(handle, limits) } else { app(handle, limits) };
    let (ours, theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn(serve_one(theirs, peer, app, limits, Ending::NEVER));
    let (reader, mut writer) = tokio::io::split(ours);
    let ((answers, endless), ()) = tokio::join!(hear(reader), async {
        // Refused in the midst, the rest is not taken.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    });
    drop(writer);
    if endless {
        // It would notice at its next sign of life that nobody listens.
        server.abort();
    } else {
        server.await.expect("the connection's task ends well");
    }
    controller.await.expect("nothing was asked that may not be");
    answers
}

/// Everything that is answered until events begin, which go on for ever; whether they did.
async fn hear(mut reader: tokio::io::ReadHalf<DuplexStream>) -> (Vec<u8>, bool) {
    const FOR_EVER: &[u8] = b"content-type: text/event-stream";
    let mut answers = Vec::new();
    while reader.read_buf(&mut answers).await.is_ok_and(|read| read > 0) {
        if let Some(at) = find(&answers, FOR_EVER) {
            let before = answers[..at].windows(9).rposition(|word| word == b"HTTP/1.1 ").unwrap_or(0);
            answers.truncate(before);
            return (answers, true);
        }
    }
    (answers, false)
}

/// Whether a request changes nothing.
fn looks(request: &Request) -> bool {
    matches!(
        request,
        Request::Status
            | Request::ServiceList
            | Request::ServiceShow { .. }
            | Request::BackendList { .. }
            | Request::InterfaceList
            | Request::Clients
            | Request::Metrics
            | Request::Export
            | Request::History
            | Request::HistoryShow { .. }
    )
}

/// An answer of the right kind, or a refusal.
fn reply(request: &Request) -> Result<Reply, ApiError> {
    match request {
        Request::Status => Ok(Reply::Status(Box::new(
            serde_json::from_value(serde_json::json!({
                "controller": {
                    "version": "1", "pid": 7, "dataplane": "fake", "uptime_seconds": 61, "file": null,
                    "file_differs": false, "seed": "0000000000000001", "revision": "0000000000000000"
                },
                "interfaces": [], "services": [], "warnings": ["<b>"],
                "packets": {"received": 0, "forwarded": 0, "answered": {}, "passed": {}, "dropped": {}},
                "tracking": {"v4": {"used": 0, "max": 1024}, "v6": {"used": 0, "max": 1024}},
            }))
            .expect("a status document"),
        ))),
        Request::ServiceList => Ok(Reply::Services(ServiceList { services: Vec::new() })),
        Request::BackendList { .. } => Ok(Reply::Backends(BackendList { backends: Vec::new() })),
        Request::InterfaceList | Request::Attach(_) => {
            Ok(Reply::Interfaces(InterfaceList { interfaces: Vec::new() }))
        }
        Request::ServiceShow { name } => {
            Err(ApiError::new(ErrorCode::NotFound, format!("there is no service {name}"), "add it"))
        }
        Request::Metrics | Request::Export | Request::History | Request::HistoryShow { .. } => {
            Err(ApiError::new(ErrorCode::Refused, "there is nothing to show", "try again"))
        }
        Request::Clients => Err(ApiError::new(ErrorCode::Refused, "there are no tables", "attach first")),
        _ => Ok(Reply::Changed(ChangeDocument::default())),
    }
}

/// Checks a row of answers, each by itself.
fn judge(mut answers: &[u8]) {
    while !answers.is_empty() {
        let text = String::from_utf8_lossy(answers).into_owned();
        let end = find(answers, b"\r\n\r\n").unwrap_or_else(|| panic!("a header without an end: {text}"));
        let head = std::str::from_utf8(&answers[..end]).expect("a header in ASCII").to_ascii_lowercase();
        answers = &answers[end + 4..];
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status < 200 {
            continue;
        }
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let length: usize = field("content-length").map_or(0, |length| length.parse().expect("a length"));
        // To HEAD the length is told, but nothing sent.
        let sent = if answers.is_empty() || answers.starts_with(b"HTTP/1.1 ") { 0 } else { length };
        assert!(sent <= answers.len(), "cut off: {text}");
        let body;
        (body, answers) = answers.split_at(sent);
        if field("pen-version").is_none() {
            // What is not HTTP does not come as far as our code.
            assert!(matches!(status, 400 | 408 | 414 | 431 | 505) && length == 0, "{text}");
            continue;
        }
        assert_ne!(status, 500, "{text}");
        if body.is_empty() {
            continue;
        }
        if status >= 400 {
            let document: ErrorDocument = serde_json::from_slice(body).expect("an error document");
            assert!(!document.error.message.is_empty(), "{text}");
        } else if field("content-type") == Some("application/json") {
            serde_json::from_slice::<serde_json::Value>(body).expect("a document");
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
