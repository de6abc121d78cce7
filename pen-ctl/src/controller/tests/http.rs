//! The address where everybody may look: follows the file, refuses what cannot be had, and obeys the flag first.

use std::net::SocketAddr;

use super::*;
use crate::api::configuration::How;
use crate::server::tcp::Door;

/// An address of this machine that nobody has: it was had a moment ago.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn file(http: Option<SocketAddr>) -> Request {
    let text = http.map(|http| format!("http = '{http}'\n")).unwrap_or_default();
    Request::Apply { file: "pen.toml".into(), text, how: How::default() }
}

fn started(http: Option<SocketAddr>) -> (Bench, Door) {
    let door = Door::default();
    let mut bench = Bench::new();
    bench.start(Options { door: door.clone(), http, ..Options::default() });
    bench.hear([Event::Links(links())]);
    (bench, door)
}

#[tokio::test]
async fn a_file_opens_moves_and_closes_it() {
    let (mut bench, door) = started(None);
    assert_eq!(bench.status().controller.http, None);
    for http in [Some(free()), Some(free()), None] {
        bench.done(file(http));
        assert_eq!(door.address(), http);
        assert_eq!(bench.status().controller.http, http);
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_had_refuses_the_file() {
    let (mut bench, door) = started(None);
    let first = free();
    bench.done(file(Some(first)));
    let state = bench.state();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (wanted, word) in [
        (other.local_addr().unwrap(), "somebody else listens there"),
        ("192.0.2.77:9080".parse().unwrap(), "this machine does not have that address"),
    ] {
        let error = bench.ask(file(Some(wanted))).unwrap_err();
        assert_eq!(error.code, ErrorCode::Refused);
        for word in [word, &wanted.to_string()] {
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!((bench.state(), door.address()), (state.clone(), Some(first)));
    }
}

#[tokio::test]
async fn the_flag_beats_the_file_and_that_is_said() {
    let flag = free();
    let (mut bench, door) = started(Some(flag));
    assert_eq!(door.address(), Some(flag));
    let stored = free();
    bench.done(file(Some(stored)));
    assert_eq!(door.address(), Some(flag));
    let warnings = bench.status().warnings;
    let says = |warning: &String| warning.contains(&stored.to_string()) && warning.contains("--http");
    assert!(warnings.iter().any(says), "{warnings:?}");
}
