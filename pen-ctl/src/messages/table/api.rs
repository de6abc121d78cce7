//! The HTTP API: what is refused before the controller hears of it.

use super::super::stage::Stage;
use super::super::{Row, copied, refused};
use crate::server::peer::Peer;

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    [paths(stage), bodies(stage), users(), over_tcp(stage), too_much(stage)].into_iter().flatten().collect()
}

fn paths(stage: &Stage) -> Vec<Row> {
    vec![
        stage.asked(
            "GET /v1/nothing",
            "",
            "there is no",
            "/v1/nothing",
            "docs/control-path.md lists the paths",
        ),
        stage.asked(
            "PUT /v1/services",
            "",
            "cannot be asked of",
            "PUT cannot be asked of /v1/services",
            "see the Allow header",
        ),
        stage.asked(
            "GET /v1/services/%ff",
            "",
            "the path cannot be read",
            "name",
            "write it in UTF-8, percent-encoded",
        ),
        stage.asked(
            "GET /v1/services/web/backends/10.0.0.99",
            "",
            "has no backend",
            "service web has no backend 10.0.0.99",
            "`pen-ctl backend list web`",
        ),
        stage.asked(
            "GET /v1/history/abc",
            "",
            "is not the number of a state",
            "`abc`",
            "`pen-ctl history` shows those there are",
        ),
        stage.asked(
            "GET /v1/clients?sort=odd",
            "",
            "the query cannot be read",
            "sort",
            "name each key once, as key=value",
        ),
        stage.asked(
            "GET /v1/interfaces/eth7",
            "",
            "is not attached",
            "interface eth7",
            "`pen-ctl attach eth7`",
        ),
        stage.asked(
            "GET /v1/events?since=1&since=2",
            "",
            "the query cannot be read",
            "`since`",
            "name each key once, as key=value",
        ),
        stage.asked(
            "PUT /v1/config?odd=1",
            "",
            "the query cannot be read",
            "`odd`",
            "name each key once, as key=value",
        ),
    ]
}

fn bodies(stage: &Stage) -> Vec<Row> {
    vec![
        stage.asked(
            "POST /v1/services",
            "{",
            "the request is not JSON",
            "at line 1 column 1",
            "send a JSON object",
        ),
        stage.asked("POST /v1/services", "[]", "the body is a JSON array", "the body", "send a JSON object"),
        stage.asked("POST /v1/services", r#"{"nmae":"web"}"#, "unknown field", "`nmae`", "expected one of"),
    ]
}

fn users() -> Vec<Row> {
    let other = rustix::process::geteuid().as_raw() + 65_534;
    let remote = Peer::remote(([192, 0, 2, 7], 1000).into());
    vec![
        refused(
            Peer { uid: Some(other), ..Peer::UNKNOWN }.may_write(),
            "may look, but not change anything",
            format!("user {other}"),
            "become root",
        ),
        refused(Peer::UNKNOWN.may_write(), "the kernel does not say who asks", "who asks", "become root"),
        refused(
            remote.may_write(),
            "everybody may look, but not change anything",
            "over TCP",
            "use pen-ctl on the balancer itself",
        ),
    ]
}

fn over_tcp(stage: &Stage) -> Vec<Row> {
    let get = "GET /v1/status HTTP/1.1";
    vec![
        stage.over_tcp(
            "GET /v1/clients HTTP/1.1\r\nHost: localhost",
            "is not shown over TCP",
            "clients' addresses",
            "use pen-ctl, or the Unix socket, on the balancer itself",
        ),
        stage.over_tcp(
            "POST /v1/stop HTTP/1.1\r\nHost: localhost",
            "cannot be asked over TCP",
            "POST",
            "use pen-ctl, or the Unix socket, on the balancer itself",
        ),
        stage.over_tcp(get, "does not name one Host", "the request", "send one Host header"),
        stage.over_tcp(
            &format!("{get}\r\nHost: odd.example"),
            "is not this machine",
            "Host odd.example",
            "ask by IP address, as localhost",
        ),
        stage.over_tcp(
            &format!("{get}\r\nHost: localhost\r\nOrigin: http://page.example"),
            "may not ask here",
            "pages of http://page.example",
            "open pen's own address in the browser",
        ),
    ]
}

/// What takes many clients, slow ones or much time: `server/tests/abuse.rs` brings these about.
fn too_much(stage: &Stage) -> Vec<Row> {
    let long = " ".repeat((16 << 20) + 1);
    vec![
        stage.asked(
            "POST /v1/services",
            &long,
            "is 16.1 MiB long and a controller takes 16 MiB",
            "the request to /v1/services",
            "give shorter lists",
        ),
        // Whoever does not count before.
        copied(
            "the body is longer than 16777216 bytes; send less",
            "the body is longer than",
            "16777216 bytes",
            "send less",
        ),
        copied(
            "the body did not come within 30s; send it faster",
            "did not come within 30s",
            "the body",
            "send it faster",
        ),
        copied("too many large requests at a time; try again", "too many", "large requests", "try again"),
        copied(
            "the body cannot be read: error reading a body from connection; send it again",
            "cannot be read",
            "the body",
            "send it again",
        ),
        copied(
            "no answer within 50s; what was asked may still be done: look with `pen-ctl status`",
            "no answer within 50s",
            "what was asked",
            "look with `pen-ctl status`",
        ),
        copied(
            "there are too many connections; close some, then try again",
            "too many",
            "connections",
            "close some, then try again",
        ),
        copied(
            "you have too many connections; close some, then try again",
            "too many",
            "you",
            "close some, then try again",
        ),
        copied(
            "the body is not UTF-8 text; send a configuration file (TOML)",
            "is not UTF-8 text",
            "the body",
            "send a configuration file (TOML)",
        ),
    ]
}
