//! What followers of events get over a real socket, however they read.

use super::*;
use crate::api::event::{EventList, Kind};
use crate::client::Client;
use crate::client::sse::{Parser, ServerSent};
use crate::journal::{Journal, KEPT, Note};

/// A server whose controller says nothing by itself.
struct Listening {
    socket: PathBuf,
    journal: Journal,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
    _calls: mpsc::Receiver<controller::Call>,
    _bound: BoundSocket,
    _dir: tempfile::TempDir,
}

impl Listening {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("pen.sock");
        let (bound, listener) = BoundSocket::bind(&socket).unwrap();
        let (handle, calls) = ControllerHandle::new();
        let journal = handle.journal().clone();
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Door::default(), handle, async { drop(ended.await) }));
        Self { socket, journal, end, task, _calls: calls, _bound: bound, _dir: dir }
    }

    fn note(&self, kind: Kind, service: &str, message: &str) {
        self.journal.note(Note { service: Some(service.to_owned()), ..Note::new(kind, message) });
    }

    async fn list(&self, query: &str) -> Vec<u64> {
        let (status, _, body) = http(&self.socket, "GET", &format!("/v1/events{query}"), "").await;
        assert_eq!(status, 200, "{query}: {body}");
        let list: EventList = serde_json::from_str(&body).unwrap();
        assert_eq!(list.start, self.journal.start());
        list.events.iter().map(|event| event.id).collect()
    }

    /// Asks to follow, and reads nothing yet.
    async fn connect(&self, more_headers: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let head = "GET /v1/events HTTP/1.1\r\nHost: pen\r\nAccept: text/event-stream\r\n";
        stream.write_all(format!("{head}{more_headers}\r\n").as_bytes()).await.unwrap();
        stream
    }
}

/// Reads an answer until `enough` says so; gives the header and the body without its chunk headers.
async fn read_until(stream: &mut UnixStream, enough: impl Fn(&str) -> bool) -> String {
    let (mut text, mut piece) = (String::new(), [0; 65_536]);
    while !enough(&text) {
        let length = stream.read(&mut piece).await.unwrap();
        assert_ne!(length, 0, "closed after: {text}");
        text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    text
}

#[tokio::test]
async fn the_newest_events_are_a_document_that_may_be_asked_for_in_part() {
    let server = Listening::start();
    server.note(Kind::Serving, "web", "");
    server.note(Kind::Health, "dns", "up");
    server.note(Kind::NotServing, "web", "connection refused");
    assert_eq!(server.list("").await, [1, 2, 3]);
    assert_eq!(server.list("?limit=1").await, [3]);
    assert_eq!(server.list("?service=web").await, [1, 3]);
    assert_eq!(server.list("?kind=health,serving").await, [1, 2]);
    assert_eq!(server.list("?since=2").await, [3]);
    assert_eq!(server.list(&format!("?since={}-1&service=dns", server.journal.start())).await, [2]);
    for (query, says) in [
        ("?kind=healthy", "not_serving"),
        ("?limit=-1", "limit"),
        ("?since=now", "`now`"),
        ("?sevice=web", "sevice"),
    ] {
        let (status, _, body) = http(&server.socket, "GET", &format!("/v1/events{query}"), "").await;
        assert_eq!((status, error_of(&body).code), (400, ErrorCode::Invalid), "{query}");
        assert!(body.contains(says), "{query}: {body}");
    }
    assert_eq!(http(&server.socket, "POST", "/v1/events", "").await.0, 405);
}

#[tokio::test]
async fn server_sent_events_have_an_id_a_type_and_a_document() {
    let server = Listening::start();
    server.note(Kind::Serving, "web", "before");
    let mut stream = server.connect("").await;
    let head = read_until(&mut stream, |text| text.contains("\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    server.note(Kind::NotServing, "web", "connection refused");
    let text = read_until(&mut stream, |text| text.contains("\n\n")).await;
    let id = format!("id: {}-2\n", server.journal.start());
    for line in ["event: not_serving\n", &id, "data: {\"id\":2,", "\"message\":\"connection refused\""] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
    assert!(!text.contains("before"), "{text}");
}

#[tokio::test]
async fn a_follower_resumes_where_it_was_and_hears_all_of_another_controller() {
    let server = Listening::start();
    for message in ["one", "two", "three"] {
        server.note(Kind::Change, "web", message);
    }
    let heard_after = async |last_id: &str| {
        let mut stream =
            Client::new(server.socket.clone()).follow("/v1/events?limit=1", last_id).await.unwrap();
        let ServerSent { data, .. } = stream.next().await.unwrap();
        serde_json::from_str::<crate::api::event::EventDocument>(&data).unwrap().message
    };
    assert_eq!(heard_after(&format!("{}-1", server.journal.start())).await, "two");
    assert_eq!(heard_after("0000-2").await, "one", "the id of a controller that ended");
    assert_eq!(heard_after("").await, "three", "the newest, as the limit says");
}

#[tokio::test]
async fn one_who_never_reads_holds_up_nobody_and_is_told_what_was_missed() {
    let server = Listening::start();
    let mut lazy = server.connect("").await;
    read_until(&mut lazy, |text| text.contains("\r\n\r\n")).await;
    let mut eager = Client::new(server.socket.clone()).follow("/v1/events", "").await.unwrap();
    let (mut noted, long) = (0, "x".repeat(500));
    // More than the socket's buffers and the ring together take.
    for _ in 0..40 {
        for _ in 0..KEPT / 8 {
            server.note(Kind::Change, "web", &long);
            noted += 1;
        }
        for _ in 0..KEPT / 8 {
            assert_eq!(eager.next().await.unwrap().event, "change", "whoever reads misses nothing");
        }
    }
    assert_eq!(server.list("?limit=1").await, [noted]);

    // Once it reads after all, it hears of the gap and then of all that is kept.
    let text = read_until(&mut lazy, |text| text.contains(&format!("-{noted}\n"))).await;
    let mut parser = Parser::default();
    // Chunk headers have no colon: they are fields that mean nothing.
    let events = parser.feed(text.replace("\r\n", "\n").as_bytes()).unwrap();
    let missed: Vec<&ServerSent> = events.iter().filter(|event| event.event == "missed").collect();
    assert!(matches!(missed[..], [one] if one.data.starts_with("{\"missed\":")), "{missed:?}");
}

#[tokio::test]
async fn following_does_not_hold_up_the_end() {
    let server = Listening::start();
    let mut follower = Client::new(server.socket.clone()).follow("/v1/events", "").await.unwrap();
    server.journal.note(Note::new(Kind::Ending, "the controller ends"));
    server.end.send(()).unwrap();
    server.task.await.unwrap();
    assert_eq!(follower.next().await.unwrap().event, "ending");
    assert_eq!(follower.next().await, None);
    assert!(follower.last_id().ends_with("-1"));
}
