//! HTTP checks against small servers.

use std::net::Ipv6Addr;

use tokio::sync::mpsc;

use super::*;
use crate::check::Check;
use crate::dataplane::{BackendAddress, HealthStatus, Protocol};
use crate::health::Health;
use crate::health::testing::staged::{self, Server, Step, asked, hear, say, service};
use crate::health::tests::heard;
use crate::surroundings::{Hop, Probe};

const CLOSED: &str = "connection closed before an answer was whole";

/// A server that answers each request with these pieces, a moment apart, and closes.
async fn server(pieces: &[&str]) -> Server {
    let mut steps = vec![hear("\r\n\r\n")];
    for piece in pieces {
        steps.extend([say(piece), Step::Pause]);
    }
    Server::start(steps).await
}

fn good(what: &str) -> Result<String, String> {
    Ok(what.into())
}

fn bad(why: impl Into<String>) -> Result<String, String> {
    Err(why.into())
}

#[tokio::test]
async fn a_request_says_what_was_asked_for_and_no_more() {
    let server = server(&["HTTP/1.1 204 No Content\r\n\r\n"]).await;
    assert_eq!(asked(&server, "http,path=/healthz?deep=1,method=OPTIONS").await, good("HTTP 204"));
    let heard = server.heard();
    let mut lines = heard.trim_end().lines();
    assert_eq!(lines.next(), Some("OPTIONS /healthz?deep=1 HTTP/1.1"));
    let mut fields: Vec<_> = lines.map(str::to_lowercase).collect();
    fields.sort();
    let agent = format!("user-agent: {AGENT}");
    assert_eq!(fields, ["accept: */*", "connection: close", "host: 10.0.0.100", &agent]);
}

#[tokio::test]
async fn the_host_is_the_one_asked_for() {
    let server = server(&["HTTP/1.0 200\r\n\r\n"]).await;
    assert_eq!(asked(&server, "http,host=www.example.com:8080").await, good("HTTP 200"));
    assert!(server.heard().contains("Host: www.example.com:8080\r\n"), "{}", server.heard());
}

#[test]
fn else_the_host_is_the_service_as_a_url_has_it() {
    let host = |address: VipAddress, port, tls| {
        let service = ServiceKey { address, port, protocol: Protocol::Tcp };
        let backend = BackendAddress::Port("192.0.2.1:8080".parse().unwrap());
        authority(&staged::question(service, backend, "http"), tls)
    };
    let (v4, v6) = (service().address, VipAddress::from(Ipv6Addr::LOCALHOST));
    assert_eq!(host(v4, 80, false), "10.0.0.100");
    assert_eq!(host(v4, 443, true), "10.0.0.100");
    assert_eq!(host(v4, 80, true), "10.0.0.100:80");
    assert_eq!(host(v6, 80, false), "[::1]");
    assert_eq!(host(v6, 443, false), "[::1]:443");
    assert_eq!(host(v4, 0, false), "10.0.0.100:8080", "an every-port service: the port that is asked");
    assert_eq!(host(VipAddress::Unix("/run/app.sock".parse().unwrap()), 0, false), "localhost");
}

#[tokio::test]
async fn the_status_decides_and_a_redirect_is_a_status_like_any_other() {
    let sick = server(&["HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n"]).await;
    assert_eq!(asked(&sick, "http").await, bad("HTTP 503, expected 200-399"));
    assert_eq!(asked(&sick, "http,status=200 503").await, good("HTTP 503"));
    let moved = server(&["HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n"]).await;
    assert_eq!(asked(&moved, "http").await, good("HTTP 302"));
    assert_eq!(asked(&moved, "http,status=200").await, bad("HTTP 302, expected 200"));
    assert!(!moved.heard().contains("/other"), "it was followed");
}

#[tokio::test]
async fn content_is_looked_through_however_it_comes() {
    for pieces in [
        &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nI am fine"] as &[_],
        &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nI am f", "in", "e"],
        &["HTTP/1.1 200 OK\r\n\r\nI am fi", "ne"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nI am f\r\n", "3\r\nine\r\n0\r\n\r\n"],
    ] {
        let server = server(pieces).await;
        assert_eq!(asked(&server, "http,body=fine").await, good("HTTP 200"), "{pieces:?}");
        assert_eq!(
            asked(&server, "http,body=find").await,
            bad("body does not contain \"find\""),
            "{pieces:?}"
        );
    }
    let silent = server(&["HTTP/1.1 204 No Content\r\n\r\n"]).await;
    assert_eq!(asked(&silent, "http,body=fine").await, bad("body does not contain \"fine\""));
}

#[tokio::test]
async fn content_without_end_is_read_as_far_as_the_text_or_the_bound() {
    let head = "HTTP/1.1 200 OK\r\n\r\nfine";
    let endless = Server::start(vec![hear("\r\n\r\n"), say(head), Step::Stay]).await;
    assert_eq!(asked(&endless, "http,body=fine").await, good("HTTP 200"), "more was waited for");
    let huge = "x".repeat(BODY_MAX - 2);
    let much = Server::start(vec![hear("\r\n\r\n"), say(head), say(&huge), say("found"), Step::Stay]).await;
    assert_eq!(
        asked(&much, "http,body=found").await,
        bad("body does not contain \"found\" in its first 1 MiB")
    );
}

#[tokio::test]
async fn an_answer_that_ends_early_is_good_if_what_was_asked_for_had_come() {
    let cut = server(&["HTTP/1.1 200 OK\r\nContent-Le"]).await;
    assert_eq!(asked(&cut, "http").await, bad(CLOSED));
    let nothing = Server::start(vec![hear("\r\n\r\n")]).await;
    assert_eq!(asked(&nothing, "http").await, bad(CLOSED));
    for pieces in [
        &["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfi", "ne"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nfi", "ne"],
    ] {
        let server = server(pieces).await;
        assert_eq!(asked(&server, "http").await, good("HTTP 200"), "{pieces:?}");
        assert_eq!(asked(&server, "http,body=fine").await, good("HTTP 200"), "{pieces:?}");
        assert_eq!(asked(&server, "http,body=well").await, bad(CLOSED), "{pieces:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_said_to_be_none() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_MAX));
    for answer in ["SSH-2.0-OpenSSH_9.6\r\n", "\0\0\0\0\0\0\0\0", "HTTP/1.1 OK\r\n\r\n", &huge] {
        let server = server(&[answer, "\r\n\r\n"]).await;
        let why = asked(&server, "http").await.unwrap_err();
        assert!(why.starts_with("not HTTP: "), "{why}");
    }
    let chunks = server(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnine\r\n"]).await;
    let why = asked(&chunks, "http,body=x").await.unwrap_err();
    assert!(why.starts_with("not HTTP: "), "{why}");
}

#[tokio::test]
async fn a_slow_answer_is_good_and_one_that_is_never_whole_is_not() {
    let pieces: Vec<String> = "HTTP/1.1 200 OK\r\n\r\nfine".chars().map(String::from).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let slow = server(&pieces).await;
    assert_eq!(asked(&slow, "http,body=fine").await, good("HTTP 200"));

    let never = bad("no answer within 200 ms");
    let silent = Server::start(vec![Step::Stay]).await;
    assert_eq!(asked(&silent, "http,timeout=200ms").await, never);
    let head = Server::start(vec![say("HTTP/1.1 200 OK\r\n"), Step::Drip("X: y\r\n")]).await;
    assert_eq!(asked(&head, "http,timeout=200ms").await, never);
    let content = Server::start(vec![say("HTTP/1.1 200 OK\r\n\r\n"), Step::Drip("x")]).await;
    assert_eq!(asked(&content, "http,timeout=200ms,body=y").await, never);
}

#[tokio::test]
async fn an_answer_to_head_has_no_content_to_wait_for() {
    let steps = vec![hear("\r\n\r\n"), say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), Step::Stay];
    let server = Server::start(steps).await;
    assert_eq!(asked(&server, "http,method=HEAD").await, good("HTTP 200"));
}

#[tokio::test]
async fn a_backend_on_a_unix_socket_is_asked_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let steps = vec![hear("\r\n\r\n"), say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")];
    let server = Server::on_unix_socket(&path, steps);
    assert_eq!(asked(&server, "http,body=fine").await, good("HTTP 200"));
    drop(server);
    let gone = Server::on_unix_socket(&directory.path().join("other.sock"), vec![]);
    std::fs::remove_file(directory.path().join("other.sock")).unwrap();
    assert_eq!(asked(&gone, "http").await, bad("there is no such socket"));
}

#[tokio::test]
async fn a_backend_goes_down_with_the_reason_and_comes_up_again() {
    let (sender, mut events) = mpsc::channel(16);
    let mut health =
        Health::new(sender, crate::health::place::nowhere(), crate::metrics::timings::Timings::default());
    let answer = |status: &str| vec![hear("\r\n\r\n"), say(format!("HTTP/1.1 {status}\r\n\r\n"))];
    let server = Server::start(answer("200 OK")).await;
    let check = "http,interval=50ms,timeout=20s,fall=2,rise=2";
    let check = staged::question(service(), server.address, check).check;
    let check = Check { port: server.address.port(), ..check };
    let (key, address, initial) = (service(), server.address, HealthStatus::Unknown);
    health.probe(vec![Probe { key, address, check, hop: Hop::Own, initial }]);
    let (status, detail) = heard(&mut events).await;
    assert_eq!(status, HealthStatus::Up);
    assert!(detail.starts_with("HTTP 200 in "), "{detail}");

    server.becomes(answer("503 Sick"));
    let why = "HTTP 503, expected 200-399";
    assert_eq!(heard(&mut events).await, (HealthStatus::Up, why.into()), "fall is not reached");
    assert_eq!(heard(&mut events).await, (HealthStatus::Down, why.into()));
    server.becomes(answer("200 OK"));
    assert_eq!(heard(&mut events).await.0, HealthStatus::Down, "rise is not reached");
    assert_eq!(heard(&mut events).await.0, HealthStatus::Up);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn checks_leave_no_sockets_behind_even_when_they_close_first() {
    let steps = vec![hear("\r\n\r\n"), say("HTTP/1.1 200 OK\r\n\r\n"), hear("more")];
    let server = Server::start(steps).await;
    for _ in 0..5 {
        assert_eq!(asked(&server, "http").await, good("HTTP 200"));
    }
    let there = format!(":{:04X}", server.address.port().unwrap());
    let left = || {
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        sockets.filter(|socket| socket[2].ends_with(&there)).count()
    };
    assert_eq!(left(), 0, "in FIN_WAIT or TIME_WAIT");
}

#[test]
fn a_long_text_is_not_repeated_whole() {
    assert_eq!(quoted("a\nb"), "\"a\\nb\"");
    assert_eq!(quoted(&"ü".repeat(QUOTED + 1)), format!("\"{}\"…", "ü".repeat(QUOTED)));
}
