//! The checks `http` and `https`: a request over HTTP/1.1 (RFC 9112), and whether its answer is good.
//!
//! An answer is judged as soon as what was asked for is known: by its status when its head is whole, by its content when
//! the text was found; what comes behind is not waited for, and the connection is reset. Redirects are not followed.

use std::error::Error;
use std::io;
use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;

use super::ask::{Answer, Failed, Question};
use super::connect;
use super::tls::{self, Tls};
use crate::check::HttpCheck;
use crate::dataplane::{ServiceKey, VipAddress};
use search::Search;

mod search;
#[cfg(test)]
mod tests;

/// What pen is called in the logs of backends.
const AGENT: &str = concat!("pen/", env!("CARGO_PKG_VERSION"));
/// Bytes of an answer's content that are looked through.
const BODY_MAX: usize = 1024 * 1024;
/// Bytes of an answer's head.
const HEAD_MAX: usize = 64 * 1024;
/// Characters of a text that are repeated in a reason.
const QUOTED: usize = 60;

/// Asks a backend once; `tls`: over TLS.
pub(super) async fn ask(question: &Question, check: &HttpCheck, tls: Option<&Tls>) -> Result<Answer, Failed> {
    let request = request(question, check).map_err(|error| Failed::Asking(error.to_string()))?;
    let (mut line, _) = connect::open(question.backend, question.limit()).await?;
    if let Some(tls) = tls {
        line = tls.begin(line).await?;
    }
    let (sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(line))
        .await
        .map_err(|error| failed(&error))?;
    let mut exchange = pin!(exchange(sender, request, check));
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        // Its end, good or bad, is told to whoever waits for an answer.
        _ = connection => {}
    }
    exchange.await
}

async fn exchange(
    mut sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
) -> Result<Answer, Failed> {
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status().as_u16();
    if !check.status.contains(status) {
        return Err(Failed::Answer(format!("HTTP {status}, expected {}", check.status)));
    }
    if let Some(text) = &check.body {
        look_for(text, answer.into_body()).await?;
    }
    Ok(Answer::new(format!("HTTP {status}")))
}

/// Looks for a text in the content of an answer as it comes.
async fn look_for(text: &str, mut body: Incoming) -> Result<(), Failed> {
    let mut search = Search::of(text.as_bytes());
    let mut left = BODY_MAX;
    while !search.has_found() {
        let Some(frame) = body.frame().await else {
            return Err(Failed::Answer(format!("body does not contain {}", quoted(text))));
        };
        let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
        search.feed(data.get(..left).unwrap_or(&data));
        left = left.saturating_sub(data.len());
        if left == 0 && !search.has_found() {
            let size = BODY_MAX / (1024 * 1024);
            return Err(Failed::Answer(format!(
                "body does not contain {} in its first {size} MiB",
                quoted(text)
            )));
        }
    }
    Ok(())
}

fn request(question: &Question, check: &HttpCheck) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let host = check.host.clone().unwrap_or_else(|| authority(question, check.tls.is_some()));
    Request::builder()
        .method(Method::from_bytes(check.method.as_bytes())?)
        .uri(&check.path)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
}

/// The service as a client has it in its URL (RFC 3986, 3.2); a Unix socket has no address: `localhost`.
fn authority(question: &Question, tls: bool) -> String {
    let ServiceKey { address, port, .. } = question.service;
    let port = if port == 0 { question.backend.port().unwrap_or_default() } else { port };
    let usual = if tls { 443 } else { 80 };
    match address {
        VipAddress::Unix(_) => "localhost".into(),
        VipAddress::Ip(ip) if port == usual && ip.is_ipv6() => format!("[{ip}]"),
        VipAddress::Ip(ip) if port == usual => ip.to_string(),
        VipAddress::Ip(ip) => std::net::SocketAddr::new(ip, port).to_string(),
    }
}

/// A text as a reason repeats it.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// What went wrong on the connection: with the answer's form, with TLS, or with what carries both.
fn failed(error: &hyper::Error) -> Failed {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Failed::answer(&io::ErrorKind::UnexpectedEof.into());
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match io {
        Some(io) if tls::is_of_tls(io) => tls::failed(io),
        // What hyper finds wrong with chunks.
        Some(io) if [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput].contains(&io.kind()) => {
            Failed::Answer(format!("not HTTP: {io}"))
        }
        Some(io) => Failed::answer(io),
        None => Failed::Answer(format!("not HTTP: {error}")),
    }
}
