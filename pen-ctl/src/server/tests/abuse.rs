//! Clients that are slow, greedy, broken or many: each is cut off or refused, and the next is answered.

use std::time::Duration;

use super::*;

/// A moment, for limits that a test waits for; nothing is asserted of how long things take.
const SOON: Duration = Duration::from_millis(50);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(600);

/// Limits of which none is a matter of time.
const PATIENT: Limits =
    Limits { header_time: NEVER, body_time: NEVER, answer_time: NEVER, write_time: NEVER, ..Limits::LOCAL };

impl Server {
    fn with(local: Limits) -> Server {
        Server::within(local, Limits::NETWORK)
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Says this and reads until the server closes; what was answered until then.
    async fn tell(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // Who is refused in the midst may not get rid of everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        rest(&mut stream).await
    }

    /// The API answers.
    #[track_caller]
    fn answers(&self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let (status, _, answer) = http(&self.socket, "GET", "/v1/services", "").await;
            assert_eq!(status, 200, "{place}: {answer}");
        }
    }
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// The body of the only answer.
fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}")).1
}

const POST: &str = "POST /v1/services HTTP/1.1\r\nHost: pen\r\n";

#[tokio::test]
async fn a_header_that_never_ends_is_not_waited_for() {
    let server = Server::with(Limits { header_time: SOON, ..PATIENT });
    for begun in ["", "G", "GET /v1/status HTTP/1.1\r\nHost: pen\r\nX-Slow: "] {
        server.tell(begun).await;
    }
    // Nor is a second request on a connection that goes idle.
    let answer = server.tell("GET /v1/services HTTP/1.1\r\nHost: pen\r\n\r\n").await;
    assert_eq!(status_of(&answer), "200");
    server.answers().await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let server = Server::with(Limits { body_time: SOON, ..PATIENT });
    for begun in ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"nam"] {
        let answer = server.tell(format!("{POST}{begun}")).await;
        assert_eq!(status_of(&answer), "408", "{answer}");
        assert!(error_of(body_of(&answer)).to_string().contains("50ms"), "{answer}");
    }
    assert_eq!(server.asked(), []);
    server.answers().await;
}

#[tokio::test]
async fn who_never_reads_the_answers_is_let_go() {
    let server = Server::with(Limits { write_time: SOON, ..PATIENT });
    let mut stream = server.connect().await;
    // More requests than their answers find room in between; in the end nobody takes them any more.
    let request = "GET /v1/services HTTP/1.1\r\nHost: pen\r\n\r\n".repeat(100);
    while stream.write_all(request.as_bytes()).await.is_ok() {}
    server.answers().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pen.sock");
    let (_bound, listener) = BoundSocket::bind(&socket).unwrap();
    // Calls arrive and are never answered.
    let (handle, _calls) = ControllerHandle::new();
    let limits = Limits { answer_time: SOON, ..PATIENT };
    let ending = std::future::pending();
    tokio::spawn(serve_within(listener, Door::default(), handle, ending, (limits, Limits::NETWORK)));
    let (status, _, answer) = http(&socket, "DELETE", "/v1/services/web", "").await;
    let error = error_of(&answer);
    assert_eq!((status, error.code), (503, ErrorCode::Busy));
    assert!(error.hint.contains("may still be done"), "{error}");
}

#[tokio::test]
async fn a_thousand_idle_connections_go_and_the_next_one_is_answered() {
    let server = Server::with(Limits { connections: 200, header_time: Duration::from_secs(3), ..PATIENT });
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(server.connect().await);
    }
    // Those beyond the limit are closed, with a word for some of them.
    let mut told = 0;
    for stream in &mut idle[200..] {
        let answer = rest(stream).await;
        if !answer.is_empty() {
            assert_eq!((status_of(&answer), error_of(body_of(&answer)).code), ("503", ErrorCode::Busy));
            told += 1;
        }
    }
    assert!(told > 0);
    // The first go when their time for a header is over, though they are still open here.
    while http(&server.socket, "GET", "/v1/services", "").await.0 != 200 {
        tokio::time::sleep(SOON).await;
    }
    drop(idle);
    server.answers().await;
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused() {
    let server = Server::with(PATIENT);
    let long = "x".repeat(Limits::LOCAL.header_bytes);
    let many: String = (0..=Limits::LOCAL.header_fields).map(|n| format!("X-{n}: 1\r\n")).collect();
    for head in [
        format!("GET /v1/services HTTP/1.1\r\nHost: pen\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /v1/services HTTP/1.1\r\nHost: pen\r\n{many}\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: pen\r\n\r\n"),
    ] {
        let answer = server.tell(head).await;
        assert!(["414", "431"].contains(&status_of(&answer)), "{answer}");
    }
    server.answers().await;
}

#[tokio::test]
async fn json_that_is_nested_too_deep_is_refused() {
    let server = Server::with(PATIENT);
    // serde_json follows 127 levels; what is skipped or kept as it is counts, too.
    for depth in [128, 100_000] {
        let deep = format!("{{\"health\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let (status, _, answer) = http(&server.socket, "POST", "/v1/services", &deep).await;
        assert_eq!((status, error_of(&answer).code), (400, ErrorCode::Invalid), "{answer}");
    }
    let deep = format!("{{\"unknown\":{}{}}}", "{\"a\":".repeat(5000), "}".repeat(5000));
    assert_eq!(http(&server.socket, "PUT", "/v1/interfaces/eth0", &deep).await.0, 400);
    assert_eq!(server.asked(), []);
    server.answers().await;
}

#[tokio::test]
async fn bodies_have_bounded_room_all_together() {
    let room = 64 << 10;
    let server = Server::with(Limits { bodies_bytes: room, ..PATIENT });
    // One that fills most of the room and does not end.
    let mut first = server.connect().await;
    let head = format!("{POST}Content-Length: {room}\r\n\r\n");
    first.write_all(head.as_bytes()).await.unwrap();
    first.write_all(&vec![b' '; room - 4096]).await.unwrap();
    // Another finds too little until the first has gone.
    let large = format!("{}{{\"name\":\"web\"}}", " ".repeat(room / 2));
    let mut refused = 0;
    while http(&server.socket, "POST", "/v1/services", &large).await.0 != 503 {
        // What was written to it may not have arrived yet.
        tokio::task::yield_now().await;
        refused += 1;
        assert!(refused < 10_000, "never full");
    }
    server.answers().await;
    drop(first);
    while http(&server.socket, "POST", "/v1/services", &large).await.0 == 503 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_not_http_is_answered_with_400_or_not_at_all() {
    let server = Server::with(PATIENT);
    for garbage in [
        "\0\u{1}\u{2}\r\n\r\n".as_bytes(),
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ] {
        let answer = server.tell(garbage).await;
        let text = String::from_utf8_lossy(garbage);
        assert!(["400", "505", "none"].contains(&status_of(&answer)), "{text}: {answer}");
    }
    assert_eq!(server.asked(), []);
    server.answers().await;
}

#[tokio::test]
async fn requests_may_come_in_a_row_and_are_answered_in_their_order() {
    let server = Server::with(PATIENT);
    let answer = server
        .tell(
            "GET /v1/services HTTP/1.1\r\nHost: pen\r\n\r\nGET /v1/nothing HTTP/1.1\r\nHost: pen\r\n\r\n\
             POST /v1/services HTTP/1.1\r\nHost: pen\r\nContent-Length: 14\r\n\r\n{\"name\":\"web\"}\
             GET /v1/interfaces HTTP/1.1\r\nHost: pen\r\nConnection: close\r\n\r\n",
        )
        .await;
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|one| &one[..3]).collect();
    assert_eq!(statuses, ["200", "404", "201", "200"], "{answer}");
    assert_eq!(server.asked().len(), 3);
    server.answers().await;
}

#[tokio::test]
async fn who_has_said_everything_may_close_that_half() {
    let server = Server::with(PATIENT);
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/services HTTP/1.1\r\nHost: pen\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(status_of(&rest(&mut stream).await), "200");
    // In the midst of a body that is not everything.
    let mut stream = server.connect().await;
    stream.write_all(format!("{POST}Content-Length: 9\r\n\r\n{{").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(["400", "none"].contains(&status_of(&answer)), "{answer}");
    server.answers().await;
}

#[tokio::test]
async fn http_1_0_and_chunked_bodies_are_understood() {
    let server = Server::with(PATIENT);
    let answer = server.tell("GET /v1/services HTTP/1.0\r\n\r\n").await;
    assert_eq!(body_of(&answer), r#"{"services":[]}"#);
    let answer = server
        .tell(format!(
            "{POST}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n6\r\n{{\"name\r\n8;x=y\r\n\":\"web\"}}\r\n0\r\n\r\n"
        ))
        .await;
    assert_eq!(status_of(&answer), "201", "{answer}");
    let spec = ServiceSpec { name: Some("web".into()), ..ServiceSpec::default() };
    assert_eq!(server.asked(), [Request::ServiceList, Request::ServiceAdd(spec)]);
    server.answers().await;
}

/// A place where accepting fails so many times before it goes well.
struct Failing {
    left: usize,
    listener: UnixListener,
}

impl connection::Listener for Failing {
    type Stream = hangup::Watchable;

    async fn accept(&mut self) -> std::io::Result<(hangup::Watchable, peer::Peer)> {
        // EMFILE, accept(2).
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return Err(std::io::Error::from_raw_os_error(24));
        }
        connection::Listener::accept(&mut self.listener).await
    }
}

#[tokio::test]
async fn too_many_open_files_are_waited_out() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pen.sock");
    let (_bound, listener) = BoundSocket::bind(&socket).unwrap();
    let (handle, _calls) = ControllerHandle::new();
    let limits = Limits { accept_pause: Duration::from_millis(1), ..PATIENT };
    let (_over, ended) = watch::channel(false);
    let app = app(handle, limits);
    tokio::spawn(connection::accept_all(Failing { left: 5, listener }, app, limits, ended));
    assert_eq!(http(&socket, "GET", "/nothing", "").await.0, 404);
}
