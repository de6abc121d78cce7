//! The API as it is spoken over a real Unix socket, to a controller that writes down what it is asked.

mod clients;
mod conditions;
mod events;
mod metrics;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

mod abuse;
mod network;
#[cfg(target_os = "linux")]
mod users;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::limits::LONGEST_BODY;
use super::socket::BoundSocket;
use super::*;
use crate::api::document::{BackendList, ChangeDocument, InterfaceList, ServiceList, StatusDocument};
use crate::api::{Answered, ApiError, Asked, ErrorCode, ErrorDocument, Interfaces, Reply, Request};
use crate::controller::{self, Controller, Options, SystemClock};
use crate::dataplane::AttachMode;
use crate::dataplane::fake::FakePlane;
use crate::state::desired::{Desired, InterfaceSpec};
use crate::state::revision::{Condition, Revision};
use crate::state::spec::{BackendSpec, ServiceSpec};
use crate::state::store::Store;
use crate::surroundings::{Event, Link, Links, Probe, Surroundings, Watched};

type Written = Arc<Mutex<Vec<Asked>>>;

/// A server with a scripted controller behind it.
struct Server {
    socket: PathBuf,
    door: Door,
    asked: Written,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
    _bound: BoundSocket,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        Server::within(Limits::LOCAL, Limits::NETWORK)
    }

    fn within(local: Limits, network: Limits) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("pen.sock");
        let (bound, listener) = BoundSocket::bind(&socket).unwrap();
        let (handle, mut calls) = ControllerHandle::new();
        let asked = Written::default();
        let written = asked.clone();
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                written.lock().unwrap().push(call.asked.clone());
                let _ = call.answer.send(
                    scripted(&call.asked.request).map(|reply| Answered { reply, revision: revision() }),
                );
            }
        });
        let (end, ended) = oneshot::channel();
        let (door, end_of_it) = (Door::default(), async { drop(ended.await) });
        let task = tokio::spawn(serve_within(listener, door.clone(), handle, end_of_it, (local, network)));
        Server { socket, door, asked, end, task, _bound: bound, _dir: dir }
    }

    fn asked(&self) -> Vec<Request> {
        self.written().into_iter().map(|asked| asked.request).collect()
    }

    fn conditions(&self) -> Vec<Condition> {
        self.written().into_iter().map(|asked| asked.condition).collect()
    }

    fn written(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Of the state that the scripted controller says it has.
fn revision() -> Revision {
    Revision::of(&Desired::new(1))
}

fn scripted(request: &Request) -> Result<Reply, ApiError> {
    match request {
        Request::ServiceAdd(ServiceSpec { name: Some(name), .. }) if name == "taken" => {
            Err(ApiError::new(ErrorCode::Exists, "there is a service taken already", "choose another name"))
        }
        Request::Status => Ok(Reply::Status(Box::new(status()))),
        Request::ServiceList => Ok(Reply::Services(ServiceList { services: Vec::new() })),
        Request::BackendList { .. } => Ok(Reply::Backends(BackendList { backends: Vec::new() })),
        Request::InterfaceList | Request::Attach(_) => {
            Ok(Reply::Interfaces(InterfaceList { interfaces: Vec::new() }))
        }
        _ => Ok(Reply::Changed(ChangeDocument::default())),
    }
}

/// Of a controller that has nothing to do.
fn status() -> StatusDocument {
    let document = serde_json::json!({
        "controller": {
            "version": "1.2.3", "pid": 7, "dataplane": "xdp", "uptime_seconds": 61, "file_differs": false,
            "seed": "00000000c0ffee00"
        },
        "interfaces": [], "services": [], "warnings": [],
        "tracking": {"v4": {"used": 0, "max": 0}, "v6": {"used": 0, "max": 0}, "age_seconds": null},
        "packets": {"received": 0, "forwarded": 0, "answered": {}, "passed": {}, "dropped": {}},
    });
    serde_json::from_value(document).unwrap()
}

/// What comes until the server closes, or breaks off.
async fn rest(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(answer).unwrap()
}

/// Sends a request as bytes; gives the status (0: no answer), the headers and the body.
async fn http(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String, String) {
    http_with(socket, method, path, "", body).await
}

/// The same with more headers, each with its end of line.
async fn http_with(socket: &Path, method: &str, path: &str, more: &str, body: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: pen\r\nConnection: close\r\n{more}");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    // A body that is refused for its length is answered before it was read.
    let _ = stream.write_all(request.as_bytes()).await;
    let text = rest(&mut stream).await;
    let Some((headers, body)) = text.split_once("\r\n\r\n") else {
        return (0, String::new(), text);
    };
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    (status, headers.to_lowercase(), body.to_owned())
}

fn error_of(body: &str) -> ApiError {
    serde_json::from_str::<ErrorDocument>(body).unwrap_or_else(|error| panic!("{error}: {body}")).error
}

#[tokio::test]
async fn every_route_asks_the_controller_for_what_it_says() {
    let server = Server::start();
    let name = || "web".to_owned();
    let address = "2001:db8::1".parse().unwrap();
    let weight = BackendSpec { weight: Some(2), ..BackendSpec::default() };
    let spec = ServiceSpec { name: Some(name()), ..ServiceSpec::default() };
    let interface = |name: &str| InterfaceSpec { name: name.into(), mode: AttachMode::Auto, announce: true };
    let generic = InterfaceSpec { mode: AttachMode::Generic, announce: false, ..interface("eth1") };
    let routes = [
        ("GET", "/v1/status", "", Request::Status),
        ("GET", "/v1/services", "", Request::ServiceList),
        ("POST", "/v1/services", r#"{"name":"web"}"#, Request::ServiceAdd(spec.clone())),
        ("GET", "/v1/services/web", "", Request::ServiceShow { name: name() }),
        (
            "PATCH",
            "/v1/services/w%C3%BC%2F",
            r#"{"name":"web"}"#,
            Request::ServiceSet { name: "wü/".into(), spec },
        ),
        ("DELETE", "/v1/services/web", "", Request::ServiceRemove { name: name() }),
        ("GET", "/v1/services/web/backends", "", Request::BackendList { service: Some(name()) }),
        ("GET", "/v1/backends", "", Request::BackendList { service: None }),
        (
            "POST",
            "/v1/services/web/backends",
            r#"{"weight":2}"#,
            Request::BackendAdd { service: name(), spec: weight.clone() },
        ),
        (
            "PATCH",
            "/v1/services/web/backends/2001:DB8::1",
            r#"{"weight":2}"#,
            Request::BackendSet { service: name(), address, spec: weight },
        ),
        (
            "DELETE",
            "/v1/services/web/backends/2001:db8::1",
            "",
            Request::BackendRemove { service: name(), address },
        ),
        (
            "DELETE",
            "/v1/services/web/backends/2001:db8::1?drain=10m",
            "",
            Request::BackendDrain { service: name(), address, within: std::time::Duration::from_secs(600) },
        ),
        ("GET", "/v1/interfaces", "", Request::InterfaceList),
        (
            "POST",
            "/v1/interfaces",
            r#"{"interfaces":[{"name":"eth0"}]}"#,
            Request::Attach(vec![interface("eth0")]),
        ),
        ("PUT", "/v1/interfaces/eth0", "", Request::Attach(vec![interface("eth0")])),
        (
            "PUT",
            "/v1/interfaces/eth1",
            r#"{"mode":"generic","announce":false}"#,
            Request::Attach(vec![generic]),
        ),
        ("DELETE", "/v1/interfaces/eth0", "", Request::Detach(Interfaces::Named(vec!["eth0".into()]))),
        ("DELETE", "/v1/interfaces", "", Request::Detach(Interfaces::All)),
        ("POST", "/v1/reload", "", Request::Reload),
        ("POST", "/v1/stop", "", Request::Stop { detach: false }),
        ("POST", "/v1/stop", r#"{"detach":true}"#, Request::Stop { detach: true }),
    ];
    for (method, path, body, request) in routes {
        let (status, headers, answer) = http(&server.socket, method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        assert!(headers.contains("content-type: application/json"), "{method} {path}: {headers}");
        assert_eq!(server.asked(), [request], "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_before_the_controller_hears_of_it() {
    let server = Server::start();
    let long = " ".repeat(LONGEST_BODY + 1);
    for (method, path, body, status, word) in [
        ("GET", "/nothing", "", 404, "there is no /nothing"),
        ("GET", "/v2/status", "", 404, "/v2/status"),
        ("PUT", "/v1/services", "", 405, "PUT cannot be asked of /v1/services"),
        ("POST", "/v1/services", "", 400, "not JSON"),
        ("POST", "/v1/services", "{", 400, "not JSON"),
        ("POST", "/v1/services", " []", 400, "array"),
        ("POST", "/v1/services", r#"{"nmae":"web"}"#, 400, "nmae"),
        ("POST", "/v1/services", r#"{"vip":"10.0.0.1:80"}"#, 400, "no protocol"),
        ("POST", "/v1/services", r#"{"health":"ping"}"#, 400, "unknown health check `ping`"),
        ("POST", "/v1/services", long.as_str(), 413, "16777216"),
        ("PATCH", "/v1/services/web/backends/nonsense", "{}", 400, "neither an IP address"),
        ("PATCH", "/v1/services/%ff", "{}", 400, ""),
        ("POST", "/v1/stop", r#"{"detatch":true}"#, 400, "detatch"),
    ] {
        let (found, _, answer) = http(&server.socket, method, path, body).await;
        let error = error_of(&answer);
        assert_eq!(found, status, "{method} {path}: {error}");
        assert!(error.to_string().contains(word), "{method} {path}: {error}");
        assert_eq!(server.asked(), [], "{method} {path}");
    }
}

#[tokio::test]
async fn the_controllers_refusal_comes_with_its_status_and_hint() {
    let server = Server::start();
    let (status, _, answer) = http(&server.socket, "POST", "/v1/services", r#"{"name":"taken"}"#).await;
    assert_eq!(status, 409);
    assert_eq!(
        answer,
        r#"{"error":{"code":"exists","message":"there is a service taken already","hint":"choose another name"}}"#
    );
    let (status, _, answer) = http(&server.socket, "GET", "/v1/interfaces/eth7", "").await;
    assert_eq!((status, error_of(&answer).code), (404, ErrorCode::NotFound));
    let (status, _, answer) = http(&server.socket, "GET", "/v1/services/web/backends/10.0.0.1", "").await;
    assert_eq!((status, error_of(&answer).code), (404, ErrorCode::NotFound));
}

#[tokio::test]
async fn garbage_on_the_socket_harms_nobody() {
    let server = Server::start();
    for garbage in
        ["\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "POST /v1/stop HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
    {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    assert_eq!(server.asked(), []);
    assert_eq!(http(&server.socket, "GET", "/v1/services", "").await.0, 200);
}

#[tokio::test]
async fn what_was_begun_is_finished_at_the_end() {
    let server = Server::start();
    // An idle connection does not hold it up.
    let _idle = UnixStream::connect(&server.socket).await.unwrap();
    assert_eq!(http(&server.socket, "GET", "/v1/services", "").await.0, 200);
    server.end.send(()).unwrap();
    server.task.await.unwrap();
}

/// A machine without interfaces, on which nothing happens.
struct Nowhere;

impl Surroundings for Nowhere {
    fn watch(&mut self, _: BTreeSet<Watched>) {}
    fn probe(&mut self, _: Vec<Probe>) {}
    fn announce(&mut self, _: &Link, _: &[IpAddr]) {}
    fn withdraw(&mut self, _: &Link, _: &[IpAddr]) {}
}

#[tokio::test]
async fn services_and_backends_are_made_changed_and_removed_by_a_real_controller() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, state) = (dir.path().join("pen.sock"), dir.path().join("state"));
    let (_bound, listener) = BoundSocket::bind(&socket).unwrap();
    let plane = FakePlane::default();
    let clock = Box::new(SystemClock::start());
    let store = Store::open(&state).unwrap();
    let controller =
        Controller::new(store, Box::new(plane.clone()), Box::new(Nowhere), clock, Options::default());
    let (handle, calls) = ControllerHandle::new();
    let (events, heard) = mpsc::channel(1);
    events.send(Event::Links(Links::new())).await.unwrap();
    let controller = tokio::spawn(controller::serve(controller, calls, heard));
    tokio::spawn(serve(listener, Door::default(), handle, std::future::pending()));

    let web = r#"{"name":"web","vip":"10.0.0.100:80/tcp"}"#;
    let steps = [
        ("POST", "/v1/services", web, 201, r#""vip":"10.0.0.100:80/tcp""#),
        ("POST", "/v1/services", web, 409, r#""code":"exists""#),
        ("PATCH", "/v1/services/web", r#"{"tracking_timeout":"1h"}"#, 200, r#""tracking_timeout":"1h""#),
        ("GET", "/v1/services/web", "", 200, r#""tracking_timeout":"1h""#),
        ("PATCH", "/v1/services/wbe", r#"{"tracking_timeout":"1h"}"#, 404, "wbe"),
        ("POST", "/v1/services/web/backends", r#"{"address":"10.0.0.11"}"#, 201, r#""serving":false"#),
        ("POST", "/v1/services/web/backends", r#"{"address":"10.0.0.11"}"#, 409, "10.0.0.11"),
        ("POST", "/v1/services/web/backends", r#"{"address":"10.0.0.100"}"#, 400, "10.0.0.100"),
        ("POST", "/v1/services/web/backends", r#"{"address":"2001:db8::1"}"#, 400, "2001:db8::1"),
        ("PATCH", "/v1/services/web/backends/10.0.0.11", r#"{"weight":1001}"#, 400, "1000"),
        ("PATCH", "/v1/services/web/backends/10.0.0.11", r#"{"state":"drain"}"#, 200, r#""state":"drain""#),
        ("GET", "/v1/services/web/backends/10.0.0.11", "", 200, r#""state":"drain""#),
        ("GET", "/v1/status", "", 200, r#""dataplane":"fake""#),
        ("POST", "/v1/reload", "", 400, "without a file"),
        ("DELETE", "/v1/services/web/backends/10.0.0.12", "", 404, "10.0.0.12"),
        ("DELETE", "/v1/services/web/backends/10.0.0.11", "", 200, r#""changed":true"#),
        ("DELETE", "/v1/services/web", "", 200, r#""changed":true"#),
        ("GET", "/v1/services", "", 200, r#"{"services":[]}"#),
    ];
    for (method, path, body, status, says) in steps {
        let (found, _, answer) = http(&socket, method, path, body).await;
        assert_eq!(found, status, "{method} {path} {body}: {answer}");
        assert!(answer.contains(says), "{method} {path} {body}: {answer}");
    }
    assert!(!plane.lock().operations.is_empty());

    assert_eq!(http(&socket, "POST", "/v1/stop", "").await.0, 200);
    controller.await.unwrap();
    // What comes after is told that nobody is there.
    assert_eq!(http(&socket, "GET", "/v1/status", "").await.0, 503);
}
