//! What a scraper is answered.

use super::*;

/// A real controller on a data plane in memory.
async fn start() -> (PathBuf, BoundSocket, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pen.sock");
    let (bound, listener) = BoundSocket::bind(&socket).unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    let clock = Box::new(SystemClock::start());
    let plane = Box::new(FakePlane::default());
    let controller = Controller::new(store, plane, Box::new(Nowhere), clock, Options::default());
    let (handle, calls) = ControllerHandle::to(&controller);
    let (events, heard) = mpsc::channel(1);
    events.send(Event::Links(Links::new())).await.unwrap();
    tokio::spawn(controller::serve(controller, calls, heard));
    tokio::spawn(serve(listener, Door::default(), handle, std::future::pending()));
    (socket, bound, dir)
}

async fn scrape(socket: &Path, accept: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: pen\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn a_scraper_gets_the_format_it_asks_for() {
    let (socket, _bound, _dir) = start().await;
    // What Prometheus sends.
    let (head, body) = scrape(
        &socket,
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    )
    .await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.trim_end().ends_with("# EOF"), "{body}");
    let (head, body) = scrape(&socket, "*/*").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.contains("\npen_build_info{version="), "{body}");
}

#[tokio::test]
async fn requests_are_counted_by_how_they_were_answered() {
    let (socket, _bound, _dir) = start().await;
    for (path, status) in [("/v1/services", 200), ("/v1/services", 200), ("/v1/nonsense", 404)] {
        assert_eq!(http(&socket, "GET", path, "").await.0, status);
    }
    let (_, body) = scrape(&socket, "*/*").await;
    for line in ["pen_api_requests_total{code=\"200\"} 2\n", "pen_api_requests_total{code=\"404\"} 1\n"] {
        assert!(body.contains(line), "{line} is missing: {body}");
    }
}
