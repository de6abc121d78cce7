//! The API over TCP: everybody may look, nobody changes anything, and no foreign page looks for its owner.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use super::*;

const ANY: &str = "127.0.0.1:0";

/// Opens the door anywhere; where.
fn open(server: &Server) -> SocketAddr {
    server.door.open(Some(ANY.parse().unwrap())).unwrap();
    server.door.address().unwrap()
}

/// Asks with this head; the status, the headers and the body.
async fn ask(address: SocketAddr, head: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn over_tcp_everybody_may_look_and_nobody_may_change_anything() {
    let server = Server::start();
    let address = open(&server);
    let (status, head, body) =
        ask(address, &format!("GET /v1/services HTTP/1.1\r\nHost: {address}\r\n")).await;
    assert_eq!((status, body.as_str()), (200, r#"{"services":[]}"#));
    assert!(head.contains(&format!("pen-version: {}", env!("CARGO_PKG_VERSION"))), "{head}");
    let (status, _, body) = ask(address, &format!("HEAD /v1/services HTTP/1.1\r\nHost: {address}\r\n")).await;
    assert_eq!((status, body.as_str()), (200, ""));
    server.asked();
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        for path in ["/v1/services", "/v1/stop", "/nothing"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
            let (status, head, body) = ask(address, &request).await;
            assert_eq!((status, error_of(&body).code), (405, ErrorCode::Denied), "{method} {path}: {body}");
            assert!(head.contains("allow: GET, HEAD"), "{head}");
        }
    }
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn what_is_not_for_everybody_is_not_shown_over_tcp() {
    let server = Server::start();
    let address = open(&server);
    let get = async |path: &str| ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n")).await;
    let inside = async |path: &str| http(&server.socket, "GET", path, "").await;
    for path in [
        "/v1/clients",
        "/v1/clients?limit=0",
        "/v1/clients/192.0.2.7",
        "/v1/config",
        "/v1/history",
        "/v1/history/1",
    ] {
        let (status, _, body) = get(path).await;
        assert_eq!((status, error_of(&body).code), (403, ErrorCode::Denied), "{path}: {body}");
        assert!(error_of(&body).hint.contains("on the balancer itself"), "{body}");
        assert_eq!(server.asked(), [], "{path}");
        assert_ne!(inside(path).await.0, 403, "{path}");
        server.asked();
    }
    for path in ["/v1/status", "/"] {
        let (status, _, body) = get(path).await;
        assert_eq!(status, 200, "{path}");
        assert!(!body.contains("seed") && !body.contains("c0ffee"), "{path}: {body}");
    }
    assert!(inside("/v1/status").await.2.contains(r#""seed":"00000000c0ffee00""#));
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let server = Server::start();
    let address = open(&server);
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = |host: &str| format!("GET /v1/services HTTP/1.1\r\nHost: {host}\r\n");
    for good in [
        host("127.0.0.1"),
        host(&address.to_string()),
        host("[::1]:9080"),
        host("192.0.2.1"),
        host("localhost"),
        host("LOCALHOST:9080"),
        host(&own),
        "GET /v1/services HTTP/1.0\r\n".to_owned(),
        format!("GET http://{address}/v1/services HTTP/1.1\r\nHost: {address}\r\n"),
        format!("{}Origin: http://{address}\r\n", host(&address.to_string())),
    ] {
        assert_eq!(ask(address, &good).await.0, 200, "{good}");
    }
    server.asked();
    for bad in [
        host("rebound.example"),
        host("127.0.0.1.rebound.example:9080"),
        host("localhost.rebound.example"),
        host("127.0.0.1@rebound.example"),
        host("rebound.example@127.0.0.1"),
        host("127.1"),
        host(""),
        format!("GET http://rebound.example/v1/services HTTP/1.1\r\nHost: {address}\r\n"),
        format!("{}Origin: http://page.example\r\n", host("127.0.0.1")),
        format!("{}Origin: http://127.0.0.1:1\r\n", host(&address.to_string())),
        format!("{}Origin: https://{address}\r\n", host(&address.to_string())),
        format!("{}Origin: null\r\n", host("127.0.0.1")),
        "GET /v1/services HTTP/1.0\r\nOrigin: http://page.example\r\n".to_owned(),
    ] {
        let (status, _, body) = ask(address, &bad).await;
        assert_eq!((status, error_of(&body).code), (403, ErrorCode::Denied), "{bad}: {body}");
    }
    for bad in ["GET / HTTP/1.1\r\n".to_owned(), format!("{}Host: localhost\r\n", host("localhost"))] {
        assert_eq!(ask(address, &bad).await.0, 400, "{bad}");
    }
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn the_door_moves_closes_and_stays_where_it_is_if_it_cannot() {
    let server = Server::start();
    let first = open(&server);
    let look = "GET /v1/services HTTP/1.1\r\nHost: localhost\r\n";
    // The same port on every address: the old one does not stand in the way of the new one.
    let everywhere = SocketAddr::from(([0, 0, 0, 0], first.port()));
    server.door.open(Some(everywhere)).unwrap();
    assert_eq!(server.door.address(), Some(everywhere));
    assert_eq!(ask(first, look).await.0, 200);

    // In use, or not ours: it stays.
    let other = TcpListener::bind(ANY).await.unwrap();
    let taken = other.local_addr().unwrap();
    let error = server.door.open(Some(taken)).unwrap_err();
    assert!(error.in_use && error.to_string().contains(&format!("sport = :{}", taken.port())), "{error}");
    let error = server.door.open(Some("192.0.2.77:9080".parse().unwrap())).unwrap_err();
    assert!(!error.in_use && error.to_string().contains("ip address"), "{error}");
    assert_eq!(server.door.address(), Some(everywhere));
    assert_eq!(ask(first, look).await.0, 200);

    // Closed: who came in is shown out, and nobody else comes in.
    let mut inside = TcpStream::connect(first).await.unwrap();
    inside.write_all(format!("{look}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    inside.read_exact(&mut answer).await.unwrap();
    server.door.open(None).unwrap();
    assert_eq!(server.door.address(), None);
    let _ = inside.read_to_end(&mut Vec::new()).await;
    assert!(TcpStream::connect(first).await.is_err());
    // The socket has nothing to do with it.
    assert_eq!(http(&server.socket, "GET", "/v1/services", "").await.0, 200);
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let server = Server::within(Limits::LOCAL, Limits { per_caller: 3, ..Limits::NETWORK });
    let address = open(&server);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let mut fourth = TcpStream::connect(address).await.unwrap();
    let mut answer = String::new();
    fourth.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("you have too many"), "{answer}");
    drop(held);
    while ask(address, "GET /v1/services HTTP/1.1\r\nHost: localhost\r\n").await.0 != 200 {
        tokio::task::yield_now().await;
    }
}
