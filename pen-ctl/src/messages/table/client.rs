//! The socket, from both ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::super::stage::Stage;
use super::super::{Row, refused, row};
use crate::client::ClientError;
use crate::server::socket::{BoundSocket, SocketError};

const START: &str = "start one with `pen-ctl attach IFACE` or `pen-ctl run`";
const OTHER: &str = "give a controller's with --socket";

pub(super) fn rows() -> Vec<Row> {
    [nobody(), somebody_else(), making_one()].into_iter().flatten().collect()
}

fn nobody() -> Vec<Row> {
    let stage = Stage::empty();
    let on = stage.socket().display().to_string();
    let mut rows = vec![stage.typed(
        "status",
        "no controller answers",
        format!("on {on}: there is no such socket"),
        START,
    )];
    drop(UnixListener::bind(stage.socket()).unwrap());
    rows.push(stage.typed("status", "it was left behind by one that died", on, START));
    // It takes another user, and a minute.
    let socket = PathBuf::from("/run/pen/pen.sock");
    rows.push(row(
        ClientError::PermissionDenied(socket.clone()),
        "permission denied",
        "/run/pen/pen.sock",
        "become root, or join the group pen to look",
    ));
    rows.push(row(
        ClientError::NoController { socket, why: "silent for 60 s".into() },
        "silent for 60 s",
        "/run/pen/pen.sock",
        START,
    ));
    rows
}

/// Something that is no controller answers.
fn somebody_else() -> Vec<Row> {
    let answering = |answer: &'static str, words: &str, what, to_do: &'static str| {
        let stage = Stage::empty();
        let listener = UnixListener::bind(stage.socket()).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        });
        let on = stage.socket().display().to_string();
        stage.typed(words, what, on, to_do)
    };
    let not = |head: &'static str, words: &str, what| answering(head, words, what, OTHER);
    vec![
        not("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "status", "is not a controller's: expected"),
        not(
            "HTTP/1.1 500 Odd\r\nContent-Length: 2\r\n\r\nhi",
            "status",
            "HTTP status 500 Internal Server Error without an error document",
        ),
        not(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "events --follow",
            "nothing instead of an event stream",
        ),
        answering("", "status", "connection closed before message completed", START),
    ]
}

fn making_one() -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let _first = BoundSocket::bind(&at("live")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    let bind = |name: &str, what, to_do: &'static str| {
        refused(BoundSocket::bind(&at(name)), what, at(name).display().to_string(), to_do)
    };
    vec![
        bind(
            "live",
            "a controller already answers on",
            "stop it first (pen-ctl stop), or give this one another --socket",
        ),
        bind("file", "exists and is not a socket", "remove it, or give another --socket"),
        bind("file/pen.sock", "make socket", "give another --socket"),
        row(
            SocketError::Live { path: "/run/pen/pen.sock".into(), pid: Some(7) },
            "already answers",
            "/run/pen/pen.sock (pid 7)",
            "stop it first",
        ),
    ]
}
