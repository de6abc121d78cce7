//! Questions about clients over the socket: what may be asked, and that nobody else waits for the answer.

use tokio::sync::mpsc::UnboundedSender;

use super::*;
use crate::api::document::clients::{ClientList, ClientShow, ForgetDocument};
use crate::api::event::Filter;
use crate::dataplane::clients::{Clients, Fate, Remembered, Standing};
use crate::dataplane::{BackendAddress, DataPlaneError, ServiceKey, TrackingUse};
use crate::journal::{Journal, News};
use crate::state::desired::{Backend, Service};
use crate::tracked::View;

fn remembered(n: u8) -> Remembered {
    Remembered {
        client: [192, 0, 2, n].into(),
        flow: None,
        service: Some("10.0.0.100:80/tcp".parse().unwrap()),
        backend: Some([10, 0, 0, 11].into()),
        idle: n.into(),
        standing: Standing::Counts,
    }
}

/// Serves with a controller that knows service `web` and hands out these clients; gives its socket.
fn serve_clients<C: Clients + Clone + 'static>(
    dir: &tempfile::TempDir,
    clients: C,
    limits: Limits,
) -> PathBuf {
    serve_and_note(dir, clients, limits).0
}

/// The same; gives the journal, too.
fn serve_and_note<C: Clients + Clone + 'static>(
    dir: &tempfile::TempDir,
    clients: C,
    limits: Limits,
) -> (PathBuf, Journal) {
    let socket = dir.path().join("pen.sock");
    let (bound, listener) = BoundSocket::bind(&socket).unwrap();
    let (handle, mut calls) = ControllerHandle::new();
    let journal = handle.journal().clone();
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let mut web = Service::new("web".into(), "10.0.0.100:80/tcp".parse().unwrap());
            web.backends.push(Backend::new([10, 0, 0, 11].into()));
            let reply = match call.asked.request {
                Request::Clients => Reply::Clients(View::new(Box::new(clients.clone()), &[web], 0)),
                _ => Reply::Services(ServiceList { services: Vec::new() }),
            };
            let _ = call.answer.send(Ok(Answered { reply, revision: revision() }));
        }
    });
    tokio::spawn(async move {
        let _bound = bound;
        serve_within(listener, Door::default(), handle, std::future::pending(), (limits, limits)).await;
    });
    (socket, journal)
}

#[tokio::test]
async fn clients_are_listed_shown_and_forgotten() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), FakePlane::default());
    plane.lock().remembered = (1..=200).map(remembered).collect();
    let socket = serve_clients(&dir, plane.clone(), Limits::LOCAL);
    let list = async |query: &str| {
        let (status, _, answer) = http(&socket, "GET", &format!("/v1/clients{query}"), "").await;
        assert_eq!(status, 200, "{query}: {answer}");
        let list: ClientList = serde_json::from_str(&answer).unwrap();
        (list.clients.len(), list.total)
    };
    assert_eq!(list("").await, (100, 200));
    assert_eq!(list("?limit=150&sort=idle&all=true&service=web&backend=10.0.0.11").await, (150, 200));
    assert_eq!(list("?source=192.0.2.0/25&limit=0").await, (0, 127));
    assert_eq!(list("?source=192.0.2.7").await, (1, 1));

    let (_, _, answer) = http(&socket, "GET", "/v1/clients/192.0.2.7", "").await;
    let shown: ClientShow = serde_json::from_str(&answer).unwrap();
    assert_eq!((shown.total, shown.services.len()), (1, 1));

    let (_, _, answer) = http(&socket, "DELETE", "/v1/clients?source=192.0.2.128/25", "").await;
    assert_eq!(answer, r#"{"forgotten":73,"stale":0,"goes_on":false}"#);
    let (_, _, answer) = http(&socket, "DELETE", "/v1/clients?all=true", "").await;
    assert_eq!(serde_json::from_str::<ForgetDocument>(&answer).unwrap().forgotten, 127);
    assert!(plane.lock().remembered.is_empty());
}

#[tokio::test]
async fn odd_questions_are_refused_and_forget_nobody() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), FakePlane::default());
    plane.lock().remembered = vec![remembered(1)];
    let socket = serve_clients(&dir, plane.clone(), Limits::LOCAL);
    for (method, path, status, word) in [
        ("GET", "/v1/clients?limit=100001", 400, "100000"),
        ("GET", "/v1/clients?limit=-1", 400, "limit"),
        ("GET", "/v1/clients?source=nowhere", 400, "neither an address nor a prefix"),
        ("GET", "/v1/clients?source=192.0.2.0/33", 400, "neither an address nor a prefix"),
        ("GET", "/v1/clients?backend=web", 400, "backend"),
        ("GET", "/v1/clients?sort=size", 400, "size"),
        ("GET", "/v1/clients?colour=red", 400, "colour"),
        ("GET", "/v1/clients?service=wbe", 404, "there is no service wbe"),
        ("GET", "/v1/clients?backend=10.0.0.12", 404, "no service has a backend 10.0.0.12"),
        ("GET", "/v1/clients/web", 400, "not an IP address"),
        ("DELETE", "/v1/clients", 400, "nobody is named"),
        ("DELETE", "/v1/clients?all=false", 400, "nobody is named"),
        ("DELETE", "/v1/clients?all=true&service=web", 400, "nothing else"),
        ("DELETE", "/v1/clients?service=web&backend=10.0.0.12", 404, "has no backend"),
    ] {
        let (found, _, answer) = http(&socket, method, path, "").await;
        let error = error_of(&answer);
        assert_eq!(found, status, "{method} {path}: {error}");
        assert!(error.to_string().contains(word), "{method} {path}: {error}");
        assert!(!error.hint.is_empty() || status == 404, "{method} {path}: {error:?}");
    }
    assert_eq!(plane.lock().remembered.len(), 1);
}

/// Clients without end: the reading goes on until it is told to stop, and says when it began and ended.
#[derive(Clone)]
struct Endless(UnboundedSender<&'static str>);

impl Clients for Endless {
    fn read(&self, visit: &mut dyn FnMut(&Remembered) -> Fate) -> Result<u64, DataPlaneError> {
        self.0.send("began").unwrap();
        while visit(&remembered(1)) != Fate::Stop {
            std::thread::yield_now();
        }
        self.0.send("ended").unwrap();
        Ok(0)
    }

    fn occupancy(&self) -> Result<TrackingUse, DataPlaneError> {
        Ok(TrackingUse::default())
    }

    fn newcomer(&self, _: &ServiceKey, _: IpAddr) -> Result<Option<BackendAddress>, DataPlaneError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_reading_keeps_nobody_waiting_and_ends_with_the_request_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let (news, mut heard) = mpsc::unbounded_channel();
    let limits = Limits { answer_time: std::time::Duration::from_secs(1), ..Limits::LOCAL };
    let socket = serve_clients(&dir, Endless(news), limits);
    let asker = tokio::spawn({
        let socket = socket.clone();
        async move { http(&socket, "GET", "/v1/clients", "").await }
    });
    assert_eq!(heard.recv().await, Some("began"));
    assert_eq!(http(&socket, "GET", "/v1/services", "").await.0, 200);
    assert!(heard.try_recv().is_err(), "it should still be reading");
    let (status, ..) = asker.await.unwrap();
    assert_eq!(status, 503);
    assert_eq!(heard.recv().await, Some("ended"));
}

#[tokio::test]
async fn a_reading_ends_when_whoever_asked_is_gone_but_not_when_they_only_said_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (news, mut heard) = mpsc::unbounded_channel();
    // Nothing but the hang-up ends it.
    let limits = Limits { answer_time: std::time::Duration::from_secs(3600), ..Limits::LOCAL };
    let socket = serve_clients(&dir, Endless(news), limits);
    let mut asker = UnixStream::connect(&socket).await.unwrap();
    asker.write_all(b"GET /v1/clients HTTP/1.1\r\nHost: pen\r\n\r\n").await.unwrap();
    asker.shutdown().await.unwrap();
    assert_eq!(heard.recv().await, Some("began"));
    // As long as others are answered, it still reads.
    assert_eq!(http(&socket, "GET", "/v1/services", "").await.0, 200);
    assert!(heard.try_recv().is_err(), "it should still be reading");
    drop(asker);
    assert_eq!(heard.recv().await, Some("ended"));
}

/// Clients that are forgotten one by one, each when the test says so.
#[derive(Clone)]
struct Gradual(Arc<Mutex<std::sync::mpsc::Receiver<()>>>);

impl Clients for Gradual {
    fn read(&self, visit: &mut dyn FnMut(&Remembered) -> Fate) -> Result<u64, DataPlaneError> {
        let more = self.0.lock().unwrap();
        let mut forgotten = 0;
        while more.recv().is_ok() {
            assert_eq!(visit(&remembered(1)), Fate::Forget);
            forgotten += 1;
        }
        Ok(forgotten)
    }

    fn occupancy(&self) -> Result<TrackingUse, DataPlaneError> {
        Ok(TrackingUse::default())
    }

    fn newcomer(&self, _: &ServiceKey, _: IpAddr) -> Result<Option<BackendAddress>, DataPlaneError> {
        Ok(None)
    }
}

#[tokio::test]
async fn forgetting_that_takes_too_long_is_told_so_far_and_finished_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (more, forget) = std::sync::mpsc::channel();
    more.send(()).unwrap();
    let limits = Limits { answer_time: std::time::Duration::from_secs(1), ..Limits::LOCAL };
    let (socket, journal) = serve_and_note(&dir, Gradual(Arc::new(Mutex::new(forget))), limits);
    let (status, _, answer) = http(&socket, "DELETE", "/v1/clients?all=true", "").await;
    assert_eq!((status, answer.as_str()), (202, r#"{"forgotten":1,"stale":0,"goes_on":true}"#));
    let mut follower = journal.follow(Filter::default(), None, 10);
    assert_eq!(follower.position().id, 0, "it is not done yet");
    more.send(()).unwrap();
    drop(more);
    let News::Event(done) = follower.next().await else { panic!("there is one") };
    assert_eq!(done.message, "clients forgotten: 2");
}
